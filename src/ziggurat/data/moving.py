"""Videos of one drawn object that moves across a frame: its class can be seen in one frame, its direction only in several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from ziggurat.data.datasets import Images, Index, as_index
from ziggurat.data.seeds import generator

DIRECTIONS = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}
"""Rows and columns of one step."""


@dataclass(frozen=True)
class Clips:
    """Videos of one size and length with one class each.

    Arguments:
        videos: (N, C, T, H, W) uint8.
        labels: (N,) int64.
        classes: names of the classes.
    """

    videos: UInt8[Tensor, "N C T H W"]
    labels: Int64[Tensor, " N"]
    classes: tuple[str, ...]
    name: str
    notes: tuple[str, ...] = ()
    kind: str = "video"
    task: str = "classification"

    def __len__(self) -> int:
        return len(self.videos)

    def inputs(self, index: Index) -> Float[Tensor, "B C T H W"]:
        """Videos as floats in [0, 1]."""
        return self.videos[as_index(index, len(self))].float() / 255

    def subset(self, index: Index, name: str | None = None) -> Clips:
        """The named rows as a data set of their own, with the same classes."""
        rows = as_index(index, len(self))
        return replace(self, videos=self.videos[rows], labels=self.labels[rows], name=name or self.name)

    def sampled(self, frames: int, every: float, size: int) -> Clips:
        """Each video as a clip of `frames` frames around its middle, `every` frames apart, at `size` pixels.

        Frames are the nearest ones; a clip longer than the video repeats its first and last frames.
        """
        n, c, t = self.videos.shape[:3]
        times = (t - 1) / 2 + every * (torch.arange(frames) - (frames - 1) / 2)
        videos = self.videos[:, :, times.round().long().clamp(0, t - 1)]
        if size != videos.shape[-1]:
            flat = interpolate(videos.flatten(0, 2)[:, None].float(), (size, size), mode="bilinear", antialias=True)
            videos = flat.round().to(torch.uint8).view(n, c, frames, size, size)
        return replace(self, videos=videos)

    def describe(self) -> str:
        """One line: videos, size, classes."""
        n, _, t, h, w = self.videos.shape
        return "; ".join(
            [f"{self.name}: {n:,} videos of {t} frames of {h}x{w}, {len(self.classes)} classes", *self.notes]
        )


def moving(
    glyphs: Images,
    count: int,
    frames: int = 8,
    size: int = 32,
    directions: Sequence[str] = ("right", "left"),
    speed: tuple[float, float] = (1.0, 3.0),
    noise: float = 0.1,
    seed: int = 0,
    name: str = "moving",
) -> Clips:
    """`count` videos; the class is that of the object and of its direction together, all pairs equally often.

    The frame has no border: what leaves it on one side comes back on the other, so that no single frame tells the direction.

    Arguments:
        glyphs: grey images with labels, at most `size` pixels wide.
        frames, size: of the videos.
        directions: of `DIRECTIONS`.
        speed: least and most pixels a frame.
        noise: deviation of grey noise, new in every frame, in units of white.
        seed: of everything.
    """
    if unknown := [d for d in directions if d not in DIRECTIONS]:
        raise ValueError(f"directions are {', '.join(DIRECTIONS)}, got {unknown[0]!r}.")
    side = glyphs.images.shape[-1]
    if glyphs.images.shape[1] != 1 or side > size:
        raise ValueError(f"glyphs must be grey images of at most {size} pixels, got {tuple(glyphs.images.shape[1:])}.")
    g = generator(seed, "moving")
    present = glyphs.labels.unique()
    pair = torch.arange(count) % (len(present) * len(directions))
    which, way = pair % len(present), pair // len(present)
    canvas = torch.zeros(count, size, size)
    for number, label in enumerate(present.tolist()):
        rows, members = (which == number).nonzero().flatten(), (glyphs.labels == label).nonzero().flatten()
        drawn = members[torch.randint(len(members), (len(rows),), generator=g)]
        canvas[rows, :side, :side] = glyphs.images[drawn, 0].float() / 255
    step = torch.tensor([DIRECTIONS[d] for d in directions])[way].float()
    pace = torch.empty(count).uniform_(*speed, generator=g)
    start = size * torch.rand(count, 2, generator=g)
    times = torch.arange(frames) - (frames - 1) / 2
    place = (start[:, None] + times[None, :, None] * (pace[:, None] * step)[:, None]).round().long()
    rows, columns = ((torch.arange(size) - place[..., axis, None]) % size for axis in (0, 1))
    videos = canvas[torch.arange(count)[:, None, None, None], rows[..., None], columns[:, :, None]]
    videos = (videos + noise * torch.randn(videos.shape, generator=g)).clamp(0, 1)
    classes = tuple(f"{glyphs.classes[label]} {d}" for d in directions for label in present.tolist())
    return Clips((255 * videos).to(torch.uint8)[:, None], pair, classes, name)

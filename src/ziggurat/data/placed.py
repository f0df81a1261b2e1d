"""Objects placed at will on photographs: scenes whose arrangement is the task, of any height and width; and batches of several sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ziggurat.data.datasets import Images
from ziggurat.data.feeds import Loader
from ziggurat.data.scenes import INK
from ziggurat.data.seeds import generator


def cut_photograph(
    photographs: Sequence[Tensor], height: int, width: int, rng: np.random.Generator
) -> UInt8[Tensor, "3 h w"]:
    """A random part of a random photograph among those that are large enough."""
    large = [p for p in photographs if p.shape[1] >= height and p.shape[2] >= width]
    if not large:
        raise ValueError(f"no photograph has {height}×{width} pixels; give larger ones or a smaller size.")
    photo = large[rng.integers(len(large))]
    top, left = (int(rng.integers(n - m + 1)) for n, m in zip(photo.shape[1:], (height, width), strict=True))
    return photo[:, top : top + height, left : left + width].clone()


def place(
    scene: UInt8[Tensor, "3 h w"],
    glyph: UInt8[Tensor, "g g"],
    edge: int,
    top: int,
    left: int,
    rng: np.random.Generator,
) -> UInt8[Tensor, "3 h w"]:
    """The scene with a glyph (bright on black) at a place, `edge` pixels wide and in a random tint."""
    drawn = np.asarray(Image.fromarray(glyph.numpy()).resize((edge, edge), Image.Resampling.BILINEAR))
    tinted = torch.from_numpy(drawn[None] * rng.uniform(0.55, 1.0, size=(3, 1, 1))).byte()
    height, width = scene.shape[1:]
    around = (left, width - left - edge, top, height - top - edge)
    return torch.where(pad(torch.from_numpy(drawn > INK), around), pad(tinted, around), scene)


def one_object(
    glyphs: Images,
    photographs: Sequence[Tensor],
    size: tuple[int, int],
    count: int,
    edges: tuple[int, int] = (20, 28),
    seed: int = 0,
) -> Images:
    """Scenes of a height and width with one undistorted object anywhere; the class is the object's.

    Arguments:
        edges: least and most side of the object's square in pixels.
    """
    rng, chosen, scenes = np.random.default_rng(seed), [], []
    for _ in range(count):
        chosen.append(int(rng.integers(len(glyphs))))
        edge = int(rng.integers(edges[0], edges[1] + 1))
        scene = cut_photograph(photographs, *size, rng)
        top, left = (int(rng.integers(n - edge + 1)) for n in size)
        scenes.append(place(scene, glyphs.images[chosen[-1], 0], edge, top, left, rng))
    return Images(torch.stack(scenes), glyphs.labels[chosen], glyphs.classes, "scenes of {}×{}".format(*size))


def warped(data: Images, side: int) -> Images:
    """The images stretched or squeezed to squares."""
    pixels = interpolate(data.images.float(), (side, side), mode="bilinear", antialias=True).round().byte()
    return Images(pixels, data.labels, data.classes, data.name)


def centred(data: Images, side: int) -> Images:
    """The middle square of the images; where they are smaller, zeros around them."""
    before = [(n - side) // 2 for n in data.images.shape[2:]]
    after = [n - side - b for n, b in zip(data.images.shape[2:], before, strict=True)]
    pixels = pad(data.images, (-before[1], -after[1], -before[0], -after[0]))
    return Images(pixels, data.labels, data.classes, data.name)


class MixedSizes:
    """Batches of several loaders in an order that is a function of (seed, epoch), so that each batch has one size.

    Arguments:
        loaders: one for the images of each size.
    """

    def __init__(self, loaders: Sequence[Loader], seed: int = 0) -> None:
        self.loaders, self.seed, self.epoch = loaders, seed, 0

    @property
    def sampler(self) -> MixedSizes:
        """Itself: Lightning tells `loader.sampler.set_epoch` the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Called by the loop before each epoch."""
        self.epoch = epoch
        for loader in self.loaders:
            loader.set_epoch(epoch)

    def __len__(self) -> int:
        return sum(map(len, self.loaders))

    def __iter__(self) -> Iterator[Any]:
        which = torch.cat([torch.full((len(loader),), i) for i, loader in enumerate(self.loaders)])
        sources = [iter(loader) for loader in self.loaders]
        for i in which[torch.randperm(len(which), generator=generator(self.seed, "mix", self.epoch))].tolist():
            yield next(sources[i])

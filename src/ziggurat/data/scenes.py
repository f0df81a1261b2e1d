"""Scenes: drawn objects pasted on photographs, so that the box, the mask and the class of each are known exactly.

Both parts are arguments: glyphs (images with a class, bright on black, such as Fashion-MNIST) and photographs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from PIL import Image
from torch import Tensor

from ziggurat.data.boxes import mask_boxes
from ziggurat.data.datasets import Boxes, Images

INK = 32
"""A glyph's pixels above this grey belong to the object."""


def scenes(
    glyphs: Images,
    photographs: Sequence[Tensor],
    count: int,
    size: int = 96,
    objects: tuple[int, int] = (2, 6),
    side: tuple[int, int] = (8, 64),
    visible: float = 0.35,
    seed: int = 0,
    name: str = "scenes",
) -> Boxes:
    """`count` square photo crops with objects on them, later ones in front of earlier ones.

    Arguments:
        glyphs: grey images with labels; each object is one of them, tinted and scaled.
        photographs: uint8 (3, H, W), at least `size` pixels each way.
        size: side of the scenes in pixels.
        objects: least and most objects in a scene.
        side: least and most side of an object's square in pixels, drawn log-uniformly.
        visible: share of an object's own pixels that must stay visible; a draw that would hide more is left out.
        seed: of everything.

    Returns `Boxes` with `boxes` (tight around the visible pixels), `labels`, `masks` (visible pixels). A scene has at least one
    object.
    """
    if not 1 <= objects[0] <= objects[1] or not 2 <= side[0] <= side[1] <= size:
        raise ValueError(
            f"objects must be 1 or more and sides between 2 and the size {size}, got {objects} and {side}."
        )
    if glyphs.images.shape[1] != 1:
        raise ValueError(f"glyphs must be grey images (N, 1, h, w), got {tuple(glyphs.images.shape)}.")
    large = [p for p in photographs if min(p.shape[1:]) >= size]
    if not large:
        raise ValueError(f"no photograph has {size} pixels each way; give larger ones or a smaller size.")
    rng = np.random.default_rng(seed)
    images, targets = [], []
    for _ in range(count):
        canvas = _crop(large[rng.integers(len(large))].numpy(), size, rng)
        labels, masks = _paste(canvas, glyphs, int(rng.integers(objects[0], objects[1] + 1)), side, visible, rng)
        images.append(torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1))))
        targets.append({"boxes": mask_boxes(masks), "labels": labels, "masks": masks})
    return Boxes(tuple(images), tuple(targets), glyphs.classes, name)


def _crop(photo: UInt8[np.ndarray, "3 h w"], size: int, rng: np.random.Generator) -> UInt8[np.ndarray, "size size 3"]:
    """A random square of a photograph, turned over half of the time."""
    top, left = (int(rng.integers(n - size + 1)) for n in photo.shape[1:])
    part = photo[:, top : top + size, left : left + size].transpose(1, 2, 0)
    return (part[:, ::-1] if rng.random() < 0.5 else part).copy()


def _paste(
    canvas: UInt8[np.ndarray, "S S 3"],
    glyphs: Images,
    wanted: int,
    side: tuple[int, int],
    visible: float,
    rng: np.random.Generator,
) -> tuple[Int64[Tensor, " n"], Bool[Tensor, "n S S"]]:
    """Draws objects on the canvas; one that would hide an earlier one, or has no ink, is drawn again elsewhere, thirty times at most."""
    size = len(canvas)
    labels: list[int] = []
    masks: list[np.ndarray] = []
    areas: list[int] = []
    for _ in range(30 * wanted):
        if len(labels) == wanted:
            break
        edge = round(float(np.exp(rng.uniform(*np.log(side)))))
        which = int(rng.integers(len(glyphs)))
        top, left = (int(v) for v in rng.integers(size - edge + 1, size=2))
        glyph = np.asarray(
            Image.fromarray(glyphs.images[which, 0].numpy()).resize((edge, edge), Image.Resampling.BILINEAR)
        )
        ink = glyph > INK
        mask = np.zeros((size, size), bool)
        mask[top : top + edge, left : left + edge] = ink
        left_over = [(m & ~mask).sum() for m in masks]
        if ink.sum() < 4 or any(now < visible * was for now, was in zip(left_over, areas, strict=True)):
            continue
        tint = rng.uniform(0.55, 1.0, size=3)
        window = canvas[top : top + edge, left : left + edge]
        window[ink] = (glyph[ink][:, None] * tint).astype(np.uint8)
        masks = [m & ~mask for m in masks] + [mask]
        areas.append(int(ink.sum()))
        labels.append(int(glyphs.labels[which]))
    return torch.tensor(labels, dtype=torch.int64), torch.from_numpy(np.stack(masks))

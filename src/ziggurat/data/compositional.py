"""Images whose classes are made of parts: an object in a colour on a texture, so that every class has a signature of attributes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64

from ziggurat.data.datasets import Images
from ziggurat.data.seeds import derive

COLOURS = {
    "red": (230, 40, 40),
    "green": (40, 190, 60),
    "blue": (50, 80, 230),
    "yellow": (235, 215, 50),
    "violet": (170, 60, 200),
}
TEXTURES = ("stripes", "checks")
SIDE, PERIOD, DARK, LIGHT = 32, 8, 70, 130


class Compositional(NamedTuple):
    """The images, labelled 0 … K − 1, and the attributes (K, a) of each class: its object, its colour, its texture, as zeros and ones."""

    images: Images
    attributes: Int64[np.ndarray, "K a"]


def signatures(objects: int) -> Int64[np.ndarray, "K a"]:
    """All combinations in the order of the classes: the texture changes fastest, then the colour."""
    parts = (objects, len(COLOURS), len(TEXTURES))
    which = np.indices(parts).reshape(3, -1)
    return np.concatenate([np.eye(n, dtype=np.int64)[w] for n, w in zip(parts, which)], 1)


def _backgrounds(texture: Int64[np.ndarray, " n"], rng: np.random.Generator) -> Float[np.ndarray, "n 1 H W"]:
    """Grey stripes or checks, shifted by chance."""
    x, y = (rng.integers(0, PERIOD, (2, len(texture), 1)) + np.arange(SIDE)) // (PERIOD // 2) % 2
    stripes = np.broadcast_to(x[:, None, :], (len(texture), SIDE, SIDE))
    checks = (x[:, None, :] + y[:, :, None]) % 2
    light = np.where(texture[:, None, None] == 0, stripes, checks)
    return (DARK + (LIGHT - DARK) * light)[:, None].astype(np.float64)


def compositional(objects: Images, per_class: int, seed: int = 0) -> Compositional:
    """`per_class` images (3, 32, 32) of every combination of an object, a colour and a texture.

    Arguments:
        objects: grey images of at most 32 × 32, light on black, such as Fashion-MNIST; each is used once at most.
    """
    if objects.images.shape[1] != 1 or max(objects.images.shape[2:]) > SIDE:
        raise ValueError(f"objects must be grey and of at most {SIDE} pixels, got {tuple(objects.images.shape[1:])}.")
    rng = np.random.default_rng(derive(seed, "compositional"))
    kinds, combinations = len(objects.classes), len(COLOURS) * len(TEXTURES)
    rows = []
    for kind in range(kinds):
        own = np.flatnonzero(objects.labels.numpy() == kind)
        if len(own) < per_class * combinations:
            raise ValueError(f"{objects.classes[kind]!r} has {len(own)} images, {per_class * combinations} are needed.")
        rows.append(rng.permutation(own)[: per_class * combinations])
    labels = np.repeat(np.arange(kinds * combinations), per_class)
    colour, texture = labels // len(TEXTURES) % len(COLOURS), labels % len(TEXTURES)
    light = objects.images[np.concatenate(rows)].double().numpy() / 255
    low = [(SIDE - n) // 2 for n in light.shape[2:]]
    edges = [(b, SIDE - n - b) for b, n in zip(low, light.shape[2:])]
    light = np.pad(light, ((0, 0), (0, 0), *edges))
    paint = np.array(list(COLOURS.values()), dtype=np.float64)[colour][:, :, None, None]
    cover = np.minimum(1, 3 * light)  # dark parts of an object still hide what is behind it
    pixels = cover * paint * (0.35 + 0.65 * light) + (1 - cover) * _backgrounds(texture, rng)
    names = tuple(f"{c} {o} on {t}" for o in objects.classes for c in COLOURS for t in TEXTURES)
    images = Images(torch.from_numpy(pixels.round().astype(np.uint8)), torch.from_numpy(labels), names, "compositional")
    return Compositional(images, signatures(kinds))

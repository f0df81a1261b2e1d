"""Clouds of points on simple bodies, smooth or with a fine relief: the global shape alone does not tell the classes apart."""

from __future__ import annotations

import numpy as np
import torch

from ziggurat.data.datasets import Clouds

BODIES = ("ellipsoid", "box", "cylinder", "cone")


def relief_clouds(
    count: int,
    points: int = 512,
    relief: float = 0.05,
    wavelength: float = 0.3,
    gradient: float = 0.0,
    seed: int = 0,
    name: str = "relief",
) -> Clouds:
    """`count` clouds in the unit sphere, as many of each body, every second one ridged: eight classes.

    Arguments:
        relief: height of the ridges, as a share of the distance from the axis.
        wavelength: of the ridges along the axis.
        gradient: thins the cloud out along a random direction: a point at its far end is e^gradient times rarer than at its near one.

    Every body is scaled by 0.7 to 1.3 along each axis and turned about its own.
    """
    if count < 1 or points < 1:
        raise ValueError(f"count and points must be 1 or more, got {count} and {points}.")
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % (2 * len(BODIES))
    clouds = np.empty((count, points, 3), np.float32)
    for i, label in enumerate(labels):
        surface = _surface(BODIES[label // 2], points * (8 if gradient else 1), rng)
        if label % 2:
            swell = 1 + relief * np.sin(2 * np.pi * surface[:, 2] / wavelength + rng.uniform(0, 2 * np.pi))
            surface = surface * np.stack([swell, swell, np.ones_like(swell)], 1)
        surface = surface * rng.uniform(0.7, 1.3, size=3)
        turn = rng.uniform(0, 2 * np.pi)
        rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        surface = surface @ rotation.T
        if gradient:
            direction = rng.normal(size=3)
            along = surface @ (direction / np.linalg.norm(direction))
            share = np.exp(-gradient * (along - along.min()) / np.ptp(along))
            surface = surface[rng.choice(len(surface), points, replace=False, p=share / share.sum())]
        surface = surface - surface.mean(0)
        clouds[i] = surface / np.linalg.norm(surface, axis=1).max()
    classes = tuple(f"{body}, {kind}" for body in BODIES for kind in ("smooth", "ridged"))
    return Clouds(torch.from_numpy(clouds), torch.from_numpy(labels.astype(np.int64)), classes, name)


def _surface(body: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Points on a body of height 2 about the z axis."""
    angle, z = rng.uniform(0, 2 * np.pi, n), rng.uniform(-1, 1, n)
    if body == "ellipsoid":
        flat = np.sqrt(1 - z**2)
        return np.stack([flat * np.cos(angle), flat * np.sin(angle), z], 1)
    if body == "box":
        x = rng.uniform(-1, 1, (n, 3))
        side = rng.integers(3, size=n)
        x[np.arange(n), side] = rng.choice((-1.0, 1.0), size=n)
        return x
    # a round body: its mantle and its caps by area
    mantle = 2 / 3 if body == "cylinder" else np.sqrt(5) / (np.sqrt(5) + 1)
    on_mantle = rng.random(n) < mantle
    if body == "cylinder":
        radius = np.where(on_mantle, 1, np.sqrt(rng.random(n)))
        z = np.where(on_mantle, z, rng.choice((-1.0, 1.0), size=n))
    else:
        radius = np.sqrt(rng.random(n))
        z = np.where(on_mantle, 1 - 2 * radius, -1)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], 1)

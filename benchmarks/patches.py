"""Real vectors without end: random 12 × 12 patches of CIFAR-10 in 128 principal components."""

from __future__ import annotations

import numpy as np

from ziggurat.data.loading import load

PATCH, DIMENSION = 12, 128


class Patches:
    """Draws patches and the labels of their images."""

    def __init__(self) -> None:
        data = load("cifar10", "train")
        self.images, self.labels = data.images.numpy(), data.labels.numpy()
        some = self.pixels(np.random.default_rng(0), 5_000)[0]
        self.mean = some.mean(0)
        self.axes = np.linalg.svd(some - self.mean, full_matrices=False)[2][:DIMENSION].T

    def pixels(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        image = rng.integers(len(self.images), size=count)
        row, column = rng.integers(self.images.shape[2] - PATCH + 1, size=(2, count))
        windows = np.lib.stride_tricks.sliding_window_view(self.images, (PATCH, PATCH), (2, 3))
        return windows[image, :, row, column].reshape(count, -1).astype(np.float32) / 255, self.labels[image]

    def draw(self, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Vectors (count, DIMENSION) and labels (count,)."""
        x, labels = self.pixels(np.random.default_rng([7, seed]), count)
        return (x - self.mean) @ self.axes, labels

"""Augmentation of images on tensors, in batches, by kornia; and small preparations of labels and graphs.

Augmentation draws from torch's global generator, which the loader seeds for every batch.
"""

from __future__ import annotations

from typing import Any

import kornia.augmentation as K
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.data.seeds import generator


def simsiam_view(size: int, channels: int = 3, blur: bool = True) -> nn.Module:
    """One random view of images in [0, 1]: crop of scale (0.2, 1), flip, and for colour images jitter and grey; blur if wanted.

    Crop and flip are drawn for each image. X. Chen, K. He, 2020, arXiv:2011.10566, section 3.
    """
    steps: list[nn.Module] = [
        K.RandomResizedCrop((size, size), scale=(0.2, 1.0), cropping_mode="resample"),
        K.RandomHorizontalFlip(),
    ]
    if channels == 3:
        steps += [K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8), K.RandomGrayscale(p=0.2)]
    else:
        steps.append(BrightnessContrast(0.4, 0.8))
    if blur:
        kernel = max(3, size // 10 | 1)
        steps.append(K.RandomGaussianBlur((kernel, kernel), (0.1, 2.0), p=0.5))
    return nn.Sequential(*steps)


class BrightnessContrast(nn.Module):
    """Brightness and contrast jitter for any number of channels: x · b, then (x − mean) · c + mean, clipped to [0, 1].

    Arguments:
        strength: b and c are uniform in 1 ± strength, one draw an image.
        p: probability that an image is changed.
    """

    def __init__(self, strength: float, p: float) -> None:
        super().__init__()
        self.strength, self.p = strength, p

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        shape = (len(x), 1, 1, 1)
        active = torch.rand(shape) < self.p
        brightness, contrast = (1 + self.strength * (2 * torch.rand(shape) - 1) * active for _ in range(2))
        x = x * brightness
        mean = x.mean((1, 2, 3), keepdim=True)
        return ((x - mean) * contrast + mean).clamp(0, 1)

    def extra_repr(self) -> str:
        return f"strength={self.strength}, p={self.p}"


def standard_augment(size: int, pad: int = 4, flip: bool = True) -> nn.Module:
    """The usual augmentation of small images: a crop after padding by `pad` pixels, and a horizontal flip."""
    crop = K.RandomCrop((size, size), padding=pad, cropping_mode="slice")
    return nn.Sequential(crop, *([K.RandomHorizontalFlip()] if flip else []))


def row_normalize(graph: Any) -> Any:
    """A shallow copy of a graph whose feature rows sum to one (rows of zeros stay)."""
    copy = graph.clone()
    copy.x = graph.x / graph.x.sum(1, keepdim=True).clamp_min(1e-12)
    return copy


def label_noise(labels: Int64[Tensor, " N"], rate: float, classes: int, seed: int = 0) -> Int64[Tensor, " N"]:
    """Labels of which a random `rate` is replaced by another class, uniformly."""
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must be between 0 and 1, got {rate}.")
    g = generator(seed, "label noise")
    wrong = torch.randperm(len(labels), generator=g)[: round(rate * len(labels))]
    noisy = labels.clone()
    noisy[wrong] = (labels[wrong] + torch.randint(1, classes, (len(wrong),), generator=g)) % classes
    return noisy


def pad_to(images: Tensor, size: int) -> Tensor:
    """Images (…, H, W) with a border of zeros so that both sides are `size`; the odd pixel goes below and to the right."""
    height, width = images.shape[-2:]
    if height > size or width > size:
        raise ValueError(f"images of {height}×{width} do not fit into {size}×{size}; choose a larger size.")
    top, left = (size - height) // 2, (size - width) // 2
    return nn.functional.pad(images, (left, size - width - left, top, size - height - top))

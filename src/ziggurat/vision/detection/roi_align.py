"""RoIAlign: a map of fixed size for every box, by bilinear samples at exact places, without rounding."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4


def roi_align(
    features: Float[Tensor, "B C H W"],
    boxes: list[Tensor],
    size: int = 7,
    scale: float = 1.0,
    samples: int = 2,
) -> Float[Tensor, "R C size size"]:
    """Each box as a grid of size × size bins, each bin the mean of samples × samples bilinear reads.

    Arguments:
        boxes: for each image (r, 4) xyxy in pixels of the image; R is their total.
        scale: pixels of the map a pixel of the image (1 / stride).

    Pixel (i, j) of the map is read at its centre, i + ½ pixels from the edge; reads beyond one pixel outside are zero.
    """
    if len(boxes) != len(features):
        raise ValueError(f"there are {len(features)} images and boxes for {len(boxes)}; give one tensor an image.")
    every = torch.cat(boxes).to(features.dtype) * scale - 0.5
    image = torch.repeat_interleave(
        torch.arange(len(boxes), device=features.device), torch.tensor([len(b) for b in boxes], device=features.device)
    )
    step = (torch.arange(size * samples, device=features.device, dtype=features.dtype) + 0.5) / (size * samples)
    x = every[:, None, 0] + (every[:, 2] - every[:, 0])[:, None] * step
    y = every[:, None, 1] + (every[:, 3] - every[:, 1])[:, None] * step
    reads = _bilinear(features, image, y, x)
    return reads.unflatten(3, (size, samples)).unflatten(2, (size, samples)).mean((3, 5))


def _bilinear(features: Tensor, image: Tensor, y: Tensor, x: Tensor) -> Float[Tensor, "R C h w"]:
    """Reads of `features[image]` on the grid y × x of every box."""
    height, width = features.shape[2:]

    def corners(place: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        inside = (place >= -1) & (place <= count)
        place = place.clamp(0, count - 1)
        low = place.floor().long().clamp_max(count - 1)
        high = (low + 1).clamp_max(count - 1)
        share = place - low
        return low, high, (1 - share) * inside, share * inside

    top, bottom, weight_top, weight_bottom = corners(y, height)
    left, right, weight_left, weight_right = corners(x, width)
    maps = features.permute(0, 2, 3, 1)
    total = 0.0
    for row, weight_row in ((top, weight_top), (bottom, weight_bottom)):
        for column, weight_column in ((left, weight_left), (right, weight_right)):
            picked = maps[image[:, None, None], row[:, :, None], column[:, None, :]]
            total = total + picked * (weight_row[:, :, None] * weight_column[:, None, :])[..., None]
    return total.permute(0, 3, 1, 2)


def level_of(boxes: Float[Tensor, "n 4"], lowest: int = 2, highest: int = 5) -> Tensor:
    """Pyramid level of each box: ⌊4 + log₂(√(w h) / 224)⌋ within [lowest, highest], sizes in pixels of the image."""
    side = (boxes[:, 2:] - boxes[:, :2]).prod(1).clamp_min(1e-12).sqrt()
    level = torch.floor(CANONICAL_LEVEL + torch.log2(side / CANONICAL_SIDE) + 1e-6)
    return level.clamp(lowest, highest).long()


def pyramid_roi_align(
    levels: list[Tensor], strides: tuple[int, ...], boxes: list[Tensor], size: int = 7, samples: int = 2
) -> Float[Tensor, "R C size size"]:
    """`roi_align` of each box on the level that fits its size; strides must be powers of two, level k has stride 2^k."""
    lowest = strides[0].bit_length() - 1
    own = [level_of(b, lowest, lowest + len(levels) - 1) - lowest for b in boxes]
    which = torch.cat(own)
    pooled = levels[0].new_zeros(len(which), levels[0].shape[1], size, size)
    for k, (level, stride) in enumerate(zip(levels, strides, strict=True)):
        chosen = [b[o == k] for b, o in zip(boxes, own, strict=True)]
        pooled = pooled.index_put(((which == k).nonzero()[:, 0],), roi_align(level, chosen, size, 1 / stride, samples))
    return pooled

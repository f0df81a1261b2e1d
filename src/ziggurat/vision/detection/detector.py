"""A detector of one stage: backbone, neck, and a head that says for every anchor what is there and where exactly.

In training a call with targets gives a dict of losses; in evaluation a list of dicts with boxes, scores and labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

Images = Tensor | list[Tensor]
Target = dict[str, Tensor]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Features(nn.Module):
    """A backbone and a neck as one module: images -> levels.

    Arguments:
        backbone: a `Staged` network of images.
        neck: built for the stages from `first` on, such as `FPN(backbone.channels[first:], backbone.strides[first:])`; None gives them
            as they are.
        first: the finest stage that is used.

    Attributes: `channels` and `strides` of the levels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, neck: nn.Module | None = None, first: int = 0) -> None:
        super().__init__()
        self.backbone, self.first = backbone, first
        self.neck = nn.Identity() if neck is None else neck
        source = backbone if neck is None else neck
        start = first if neck is None else 0
        self.channels: tuple[int, ...] = tuple(source.channels[start:])  # type: ignore[index, arg-type]
        self.strides: tuple[int, ...] = tuple(source.strides[start:])  # type: ignore[index, arg-type]
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def batch(self, images: Images) -> tuple[Tensor, list[tuple[int, int]]]:
        """Images of any sizes as one normalised batch, zeros below and to the right, and their (height, width)."""
        for image in images:
            if image.ndim != 3 or image.shape[0] != 3:
                raise ValueError(f"an image must be (3, H, W) floats in [0, 1], got {tuple(image.shape)}.")
        sizes = [(int(i.shape[1]), int(i.shape[2])) for i in images]
        height, width = (max(s[axis] for s in sizes) for axis in (0, 1))
        padded = [
            pad((i - self.mean[0]) / self.std[0], (0, width - w, 0, height - h))
            for i, (h, w) in zip(images, sizes, strict=True)
        ]
        return torch.stack(padded), sizes

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.neck(self.backbone.forward_features(x)[self.first :])  # type: ignore[operator]


class Head(Protocol):
    """What a `Detector` needs of its head."""

    def losses(self, levels: list[Tensor], strides: Sequence[int], targets: list[Target]) -> dict[str, Tensor]: ...

    def detect(self, levels: list[Tensor], strides: Sequence[int], sizes: list[tuple[int, int]]) -> list[Target]: ...


class Detector(nn.Module):
    """Backbone, neck and head under the one call of all detectors.

    Arguments:
        backbone, neck, first: as in `Features`.
        head: has `losses` and `detect` (see `Head`), such as `RetinaHead`, `ProposalHead` or `SSDLiteHead`.

    Call: `detector(images, targets)` in training -> dict of scalar losses; `detector(images)` in evaluation -> list of dicts `boxes`
    (n, 4) xyxy pixels, `scores` (n,) falling, `labels` (n,). Images are a list of (3, H, W) floats in [0, 1], or one batch.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module | None, head: nn.Module, first: int = 0) -> None:
        super().__init__()
        self.features = Features(backbone, neck, first)
        self.head = head

    def forward(self, images: Images, targets: list[Target] | None = None) -> dict[str, Tensor] | list[Target]:
        batch, sizes = self.features.batch(images)
        if not self.training:
            return self.head.detect(self.features(batch), self.features.strides, sizes)  # type: ignore[operator]
        check_targets(targets, len(sizes))
        return self.head.losses(self.features(batch), self.features.strides, targets)  # type: ignore[operator]


def check_targets(targets: list[Target] | None, images: int) -> None:
    """Targets as a training call needs them, or a `ValueError`."""
    if targets is None or len(targets) != images:
        found = "none" if targets is None else len(targets)
        raise ValueError(f"training needs a target for each of {images} images, got {found}; call eval() to detect.")
    for i, target in enumerate(targets):
        boxes, labels = target["boxes"], target["labels"]
        if boxes.shape != (len(labels), 4):
            raise ValueError(f"target {i} needs boxes (n, 4) and n labels, got {tuple(boxes.shape)} and {len(labels)}.")
        if len(boxes) and bool((boxes[:, 2:] <= boxes[:, :2]).any()):
            raise ValueError(
                f"target {i} has a box without area; boxes are xyxy pixels with right > left, bottom > top."
            )

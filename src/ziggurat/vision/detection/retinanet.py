"""RetinaNet: a pyramid from stride 8 to 128, and dense heads trained by the focal loss.

T.-Y. Lin et al., Focal Loss for Dense Object Detection, 2017, arXiv:1708.02002.
"""

from __future__ import annotations

from torch import nn

from ziggurat.vision.detection.detector import Detector
from ziggurat.vision.detection.heads import RetinaHead
from ziggurat.vision.necks.fpn import FPN


def retinanet(backbone: nn.Module, num_classes: int, width: int = 256, depth: int = 4) -> Detector:
    """A RetinaNet on any `Staged` backbone: its stages from stride 8 on, two extra levels, nine anchors of 4 strides and up a position."""
    strides: tuple[int, ...] = backbone.strides  # type: ignore[assignment]
    channels: tuple[int, ...] = backbone.channels  # type: ignore[assignment]
    first = next((i for i, s in enumerate(strides) if s >= 8), None)
    if first is None:
        raise ValueError(f"RetinaNet needs stages of stride 8 and more, this backbone has {strides}.")
    neck = FPN(channels[first:], strides[first:], width, extra="p6p7")
    sides = [[4 * s * 2 ** (k / 3) for k in range(3)] for s in neck.strides]
    return Detector(backbone, neck, RetinaHead(width, num_classes, sides, depth=depth), first)

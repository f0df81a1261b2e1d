"""VGG: stacks of 3×3 convolutions with a pooling behind each, and three fully connected layers.

K. Simonyan, A. Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2014, arXiv:1409.1556.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ziggurat.nn.conv import Norm
from ziggurat.nn.staged import Staged


class VGG(Staged):
    """Five stages, each of some 3×3 convolutions with ReLU and a 2×2 max pooling.

    Arguments:
        depths, widths: of each stage.
        num_classes: 0 gives the vector behind the second fully connected layer.
        hidden: width of the two fully connected layers; 0 leaves them out (an encoder for dense prediction).
        size: side of the last map that the first of them takes; other maps are averaged to it.
        padding: of every convolution; 0 makes a map of scores agree with the scores of windows.
        norm: makes a normalisation behind every convolution (the later "bn" form); None is the paper.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features at strides 2, 4, 8, 16, 32.
    """

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 3, 3, 3),
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        num_classes: int = 1000,
        in_channels: int = 3,
        hidden: int = 4096,
        size: int = 7,
        dropout: float = 0.5,
        padding: int = 1,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        stages, channels = [], in_channels
        for depth, width in zip(depths, widths, strict=True):
            layers: list[nn.Module] = []
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, padding=padding), *([norm(width)] if norm else []), nn.ReLU()]
                channels = width
            stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.stem, self.stages = nn.Identity(), nn.ModuleList(stages)
        self.channels, self.strides = tuple(widths), tuple(2 ** (i + 1) for i in range(len(widths)))
        self.head = VGGHead(channels, size, hidden, num_classes, dropout)
        self.num_features = self.head.num_features
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)


class VGGHead(nn.Module):
    """Pooling to a fixed size, two fully connected layers with ReLU and dropout, and the classifier."""

    def __init__(self, channels: int, size: int, hidden: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(size)
        self.num_features = hidden or channels * size * size
        layers: list[nn.Module] = [nn.Flatten()]
        if hidden:
            layers += [nn.Linear(channels * size * size, hidden), nn.ReLU(), nn.Dropout(dropout)]
            layers += [nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        """A new classifier."""
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        if num_classes:
            nn.init.normal_(self.fc.weight, 0, 0.01)
            nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.layers(self.pool(x))
        return x if pre_logits else self.fc(x)

"""Network in Network: a small perceptron slides over the image in place of a linear filter, and averaged class maps end the network.

    mlpconv(x) = ReLU(W₃ ReLU(W₂ ReLU(W₁ ∗ x)))        W₁ of k × k places, W₂ and W₃ of one
    logit_c = mean over places of map_c

The last perceptron ends in one map a class, so there is no fully connected layer that could overfit.

M. Lin, Q. Chen, S. Yan, Network In Network, 2013, arXiv:1312.4400.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.conv import ConvNormAct
from ziggurat.nn.recipe import Recipe, steps
from ziggurat.nn.staged import Staged

WIDTHS = ((192, 160, 96), (192, 192, 192), (192, 192))
"""Of each perceptron's layers; the last one has one more, of the classes, which is the head's."""


class MLPConv(nn.Sequential):
    """A perceptron that is shared by all patches: one k × k convolution, then 1×1 convolutions, each with bias and ReLU.

    Arguments:
        widths: of its layers; a single one makes an ordinary convolution with ReLU.
        kernel: k.
        stride: of the first layer.

    Shapes: (B, in_channels, H, W) -> (B, widths[-1], ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, widths: Sequence[int], kernel: int, stride: int = 1) -> None:
        sides = (kernel, *(1 for _ in widths[1:]))
        super().__init__(
            *(
                ConvNormAct(c_in, c_out, k, stride if i == 0 else 1, norm=None)
                for i, (c_in, c_out, k) in enumerate(zip((in_channels, *widths), widths, sides, strict=False))
            )
        )


class ClassMaps(nn.Module):
    """A 1×1 convolution to one map a class, and their global average: the logits.

    Arguments:
        in_features: width of the representation.
        num_classes: 0 leaves only the average of the representation.
        relu: a ReLU on the maps (as the authors' networks have); without it logits can be negative and train more easily.

    Shapes: (B, in_features, H, W) -> (B, num_classes), with `pre_logits` (B, in_features).
    """

    def __init__(self, in_features: int, num_classes: int, relu: bool = True) -> None:
        super().__init__()
        self.in_features, self.relu = in_features, relu
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        """New maps, on the device and in the type of the old ones."""
        if num_classes < 0:
            raise ValueError(f"num_classes must be 0 (features) or more, got {num_classes}.")
        old = next(self.parameters(), torch.empty(0))
        self.maps: nn.Module = nn.Identity()
        if num_classes:
            self.maps = ConvNormAct(self.in_features, num_classes, 1, norm=None, act=nn.ReLU if self.relu else None)
            init_plain_network(self.maps)
            self.maps.to(old.device, old.dtype)

    def forward(self, x: Float[Tensor, "B C h w"], pre_logits: bool = False) -> Tensor:
        return (x if pre_logits else self.maps(x)).mean((2, 3))


class FlatMaps(ClassMaps):
    """Class maps behind which a fully connected layer stands in place of the average: what the paper compares with.

    With the weights 1 / size² between a map and its own logit, and zero elsewhere, it is the average.

    Arguments:
        size: side of the maps it takes.
    """

    def __init__(self, in_features: int, num_classes: int, relu: bool = True, size: int = 8) -> None:
        self.size = size
        super().__init__(in_features, num_classes, relu)

    def reset(self, num_classes: int) -> None:
        super().reset(num_classes)
        old = next(self.parameters(), torch.empty(0))
        layer = nn.Linear(num_classes * self.size**2, num_classes) if num_classes else nn.Identity()
        self.fc = layer.to(old.device, old.dtype)

    def forward(self, x: Float[Tensor, "B C h w"], pre_logits: bool = False) -> Tensor:
        if pre_logits or isinstance(self.fc, nn.Identity):
            return x.mean((2, 3))
        if x.shape[-2:] != (self.size, self.size):
            raise ValueError(
                f"the fully connected head takes maps of {self.size}×{self.size}, got {x.shape[-2]}×{x.shape[-1]}; take images "
                "of the size it was built for, or the average, which takes any."
            )
        return self.fc(self.maps(x).flatten(1))


def init_plain_network(module: nn.Module) -> None:
    """Kaiming-normal convolutions by fan-in, biases at zero: networks without normalisation keep their scale from layer to layer."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class NIN(Staged):
    """The network for images of 32 pixels: three perceptrons, a max and an average pooling between them, dropout behind each pooling.

    Arguments:
        num_classes: 0 gives features.
        in_channels: of the images.
        widths: of the perceptrons; single numbers in each make the ordinary network that the paper compares with.
        kernels: of the perceptrons' first layers.
        stem_stride: of the first layer; 2 saves time on small studies.
        head: "gap" averages the class maps; "fc" has a fully connected layer behind them.
        size: side of the maps that "fc" takes.
        dropout: behind each pooling.
        relu_logits: a ReLU on the class maps, as the authors' network has; False is recommended.

    Weights start by Kaiming's rule; the authors set the spread of each layer by hand. Poolings are 3 × 3 of stride 2 and reach over the
    border, so that 32 pixels become 16 and 8. `head.maps(features[-1])` are the class maps.
    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 1, 2, 4 and widths 96, 192, 192.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        widths: Sequence[Sequence[int]] = WIDTHS,
        kernels: Sequence[int] = (5, 5, 3),
        stem_stride: int = 1,
        head: Literal["gap", "fc"] = "gap",
        size: int = 8,
        dropout: float = 0.5,
        relu_logits: bool = True,
    ) -> None:
        super().__init__()
        if head not in ("gap", "fc"):
            raise ValueError(f"head must be 'gap' or 'fc', got {head!r}.")
        if len(widths) != 3 or len(kernels) != 3:
            raise ValueError(f"there are three perceptrons, got widths {tuple(widths)} and kernels {tuple(kernels)}.")
        first, second, third = widths
        self.stem = nn.Identity()
        self.stages = nn.ModuleList(
            (
                nn.Sequential(MLPConv(in_channels, first, kernels[0], stem_stride)),
                nn.Sequential(
                    nn.MaxPool2d(3, 2, ceil_mode=True), nn.Dropout(dropout), MLPConv(first[-1], second, kernels[1])
                ),
                nn.Sequential(
                    nn.AvgPool2d(3, 2, ceil_mode=True), nn.Dropout(dropout), MLPConv(second[-1], third, kernels[2])
                ),
            )
        )
        self.channels, self.strides = (first[-1], second[-1], third[-1]), tuple(stem_stride * s for s in (1, 2, 4))
        self.num_features = third[-1]
        self.smallest = 3 * stem_stride + 1
        self.head = (
            ClassMaps(third[-1], num_classes, relu_logits)
            if head == "gap"
            else FlatMaps(third[-1], num_classes, relu_logits, size)
        )
        init_plain_network(self)

    def recipe(self, lr: float | None = None) -> Recipe:
        """The paper's optimiser: SGD at 0.1, momentum 0.9, weight decay 1e-4, the rate divided by 10 twice."""
        return Recipe(torch.optim.SGD(self.parameters(), lr or 0.1, 0.9, weight_decay=1e-4), steps(0.6, 0.8))


nin = NIN
nin_fc = partial(NIN, head="fc")
nin_linear = partial(NIN, widths=((192,), (192,), (192,)))

"""All convolutional nets: a max pooling can be replaced by a convolution of stride 2, and nothing but convolutions remains.

Two groups of convolutions, each reduced by 2, then 3×3 (without padding), 1×1, 1×1 to the classes, and the average over all places. The
reduction of a group is one of four:

                              max pooling 3/2       stride 2 in the last convolution
    the group as it is        BaseCNN               StridedCNN
    one more 3×3              ConvPoolCNN           AllConvNet

ConvPoolCNN tells what of AllConvNet's accuracy comes from its additional layer. The paper's second part, guided backpropagation (a gradient
passes a ReLU only where its input and the gradient itself are positive), explains such networks; AllConvNet is its usual example.

J. Springenberg, A. Dosovitskiy, T. Brox, M. Riedmiller, Striving for Simplicity: The All Convolutional Net, 2014, arXiv:1412.6806.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import nn

from ziggurat.nn.conv import ConvNormAct
from ziggurat.nn.recipe import Recipe, steps
from ziggurat.nn.staged import Staged
from ziggurat.vision.backbones.nin import ClassMaps, init_plain_network

GROUPS = {"A": (5,), "B": (5, 1), "C": (3, 3)}
"""Kernels of each group of the paper's base networks (table 1)."""


class BaseCNN(Staged):
    """A base network: each group ends in an overlapping max pooling. Stages begin where the size is reduced.

    Arguments:
        base: "A" (one 5×5 a group), "B" (5×5, 1×1) or "C" (two 3×3).
        num_classes: 0 gives features.
        in_channels: of the images.
        widths: of the two groups; what follows them has the second.
        dropout: of the input, and behind each reduction.
        relu_logits: a ReLU on the class maps, as the paper has it behind every convolution; False is recommended.
        padding: "valid" is the paper's last 3×3, which makes maps of 6 × 6 from 8 × 8; "same" keeps them, for dense prediction.

    Weights start by Kaiming's rule. `head.maps(features[-1])` are the class maps.
    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 1, 2, 4 and widths 96, 192, 192 (the strided forms of "A" have
    no layer of stride 1).
    """

    pooled: ClassVar[bool] = True
    extra: ClassVar[bool] = False

    def __init__(
        self,
        base: Literal["A", "B", "C"] = "C",
        num_classes: int = 10,
        in_channels: int = 3,
        widths: Sequence[int] = (96, 192),
        dropout: Sequence[float] = (0.2, 0.5),
        relu_logits: bool = True,
        padding: Literal["valid", "same"] = "valid",
    ) -> None:
        super().__init__()
        if base not in GROUPS:
            raise ValueError(f"base must be 'A', 'B' or 'C', got {base!r}.")
        if padding not in ("valid", "same"):
            raise ValueError(f"padding must be 'valid' or 'same', got {padding!r}.")
        self.stem = nn.Dropout(dropout[0])
        stages: list[list[nn.Module]] = [[]]
        levels, channels, stride = [(in_channels, 1)], in_channels, 1
        for width in widths:
            kernels = (*GROUPS[base], *((3,) if self.extra else ()))
            for i, kernel in enumerate(kernels):
                reduces = not self.pooled and i == len(kernels) - 1
                if reduces:
                    stride *= 2
                    if stages[-1]:
                        stages.append([])
                        levels.append((width, stride))
                stages[-1].append(ConvNormAct(channels, width, kernel, 2 if reduces else 1, norm=None))
                channels = width
                levels[-1] = (width, stride)
            if self.pooled:
                stride *= 2
                stages.append([nn.MaxPool2d(3, 2, 1)])
                levels.append((width, stride))
            stages[-1].append(nn.Dropout(dropout[1]))
        stages[-1] += [
            ConvNormAct(channels, channels, 3, norm=None, padding=0 if padding == "valid" else 1),
            ConvNormAct(channels, channels, 1, norm=None),
        ]
        self.stages = nn.ModuleList(nn.Sequential(*layers) for layers in stages)
        self.channels, self.strides = (tuple(values) for values in zip(*levels, strict=True))
        self.smallest = 9 if padding == "valid" else 1
        self.num_features = channels
        self.head = ClassMaps(channels, num_classes, relu_logits)
        init_plain_network(self)

    def recipe(self, lr: float | None = None) -> Recipe:
        """The paper's optimiser: SGD with momentum 0.9, weight decay 1e-3, the rate divided by 10 after 200, 250 and 300 of 350 epochs."""
        schedule = steps(200 / 350, 250 / 350, 300 / 350)
        return Recipe(torch.optim.SGD(self.parameters(), lr or 0.01, 0.9, weight_decay=1e-3), schedule)


class StridedCNN(BaseCNN):
    """No pooling: the last convolution of each group has stride 2. Arguments and shapes: as of `BaseCNN`."""

    pooled = False


class ConvPoolCNN(BaseCNN):
    """One more 3×3 convolution in front of each pooling: the control. Arguments and shapes: as of `BaseCNN`."""

    extra = True


class AllConvNet(BaseCNN):
    """A 3×3 convolution of stride 2 in place of each pooling. Arguments and shapes: as of `BaseCNN`."""

    pooled = False
    extra = True


base_cnn_a = partial(BaseCNN, "A")
base_cnn_b = partial(BaseCNN, "B")
base_cnn_c = partial(BaseCNN, "C")
strided_cnn_a = partial(StridedCNN, "A")
strided_cnn_b = partial(StridedCNN, "B")
strided_cnn_c = partial(StridedCNN, "C")
conv_pool_cnn_a = partial(ConvPoolCNN, "A")
conv_pool_cnn_b = partial(ConvPoolCNN, "B")
conv_pool_cnn_c = partial(ConvPoolCNN, "C")
all_cnn_a = partial(AllConvNet, "A")
all_cnn_b = partial(AllConvNet, "B")
all_cnn_c = partial(AllConvNet, "C")

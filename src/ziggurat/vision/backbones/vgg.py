"""VGG: depth from stacks of 3×3 convolutions, five stages with a pooling behind each, and three fully connected layers.

Three 3×3 layers see as far as one 7×7 layer, with 27 C² weights in place of 49 C², and two more ReLUs between them.

K. Simonyan, A. Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2014, arXiv:1409.1556.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ziggurat.nn.conv import Norm
from ziggurat.nn.convolutionalize import convolutionalize
from ziggurat.nn.staged import Staged

WIDTHS = (64, 128, 256, 512, 512)
A, B, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)
C = (2, 2, (3, 3, 1), (3, 3, 1), (3, 3, 1))
"""The paper's table 1: how many 3×3 convolutions each stage has, or the kernels one by one."""


def key_map(lengths: Sequence[int]) -> dict[str, str]:
    """torchvision's names and ours, for stages of so many layers (convolutions, normalisations, ReLUs and the pooling).

    torchvision numbers all layers through, so that the map depends on the table; `VGG.key_map` gives that of a network.
    """
    places = [f"stages.{i}.{j}." for i, length in enumerate(lengths) for j in range(length)]
    return {
        **{rf"^features\.{n}\.": place for n, place in enumerate(places)},
        r"^classifier\.0\.": "head.layers.1.",
        r"^classifier\.3\.": "head.layers.4.",
        r"^classifier\.6\.": "head.fc.",
    }


KEYS = key_map((5, 5, 7, 7, 7))
"""Those of VGG-16 (D) without normalisation."""


class VGG(Staged):
    """Five stages, each of some convolutions with ReLU and a 2×2 max pooling.

    Arguments:
        depths: of each stage the number of 3×3 convolutions, or their kernels one by one; A … E are the paper's, D (VGG-16) the default.
        widths: of each stage.
        num_classes: 0 gives the vector behind the second fully connected layer.
        hidden: width of the two fully connected layers; 0 leaves them out (with `size` 1 a global average then stands in their place).
        size: side of the last map that the first of them takes; other maps are averaged to it. Images of 32 pixels have 1.
        padding: of a 3×3 convolution, larger ones in proportion; 0 makes a map of scores agree with the scores of windows.
        norm: makes a normalisation behind every convolution (the later "bn" form); None is the paper.
        response_norm: local response normalisation behind the first convolution (A-LRN).

    Weights start by Kaiming's rule; `paper_init` gives the paper's. Shapes: (B, in_channels, H, W) -> (B, num_classes); features at strides
    2, 4, 8, 16, 32, behind the poolings; `taps` gives any other map by name.
    """

    def __init__(
        self,
        depths: Sequence[int | Sequence[int]] = D,
        widths: Sequence[int] = WIDTHS,
        num_classes: int = 1000,
        in_channels: int = 3,
        hidden: int = 4096,
        size: int = 7,
        dropout: float = 0.5,
        padding: int = 1,
        norm: Norm | None = None,
        response_norm: bool = False,
    ) -> None:
        super().__init__()
        tables = [(3,) * stack if isinstance(stack, int) else tuple(stack) for stack in depths]
        if len(tables) != len(widths):
            raise ValueError(f"{len(tables)} stages need as many widths, got {tuple(widths)}.")
        stages: list[nn.Sequential] = []
        channels = in_channels
        for kernels, width in zip(tables, widths, strict=True):
            layers: list[nn.Module] = []
            for kernel in kernels:
                layers.append(nn.Conv2d(channels, width, kernel, padding=padding * (kernel // 2)))
                layers += [*([norm(width)] if norm else []), nn.ReLU()]
                if response_norm and not stages and len(layers) == (3 if norm else 2):
                    layers.append(nn.LocalResponseNorm(5, 5 * 1e-4, 0.75, 2.0))  # torch divides alpha by the 5 channels
                channels = width
            stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.stem, self.stages = nn.Identity(), nn.ModuleList(stages)
        self.channels, self.strides = tuple(widths), tuple(2 ** (i + 1) for i in range(len(widths)))
        for kernels in reversed(tables):
            self.smallest = 2 * self.smallest + sum(k - 1 - 2 * padding * (k // 2) for k in kernels)
        self.head = VGGHead(channels, size, hidden, num_classes, dropout)
        self.num_features = self.head.num_features
        for module in self.stages.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def named_layers(self) -> Iterator[tuple[str, nn.Module]]:
        """Layers of the stages under their usual names, in order: conv1_1, (norm1_1,) relu1_1, …, pool1, conv2_1, …"""
        kinds = {nn.Conv2d: "conv", nn.ReLU: "relu", nn.LocalResponseNorm: "lrn"}
        for i, stage in enumerate(self.stages, start=1):
            j = 0
            for layer in stage:  # type: ignore[attr-defined]
                j += isinstance(layer, nn.Conv2d)
                last = isinstance(layer, nn.MaxPool2d)
                yield f"pool{i}" if last else f"{kinds.get(type(layer), 'norm')}{i}_{j}", layer

    def levels(self) -> tuple[str, ...]:
        """Names of the maps before each pooling (strides 1, 2, 4, 8, 16) and behind the last one: what detectors build on."""
        names = [name for name, _ in self.named_layers()]
        return (*(before for before, name in pairwise(names) if name.startswith("pool")), names[-1])

    def taps(self, x: Float[Tensor, "B C H W"], names: Sequence[str]) -> dict[str, Tensor]:
        """Maps by the names of `named_layers`: "relu4_3" is what most papers call conv4_3, "conv4_3" the map before its ReLU."""
        self.check_size(x)
        known = [name for name, _ in self.named_layers()]
        if wrong := [name for name in names if name not in known]:
            raise ValueError(f"this VGG has no map {wrong[0]}; it has {', '.join(known)}.")
        found: dict[str, Tensor] = {}
        for name, layer in self.named_layers():
            x = layer(x)
            if name in names:
                found[name] = x
            if len(found) == len(set(names)):
                break
        return found

    def to_fully_convolutional(self) -> nn.Sequential:
        """Dense evaluation: the classifier with shared weights as convolutions over the whole image, its map of scores averaged.

        Shapes: (B, C, H, W) -> (B, K); the part `scores` alone gives the map (B, K, h, w).
        """
        scores = convolutionalize(self)
        return nn.Sequential(OrderedDict(scores=scores, average=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()))

    def key_map(self) -> dict[str, str]:
        """torchvision's names of this network's weights and ours."""
        return key_map([len(stage) for stage in self.stages])  # type: ignore[arg-type]


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
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        """A new classifier."""
        self.fc: nn.Module = nn.Identity()
        if num_classes:
            fc = nn.Linear(self.num_features, num_classes)
            nn.init.normal_(fc.weight, 0, 0.01)
            nn.init.zeros_(fc.bias)
            self.fc = fc

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.layers(self.pool(x))
        return x if pre_logits else self.fc(x)


@torch.no_grad()
def paper_init(network: VGG, shallow: VGG | None = None) -> None:
    """The paper's start: N(0, 0.01²) and zero biases; of a trained net A the first four convolutions and the fully connected layers.

    Without such a net, D and E do not train from this start: their activations die out.

    Arguments:
        shallow: net A; its conv1_1, conv2_1, conv3_1 and conv3_2 are those of the same name in the deeper net.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            for name, parameter in module.named_parameters():
                nn.init.normal_(parameter, 0, 0.01 if name == "weight" else 0.0)
    if shallow is not None:
        own, given = dict(network.named_layers()), dict(shallow.named_layers())
        for name in ("conv1_1", "conv2_1", "conv3_1", "conv3_2"):
            own[name].load_state_dict(given[name].state_dict())
        network.head.load_state_dict(shallow.head.state_dict())


class ScaleJitter(nn.Module):
    """Scale jittering of training images: the shorter side becomes S, drawn from [smallest, largest]; then a random crop and a flip.

    Arguments:
        smallest, largest: of S; equal numbers fix it.
        crop: side of the crop.

    Shapes: (B, C, H, W) -> (B, C, crop, crop), every image with an S of its own.
    """

    def __init__(self, smallest: int = 256, largest: int = 512, crop: int = 224) -> None:
        super().__init__()
        if not crop <= smallest <= largest:
            raise ValueError(f"a crop of {crop} needs {crop} ≤ smallest ≤ largest, got {smallest} and {largest}.")
        self.smallest, self.largest, self.crop = smallest, largest, crop

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        crops = []
        for image in x:
            image = rescale(image[None], int(torch.randint(self.smallest, self.largest + 1, ())))
            top, left = (int(torch.randint(side - self.crop + 1, ())) for side in image.shape[2:])
            image = image[:, :, top : top + self.crop, left : left + self.crop]
            crops.append(image.flip(3) if torch.rand(()) < 0.5 else image)
        return torch.cat(crops)

    def extra_repr(self) -> str:
        return f"smallest={self.smallest}, largest={self.largest}, crop={self.crop}"


def rescale(x: Float[Tensor, "B C H W"], side: int) -> Float[Tensor, "B C h w"]:
    """Images with their shorter side at `side`, their form kept."""
    factor = side / min(x.shape[2:])
    height, width = (max(side, round(factor * n)) for n in x.shape[2:])
    return interpolate(x, (height, width), mode="bilinear", antialias=True)


def multi_scale(
    network: nn.Module, x: Float[Tensor, "B C H W"], sides: Sequence[int] = (224, 256, 288)
) -> Float[Tensor, "B K"]:
    """Class probabilities of a fully convolutional network, the mean over scales and over the image and its mirror image.

    Arguments:
        network: of `VGG.to_fully_convolutional`.
        sides: the shorter sides Q; the paper takes S − 32, S and S + 32 of a training side S.
    """
    views = [view for side in sides for view in (rescale(x, side), rescale(x.flip(3), side))]
    return torch.stack([network(view).softmax(1) for view in views]).mean(0)


vgg11 = partial(VGG, depths=A)
vgg11_lrn = partial(VGG, depths=A, response_norm=True)
vgg13 = partial(VGG, depths=B)
vgg16_1x1 = partial(VGG, depths=C)
vgg16 = partial(VGG, depths=D)
vgg19 = partial(VGG, depths=E)
vgg11_bn = partial(VGG, depths=A, norm=nn.BatchNorm2d)
vgg13_bn = partial(VGG, depths=B, norm=nn.BatchNorm2d)
vgg16_bn = partial(VGG, depths=D, norm=nn.BatchNorm2d)
vgg19_bn = partial(VGG, depths=E, norm=nn.BatchNorm2d)
cifar_vgg16 = partial(VGG, depths=D, num_classes=10, hidden=512, size=1)
cifar_vgg16_bn = partial(VGG, depths=D, num_classes=10, hidden=512, size=1, norm=nn.BatchNorm2d)

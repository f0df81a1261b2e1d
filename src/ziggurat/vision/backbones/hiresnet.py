"""HiResNet: later stages of any network also receive compressed copies of all earlier representations, and learn relative to them.

    x_l = ReLU(B_l(x_{l−1}) + Σ_{k < l−1} P_{k→l}(x_k))

x_0 is the output of the stem, B_l stage l without its last ReLU, P_{k→l} a hierarchical residual: pooling by stride_l / stride_k, a 1×1
convolution without bias to the width of stage l, and BN; no activation. The pair k = l − 1 is served by the stage itself.

F. M. López, J. Triesch, Hierarchical Residuals Exploit Brain-Inspired Compositionality, 2025, arXiv:2502.16003. That paper's form
is the sum; pooling, BN and the sets of edges are our reading.
"""

from __future__ import annotations

import copy
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ziggurat.nn.conv import init_relu_network
from ziggurat.nn.staged import Staged
from ziggurat.vision.backbones.resnet import resnet18

Connections = Literal["all", "input", "output", "none"]
Pooling = Literal["avg", "max", "stride"]


def edges(stages: int, connections: Connections = "all") -> list[tuple[int, int]]:
    """The pairs (k, l) of a network with so many stages; 0 is the stem.

    "all" are those with k < l − 1, "input" of them the ones from the stem, "output" the ones into the last stage, "none" is empty.
    """
    pairs = [(k, level) for level in range(2, stages + 1) for k in range(level - 1)]
    if connections == "all":
        return pairs
    if connections == "input":
        return [pair for pair in pairs if pair[0] == 0]
    if connections == "output":
        return [pair for pair in pairs if pair[1] == stages]
    if connections == "none":
        return []
    raise ValueError(f"connections must be 'all', 'input', 'output' or 'none', got {connections!r}.")


class HierarchicalResidual(nn.Module):
    """P: pooling by a whole factor, a 1×1 convolution, BN.

    Arguments:
        in_channels, out_channels: of the earlier and the later representation.
        factor: the later stride over the earlier one.
        pooling: "avg", "max", or "stride" (the first of every `factor` values).

    Called with the earlier representation and the size of the later one. A last, incomplete window counts, and is cut away again where
    the network rounds its sizes down. Shapes: (B, in_channels, H, W) -> (B, out_channels, *size).
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int = 1, pooling: Pooling = "avg") -> None:
        super().__init__()
        if pooling not in ("avg", "max", "stride"):
            raise ValueError(f"pooling must be 'avg', 'max' or 'stride', got {pooling!r}.")
        self.pool: nn.Module = nn.Identity()
        if factor > 1 and pooling == "avg":
            self.pool = nn.AvgPool2d(factor, ceil_mode=True, count_include_pad=False)
        elif factor > 1:
            self.pool = nn.MaxPool2d(factor if pooling == "max" else 1, factor, ceil_mode=True)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        init_relu_network(self)

    def forward(self, x: Float[Tensor, "B C H W"], size: tuple[int, int] | None = None) -> Float[Tensor, "B D h w"]:
        x = self.pool(x)
        x = x if size is None else x[:, :, : size[0], : size[1]]
        return self.norm(self.conv(x))


class Shares(NamedTuple):
    """Of every stage: the size of its residuals' sum against its output, and the cosine between that sum and B_l; 0 without edges."""

    share: Float[Tensor, " L"]
    cosine: Float[Tensor, " L"]


class HiResNet(Staged):
    """A copy of a network of images with hierarchical residuals.

    A ReLU at the end of a stage that receives edges (the last module that its last unit registers) moves behind the sum.

    Arguments:
        base: any sequential `Staged` network of images whose head takes the last map: a ResNet, a plain network, …
        connections: the set of edges (see `edges`); "none" is the base itself.
        projection: the pooling of the residuals: "avg", "max" or "stride".

    Shapes: those of the base; features are the outputs of the stages behind the sum.
    """

    def __init__(self, base: Staged, connections: Connections = "all", projection: Pooling = "avg") -> None:
        super().__init__()
        pairs = edges(len(base.stages), connections)
        if not base.sequential or base.strides is None or type(base).forward_head is not Staged.forward_head:
            raise ValueError(
                f"{type(base).__name__} cannot take hierarchical residuals: the base must be a sequential Staged network of images "
                "whose head takes the last map."
            )
        base = copy.deepcopy(base)
        assert base.strides is not None
        self.stem, self.stages, self.head = base.stem, base.stages, base.head
        self.channels, self.strides, self.num_features = base.channels, base.strides, base.num_features
        self.smallest, self.sequential = base.smallest, not pairs
        stem_channels, stem_stride = _stem_shape(base)
        channels, strides = (stem_channels, *base.channels), (stem_stride, *base.strides)
        self.residuals = nn.ModuleDict(
            {
                f"{k}_{level}": HierarchicalResidual(
                    channels[k], channels[level], strides[level] // strides[k], projection
                )
                for k, level in pairs
            }
        )
        into = {level for _, level in pairs}
        self.acts = nn.ModuleList(
            _take_last_relu(stage) if level in into else nn.Identity() for level, stage in enumerate(self.stages, 1)
        )

    def parts(self, x: Float[Tensor, "B C H W"]) -> list[tuple[Tensor, Tensor | None, Tensor]]:
        """For every stage B_l(x_{l−1}), the sum of its residuals (None without edges), and x_l."""
        self.check_size(x)
        levels, parts = [self.stem(x)], []
        for level, (stage, act) in enumerate(zip(self.stages, self.acts, strict=True), start=1):
            own = self.run(stage, levels[-1])
            size = (own.shape[2], own.shape[3])
            into = [
                self.residuals[name](levels[k], size)
                for k in range(level - 1)
                if (name := f"{k}_{level}") in self.residuals
            ]
            total = torch.stack(into).sum(0) if into else None
            levels.append(act(own if total is None else own + total))
            parts.append((own, total, levels[-1]))
        return parts

    def forward_features(self, x: Tensor) -> list[Tensor]:
        return [output for _, _, output in self.parts(x)]

    @torch.no_grad()
    def residual_share(self, x: Float[Tensor, "B C H W"]) -> Shares:
        """What the residuals contribute to every stage, the mean over a batch."""
        zero = torch.zeros((), dtype=x.dtype, device=x.device)
        shares, cosines = [], []
        for own, total, output in self.parts(x):
            if total is None:
                shares.append(zero)
                cosines.append(zero)
                continue
            shares.append((total.flatten(1).norm(dim=1) / output.flatten(1).norm(dim=1).clamp_min(1e-12)).mean())
            cosines.append(cosine_similarity(own.flatten(1), total.flatten(1)).mean())
        return Shares(torch.stack(shares), torch.stack(cosines))


def _stem_shape(base: Staged) -> tuple[int, int]:
    """Channels and stride of what the stem gives, found on the meta device."""
    first = next(module for module in base.modules() if isinstance(module, nn.Conv2d))
    assert base.strides is not None
    side = 8 * base.strides[-1]
    stem = copy.deepcopy(base.stem).to("meta").eval()
    made = stem(torch.empty(1, first.in_channels, side, side, device="meta", dtype=first.weight.dtype))
    return made.shape[1], side // made.shape[2]


def _take_last_relu(stage: nn.Module) -> nn.Module:
    """Takes the ReLU out of the end of a stage and returns one for behind the sum; an identity where the stage ends without."""
    children = list(stage.named_children())
    if not children:
        return nn.Identity()
    name, last = children[-1]
    if isinstance(last, nn.ReLU):
        setattr(stage, name, nn.Identity())
        return nn.ReLU()
    return _take_last_relu(last)


def hiresnet18(num_classes: int = 10, in_channels: int = 3, connections: Connections = "all") -> HiResNet:
    """ResNet-18 for small images (a 3×3 stem without pooling) with hierarchical residuals."""
    return HiResNet(resnet18(num_classes=num_classes, in_channels=in_channels, stem="cifar"), connections)


def plain_hiresnet18(num_classes: int = 10, in_channels: int = 3, connections: Connections = "all") -> HiResNet:
    """The same without the shortcuts of its units: hierarchical residuals alone."""
    return HiResNet(
        resnet18(num_classes=num_classes, in_channels=in_channels, stem="cifar", shortcut=None), connections
    )

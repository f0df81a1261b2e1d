"""A stack of graph convolutions with two depths: how often it transforms, and how often it propagates.

With as many propagations as transformations it is the usual GCN: each layer is σ(S X W), with identity skips σ(S X W) + X (ResGCN). With
more, layers propagate several times before they transform; with fewer, some do not propagate at all.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.graphs.baselines import GraphNetwork
from ziggurat.graphs.propagation import gcn_norm
from ziggurat.graphs.sparse_operator import SparseOperator, sparse_operator


class Hops(nn.Module):
    """S^h X, without parameters."""

    def __init__(self, hops: int) -> None:
        super().__init__()
        self.hops = hops

    def forward(self, x: Float[Tensor, "N F"], step: SparseOperator) -> Float[Tensor, "N F"]:
        for _ in range(self.hops):
            x = step(x)
        return x

    def extra_repr(self) -> str:
        return f"hops={self.hops}"


class StackLayer(nn.Module):
    """σ(BN(S^h X W + b)); initialised as a GCN is (Glorot).

    Arguments:
        in_features, out_features: widths.
        hops: h.
        residual: asks the stack for an identity skip around this layer, where the widths agree.
        norm: batch normalisation.
    """

    def __init__(self, in_features: int, out_features: int, hops: int, residual: bool, norm: bool) -> None:
        super().__init__()
        self.residual = residual and in_features == out_features
        self.linear, self.hops = nn.Linear(in_features, out_features, bias=False), Hops(hops)
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.xavier_uniform_(self.linear.weight)
        self.norm = nn.BatchNorm1d(out_features) if norm else nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: Float[Tensor, "N F"], step: SparseOperator) -> Float[Tensor, "N D"]:
        return self.act(self.norm(self.hops(self.linear(x), step) + self.bias))

    def extra_repr(self) -> str:
        return f"residual={self.residual}"


class DeepGCN(GraphNetwork):
    """A graph network of D_t transformations, the last of which is the classifier, and D_p propagations, spread evenly among them.

    Arguments:
        in_features: columns of X.
        num_classes: 0 gives features.
        transformations: D_t.
        propagations: D_p; None takes D_t, the usual stack.
        width: of the hidden layers.
        residual: identity skips around layers that do not change the width.
        norm: batch normalisation in front of every activation.
        dropout: on the features and in front of what every further layer transforms; the skips are left whole.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        transformations: int = 2,
        propagations: int | None = None,
        width: int = 64,
        residual: bool = False,
        norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        depth = transformations
        hops = depth if propagations is None else propagations
        if depth < 1 or hops < 0:
            raise ValueError(
                f"a stack transforms once at least and propagates 0 times or more, got {depth} and {hops}."
            )
        spread = [(i + 1) * hops // depth - i * hops // depth for i in range(depth)]
        sizes = [in_features] + [width] * (depth - 1)
        layers: list[nn.Module] = [
            StackLayer(a, b, h, residual, norm) for (a, b), h in zip(pairwise(sizes), spread[:-1], strict=True)
        ]
        layers.append(Hops(spread[-1]))  # the classifier's own propagation comes before its weights
        acts: list[nn.Module] = [nn.Identity() for _ in layers]
        super().__init__(layers, acts, (*sizes[1:], sizes[-1]), num_classes, dropout, weighted=True)

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> list[Tensor]:
        step = sparse_operator(*gcn_norm(edge_index, edge_weight, len(x), dtype=x.dtype), len(x))
        features, x = [], self.stem(x)
        for i, layer in enumerate(self.stages):
            y = layer(self.dropouts[i - 1](x) if i else x, step)
            x = y + x if getattr(layer, "residual", False) else y
            features.append(x)
        return features

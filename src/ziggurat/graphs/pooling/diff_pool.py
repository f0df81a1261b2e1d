"""DiffPool as a baseline: soft clusters take the place of nodes, and memory is quadratic in them.

    X' = Sᵀ X,   A' = Sᵀ A S,   S = softmax of a convolution of its own

R. Ying, J. You, C. Morris, X. Ren, W. Hamilton, J. Leskovec, 2018, arXiv:1806.08804.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.nn import dense_diff_pool
from torch_geometric.utils import to_dense_adj, to_dense_batch

from ziggurat.graphs.pooling.sparse_hgc import HiddenClassifier
from ziggurat.graphs.propagation import check_edges


class DenseMeanConv(nn.Module):
    """`MeanGCNConv` on dense adjacencies: x (B, n, in_channels), a (B, n, n) -> (B, n, out_channels)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.around = nn.Linear(in_channels, out_channels, bias=False)
        self.own = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, x: Float[Tensor, "B n F"], a: Float[Tensor, "B n n"]) -> Float[Tensor, "B n C"]:
        around = self.around(x)
        return (a @ around + around) / (a.sum(2, keepdim=True) + 1) + self.own(x)


class DiffPoolClassifier(nn.Module):
    """Blocks of convolution and soft clustering; readouts (mean and max over clusters) are added up and go through a perceptron.

    Arguments:
        in_features: of a node.
        num_classes: of a graph.
        largest: nodes of the largest graph; block i makes ⌈largest · ratio^i⌉ clusters.
        width, depth, dropout: as of `SparseHierarchicalClassifier`.

    Attributes:
        pooling_loss: link and entropy losses of the last forward pass, to be added to the cross-entropy.

    Shapes: x (N, in_features), edge_index (2, E), edge_weight (E,), batch (N,) -> (graphs, num_classes).
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        largest: int,
        width: int = 64,
        depth: int = 3,
        ratio: float = 0.25,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if min(largest, depth) < 1 or not 0 < ratio <= 1:
            raise ValueError(
                f"largest and depth must be 1 or more and ratio in (0, 1], got {largest}, {depth} and {ratio}."
            )
        sizes = [in_features] + [width] * (depth - 1)
        self.convs = nn.ModuleList(DenseMeanConv(size, width) for size in sizes)
        self.clusters = nn.ModuleList(
            DenseMeanConv(size, math.ceil(largest * ratio**i)) for i, size in enumerate(sizes, 1)
        )
        self.head = HiddenClassifier(2 * width, width, num_classes, dropout)
        self.pooling_loss = torch.zeros(())

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "B K"]:
        check_edges(edge_index, len(x))
        batch = edge_index.new_zeros(len(x)) if batch is None else batch
        h, mask = to_dense_batch(x, batch)
        a = to_dense_adj(edge_index, batch, edge_weight, h.shape[1], len(h)).to(x.dtype)
        readouts, losses, valid = [], [], mask
        for conv, clusters in zip(self.convs, self.clusters, strict=True):
            h, a, link, entropy = dense_diff_pool(conv(h, a).relu(), a, clusters(h, a), valid)
            readouts.append(torch.cat([h.mean(1), h.amax(1)], 1))
            losses.append(link + entropy)
            valid = None
        self.pooling_loss = torch.stack(losses).sum()
        return self.head(torch.stack(readouts).sum(0))

"""Path neural networks: a node adds up what an LSTM reads along all the paths that start at it, longer ones in later layers.

    h_v ← ReLU(BN(h_v + Σ_{p ∈ P_v^k} LSTM(h_{p_k}, …, h_{p_1}, h_v))),   k = 1 … K

The LSTM is one for all layers and reads a path from its end, so that v comes last. P_v^k are the paths of k edges: one shortest path to
each node (SP), all shortest (SP+) or all simple paths (AP); with AP every state has the embedded distance of its node from v beside it.

G. Michel, G. Nikolentzos, J. Lutzeyer, M. Vazirgiannis, Path Neural Networks: Expressive and Accurate Graph Neural Networks, 2023,
arXiv:2306.05955.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.nn import global_add_pool

from ziggurat.data.graphs.paths import PathKind, Paths, path_tensor
from ziggurat.graphs.propagation import check_edges
from ziggurat.graphs.staged import StagedGraphs
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier

Norm = Literal["batch", "none"]


def normalisation(kind: Norm, width: int) -> nn.Module:
    """Batch normalisation, or none as in the study of expressiveness."""
    if kind not in ("batch", "none"):
        raise ValueError(f"norm must be 'batch' or 'none', got {kind!r}.")
    return nn.BatchNorm1d(width) if kind == "batch" else nn.Identity()


def taken(rows: Float[Tensor, "N d"], index: Int64[Tensor, "P L"]) -> Float[Tensor, "P L d"]:
    """rows[index], with a faster gradient."""
    return rows.index_select(0, index.flatten()).view(*index.shape, rows.shape[1])


class PathLSTM(nn.Module):
    """Weights of one LSTM layer under the names of `nn.LSTM`; `read` may be called once a layer.

    Shapes of `read`: states (P, L, in_channels) -> (P, width), the last hidden state.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.empty(4 * width, in_channels))
        self.weight_hh_l0 = nn.Parameter(torch.empty(4 * width, width))
        self.bias_ih_l0 = nn.Parameter(torch.empty(4 * width))
        self.bias_hh_l0 = nn.Parameter(torch.empty(4 * width))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def read(self, states: Float[Tensor, "P L C"]) -> Float[Tensor, "P d"]:
        """The last hidden state of each row."""
        h = c = states.new_zeros(len(states), self.weight_hh_l0.shape[1])
        for step in states.unbind(1):
            h, c = torch.lstm_cell(step, (h, c), self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)
        return h


class PathConv(nn.Module):
    """One layer: adds to every node what the LSTM reads along its paths.

    Arguments:
        width: d.
        norm: behind the sum.
        dropout: on the states that the LSTM reads.

    Shapes: h (N, width), paths of (P, k + 1), an LSTM that may serve other layers too, and the embedded distances (K + 1, width) where
    they are encoded -> (N, width).
    """

    def __init__(self, width: int, norm: Norm = "batch", dropout: float = 0.0) -> None:
        super().__init__()
        self.norm, self.act, self.dropout = normalisation(norm, width), nn.ReLU(), nn.Dropout(dropout)

    def forward(
        self, h: Float[Tensor, "N d"], paths: Paths, lstm: PathLSTM, distances: Float[Tensor, "K d"] | None = None
    ) -> Float[Tensor, "N d"]:
        states = taken(self.dropout(h), paths.nodes)
        if distances is not None:
            states = torch.cat([states, taken(distances, paths.distances)], 2)
        read = torch.zeros_like(h).index_add(0, paths.nodes[:, -1], lstm.read(states))
        return self.act(self.norm(h + read))


class SumClassifier(Classifier):
    """A hidden layer with ReLU and dropout, then the classifier: (B, width) -> (B, num_classes)."""

    def __init__(self, width: int, num_classes: int, dropout: float) -> None:
        super().__init__(width, num_classes, pool="none", dropout=dropout)
        self.hidden = nn.Sequential(nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Float[Tensor, "B d"], pre_logits: bool = False) -> Float[Tensor, "B K"]:
        return super().forward(self.hidden(x), pre_logits)


class PathNN(StagedGraphs):
    """Layers of paths of 1, 2, … K edges, the sum over the nodes, and a perceptron.

    Arguments:
        in_features: of a node.
        num_classes: 0 gives features.
        kind: of paths, "SP", "SP+" or "AP"; with "SP" the result depends on the order of the nodes.
        width: d.
        length: K, also the number of layers.
        distances: encodes distances; None does it for "AP", which needs it.
        norm: "none" is for studies of what can be told apart.
        dropout: in the layers and in the head.

    Shapes: x (N, in_features), edge_index (2, E), batch (N,) -> (graphs, num_classes); weights are not used, and the paths are listed in
    every call. `forward_batch` takes a batch of graphs that `AddPaths` has listed before. Features are the sums over the nodes (graphs,
    width) after each layer.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        kind: PathKind = "SP+",
        width: int = 64,
        length: int = 3,
        distances: bool | None = None,
        norm: Norm = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if kind not in ("SP", "SP+", "AP") or length < 1:
            raise ValueError(f"kind must be 'SP', 'SP+' or 'AP' and length 1 or more, got {kind!r} and {length}.")
        encoded = kind == "AP" if distances is None else distances
        self.kind, self.length = kind, length
        sizes = (in_features, width, width)
        self.stem = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(a, b, bias=norm == "none"), normalisation(norm, b), nn.ReLU())
                for a, b in pairwise(sizes)
            )
        )
        self.lstm = PathLSTM(2 * width if encoded else width, width)
        self.distance = nn.Parameter(torch.randn(length + 1, width)) if encoded else None
        self.stages = nn.ModuleList(PathConv(width, norm, dropout) for _ in range(length))
        self.channels, self.num_features = (width,) * length, width
        self.head = SumClassifier(width, num_classes, dropout)

    def features_of(
        self, x: Float[Tensor, "N F"], paths: list[Paths], batch: Int64[Tensor, " N"]
    ) -> list[Float[Tensor, "B d"]]:
        """Sums over the nodes after each layer, for listed paths."""
        if len(paths) != self.length:
            raise ValueError(f"the network has layers for paths of 1 to {self.length} edges, got {len(paths)} lengths.")
        x, features = self.stem(x), []
        for stage, own in zip(self.stages, paths, strict=True):
            x = self.run(stage, x, own, self.lstm, self.distance)
            features.append(global_add_pool(x, batch))
        return features

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> list[Tensor]:
        check_edges(edge_index, len(x))
        batch = edge_index.new_zeros(len(x)) if batch is None else batch
        return self.features_of(x, path_tensor(edge_index, len(x), self.kind, self.length), batch)

    def forward_batch(self, data: Any) -> Float[Tensor, "B K"]:
        """The same for a `torch_geometric` batch whose graphs `AddPaths` has made with this kind and length."""
        return self.forward_head(self.features_of(data.x, data.paths(), data.batch))

    def recipe(self, lr: float | None = None) -> Recipe:
        """Adam at 1e-3, as in the paper."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 1e-3))

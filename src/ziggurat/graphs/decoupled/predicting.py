"""First predict from each node's own features, then propagate the predictions: what DAGNN and LazyGNN have in common."""

from __future__ import annotations

from collections.abc import Iterable

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.nn import global_mean_pool

from ziggurat.graphs.propagation import gcn_norm
from ziggurat.graphs.sparse_operator import SparseOperator, sparse_operator
from ziggurat.nn.staged import Staged


class OnGraph(list[Tensor]):
    """The features of every stage, and what the head propagates by: the normalised adjacency `step`, and each node's graph (`batch`)."""

    def __init__(self, features: Iterable[Tensor], step: SparseOperator, batch: Tensor | None = None) -> None:
        super().__init__(features)
        self.step, self.batch = step, batch


class PredictThenPropagate(Staged):
    """Stages that see no edges, and a head `head(hidden, step, pre_logits)` that classifies and propagates by `step(z)` = S z.

    `forward_head` takes the very list that `forward_features` returned, since the graph travels in it.

    Shapes: x (N, F), edge_index (2, E), edge_weight (E,) -> (N, num_classes); with `batch` (N,) naming each node's graph, the mean
    over each graph's nodes: (graphs, num_classes).
    """

    input = "graph"
    sequential = False

    def __init__(self, stem: nn.Module, stages: list[nn.Module], channels: tuple[int, ...], head: nn.Module) -> None:
        super().__init__()
        self.stem, self.stages, self.head = stem, nn.ModuleList(stages), head
        self.channels, self.num_features = channels, channels[-1]

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> OnGraph:
        step = sparse_operator(*gcn_norm(edge_index, edge_weight, len(x), dtype=x.dtype), len(x))
        return OnGraph(super().forward_features(x), step, batch)

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        if not isinstance(features, OnGraph):
            raise ValueError(
                f"the head of {type(self).__name__} takes the very list that its forward_features returned."
            )
        rows = self.head(features[-1], features.step, pre_logits=pre_logits)
        return rows if features.batch is None else global_mean_pool(rows, features.batch)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> Tensor:
        return self.forward_head(self.forward_features(x, edge_index, edge_weight, batch))

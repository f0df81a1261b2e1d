"""What networks of graphs share: the named inputs, and one row a graph where several graphs are given as one."""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor
from torch_geometric.nn import global_mean_pool

from ziggurat.nn.staged import Staged


class StagedGraph(Staged):
    """A network with features of nodes at every stage. A subclass defines `forward_features` with the inputs below.

    Shapes: x (N, F), edge_index (2, E), edge_weight (E,) -> (N, num_classes); with `batch` (N,) naming each node's graph, the head takes
    the mean over each graph's nodes: (graphs, num_classes).
    """

    input = "graph"
    sequential = False

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> Tensor:
        features = self.forward_features(x, edge_index, edge_weight, batch)  # type: ignore[call-arg]
        if batch is not None:
            features = [global_mean_pool(level, batch) for level in features]
        return self.forward_head(features)


class StagedGraphs(Staged):
    """A network of whole graphs, whose features are rows of graphs already. A subclass defines `forward_features` with the inputs below.

    Shapes: x (N, F), edge_index (2, E), edge_weight (E,), batch (N,) naming each node's graph -> (graphs, num_classes); without `batch`
    all nodes are one graph.
    """

    input = "graphs"
    sequential = False

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> Tensor:
        return self.forward_head(self.forward_features(x, edge_index, edge_weight, batch))  # type: ignore[call-arg]

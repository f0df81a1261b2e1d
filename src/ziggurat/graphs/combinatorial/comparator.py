"""A network that says which of two graphs has the larger independent set.

Vertices start from zero; three layers mix what each vertex holds with the sum over itself and its neighbours and the sum over everything
else, and the mean over the vertices goes through a small head to one score. Two scores are the logits of a pair:

    X ← LayerNorm(GELU([S X, (A + I) F X, (1 − A) C X])),   X = 0 at first,   score = w [h_3, h_1]

Biases break the zero start: a layer's first bias is multiplied by degrees. The first layer's matrices meet zeros only; they are there, as
in the paper's code, and do not learn.

L. Brusca, L. Quaedvlieg, S. Skoulakis, G. Chrysos, V. Cevher, Maximum Independent Set: Self-Training through Dynamic Programming, 2023,
arXiv:2310.18672.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import gelu

from ziggurat.graphs.combinatorial.dense import DenseGraphs, dense_batch


class Mixing(nn.Module):
    """One layer: a vertex itself, its neighbourhood, and its anti-neighbourhood, which counts the vertex, too.

    Arguments:
        width: D of each of the three.

    Shapes: x (B, n, 3D), or (1, 1, 3D) where all vertices are alike, adjacency (B, n, n), present (B, n) -> (B, n, 3D).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.itself, self.near, self.far = (nn.Linear(3 * width, width) for _ in range(3))
        self.norm = nn.LayerNorm(3 * width)

    def forward(
        self, x: Float[Tensor, "#B #n C"], adjacency: Float[Tensor, "B n n"], present: Bool[Tensor, "B n"]
    ) -> Float[Tensor, "B n C"]:
        sent = torch.cat([self.near(x), self.far(x)], 2) * present.to(x.dtype)[..., None]
        near, far = sent.chunk(2, 2)
        linked_near, linked_far = (adjacency @ sent).chunk(2, 2)
        others = far.sum(1, keepdim=True) - linked_far
        own = self.itself(x).expand(near.shape)
        return self.norm(gelu(torch.cat([own, linked_near + near, others], 2)))


class MISComparator(nn.Module):
    """A score for every graph; of two graphs the one with the higher score should have the larger independent set.

    Arguments:
        width: D.
        depth: layers.

    Shapes: x (N, F), of which only the number of rows counts, edge_index (2, E), edge_weight, which has no say, batch (N,) ->
    (graphs, 1). Directions and loops are left out.
    """

    input = "graphs"

    def __init__(self, width: int = 32, depth: int = 3) -> None:
        super().__init__()
        if width < 1 or depth < 1:
            raise ValueError(f"width and depth must be 1 or more, got {width} and {depth}.")
        self.width = width
        self.layers = nn.ModuleList(Mixing(width) for _ in range(depth))
        for linear in (self.layers[0].itself, self.layers[0].near, self.layers[0].far):
            linear.weight.requires_grad_(False)
        self.fc1, self.fc2, self.fc3 = nn.Linear(3 * width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.last = nn.Linear(2 * width, 1)

    def score(self, graphs: DenseGraphs) -> Float[Tensor, " B"]:
        """One number a graph."""
        present = graphs.present
        adjacency = graphs.adjacency.to(self.last.weight.dtype)
        x = adjacency.new_zeros(1, 1, 3 * self.width)
        for layer in self.layers:
            x = layer(x, adjacency, present)
        weight = present.to(x.dtype)[..., None]
        mean = (x * weight).sum(1) / weight.sum(1).clamp_min(1)
        first = self.norm1(self.fc1(mean).relu())
        hidden = self.norm3(self.fc3(self.norm2(self.fc2(first).relu())).relu())
        return self.last(torch.cat([hidden, first], 1))[:, 0]

    def compare(self, first: DenseGraphs, second: DenseGraphs) -> Float[Tensor, "B 2"]:
        """Logits of pairs of graphs with equal padding: softmax gives how likely each one has the larger set."""
        both = DenseGraphs(*(torch.cat(pair) for pair in zip(first, second, strict=True)))
        return torch.stack(self.score(both).chunk(2), 1)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "G 1"]:
        batch = torch.zeros(len(x), dtype=torch.int64) if batch is None else batch
        return self.score(dense_batch(edge_index, batch, x.dtype))[:, None]

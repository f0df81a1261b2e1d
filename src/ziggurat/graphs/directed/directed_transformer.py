"""A transformer of directed graphs: every node attends to all nodes of its graph, and knows its place from magnetic eigenvectors.

    code of v = (Re φ_1(v), Im φ_1(v), …),   φ_1 … φ_k the eigenvectors of the magnetic Laplacian with the lowest eigenvalues

One of the sequence-based networks of the survey of directed graphs (`profile.directed_taxonomy`).
S. Geisler, Y. Li, D. Mankowitz, A. Cemgil, S. Günnemann, C. Paduraru, Transformers Meet Directed Graphs, 2023, arXiv:2302.00049.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.nn import global_mean_pool

from ziggurat.graphs.directed.operators import magnetic_laplacian
from ziggurat.graphs.propagation import check_edges
from ziggurat.graphs.staged import StagedGraphs
from ziggurat.nn.staged import Classifier


@torch.no_grad()
def magnetic_positions(
    edge_index: Int64[Tensor, "2 E"],
    edge_weight: Float[Tensor, " E"] | None,
    num_nodes: int,
    count: int,
    charge: float = 0.1,
) -> Float[Tensor, "N K"]:
    """Real and imaginary parts of the `count` lowest eigenvectors, times √N; zeros where there are fewer. float64.

    Each eigenvector is turned so that its largest entry is real and positive: it is known up to a phase only. Where eigenvalues are equal,
    any basis may come out.
    """
    weight = None if edge_weight is None else edge_weight.double()
    _, vectors = torch.linalg.eigh(magnetic_laplacian(edge_index, weight, num_nodes, charge, torch.float64))
    vectors = vectors[:, :count]
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    vectors = vectors * (largest.conj() / largest.abs()) * num_nodes**0.5
    codes = torch.stack([vectors.real, vectors.imag], 2)
    missing = codes.new_zeros(num_nodes, count - codes.shape[1], 2)
    return torch.cat([codes, missing], 1).flatten(1)


class AttentionBlock(nn.Module):
    """Attention among the nodes of each graph, then a perceptron; normalised in front of both.

    Shapes: x (N, width), apart (N, N) True where two nodes are of different graphs -> (N, width).
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, apart: Tensor | None) -> Tensor:
        h = self.before(x)[None]
        x = x + self.attention(h, h, h, attn_mask=apart, need_weights=False)[0][0]
        return x + self.perceptron(self.between(x))


class DirectedTransformer(StagedGraphs):
    """Blocks of full attention on features plus magnetic position codes.

    Arguments:
        in_features, num_classes: 0 classes gives features.
        width, depth, heads: of the blocks and how many.
        eigenvectors, charge: of the position codes.
        dropout: in the blocks.

    Shapes: x (N, F), edge_index (2, E) directed, edge_weight (E,), batch (N,) -> (graphs, num_classes), the mean over each graph's nodes
    is classified; without `batch` (N, num_classes). Time and memory grow with N², the eigenvectors with the cube of each graph's nodes.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        eigenvectors: int = 4,
        charge: float = 0.1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(depth, eigenvectors) < 1 or width % heads:
            raise ValueError(
                f"depth and eigenvectors must be 1 or more and width a multiple of heads, got {depth}, {eigenvectors}, {width} and {heads}."
            )
        self.eigenvectors, self.charge = eigenvectors, charge
        self.stem, self.place = nn.Linear(in_features, width), nn.Linear(2 * eigenvectors, width, bias=False)
        self.stages = nn.ModuleList(AttentionBlock(width, heads, dropout) for _ in range(depth))
        self.channels, self.num_features = (width,) * depth, width
        self.head = Classifier(width, num_classes, pool="none")

    def positions(
        self, edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int, batch: Tensor | None
    ) -> Float[Tensor, "N K"]:
        """The codes, graph by graph."""
        if batch is None:
            return magnetic_positions(edge_index, edge_weight, num_nodes, self.eigenvectors, self.charge)
        codes = torch.zeros(num_nodes, 2 * self.eigenvectors, dtype=torch.float64, device=batch.device)
        for graph in torch.unique(batch):
            nodes = (batch == graph).nonzero().flatten()
            new = torch.zeros_like(batch).index_copy(0, nodes, torch.arange(len(nodes), device=batch.device))
            own = batch[edge_index[0]] == graph
            weight = None if edge_weight is None else edge_weight[own]
            found = magnetic_positions(new[edge_index[:, own]], weight, len(nodes), self.eigenvectors, self.charge)
            codes = codes.index_copy(0, nodes, found)
        return codes

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> list[Tensor]:
        check_edges(edge_index, len(x))
        apart = None if batch is None else batch[:, None] != batch[None]
        x = self.stem(x) + self.place(self.positions(edge_index, edge_weight, len(x), batch).to(x.dtype))
        features: list[Tensor] = []
        for stage in self.stages:
            x = self.run(stage, x, apart)
            features.append(x)
        return features if batch is None else [*features[:-1], global_mean_pool(x, batch)]

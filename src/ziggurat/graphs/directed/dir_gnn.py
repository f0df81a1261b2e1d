"""Dir-GNN: a node listens apart to the nodes that it points to and to those that point to it.

    h = W x + a A_dir x W_out + (1 − a) A_dirᵀ x W_in,   A_dir = D_out^-1/2 A D_in^-1/2

One of the message-passing networks of the survey of directed graphs (`profile.directed_taxonomy`).
E. Rossi, B. Charpentier, F. Di Giovanni, F. Frasca, S. Günnemann, M. Bronstein, 2023, arXiv:2305.10498.
"""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.graphs.directed.holonets import FaberNet
from ziggurat.graphs.directed.operators import dir_norm
from ziggurat.graphs.sparse_operator import SparseOperator, sparse_operator


class DirGNNConv(nn.Module):
    """The convolution, with the normalisation of a GCN for both directions.

    Arguments:
        in_channels, out_channels: widths.
        alpha: a in [0, 1], the part of the nodes that a node points to.
        root: adds W x and the bias.

    Shapes: x (N, in_channels), edge_index (2, E) directed, edge_weight (E,) -> (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, alpha: float = 0.5, root: bool = True) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be between 0 and 1, got {alpha}.")
        self.alpha = alpha
        self.outward = nn.Linear(in_channels, out_channels, bias=False)
        self.inward = nn.Linear(in_channels, out_channels, bias=False)
        self.root = nn.Linear(in_channels, out_channels) if root else None

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N C"]:
        edges, weight = dir_norm(edge_index, edge_weight, len(x), dtype=x.dtype)
        along = sparse_operator(edges, weight, len(x))
        sides = self.alpha * _side(along.transposed, self.outward, x)
        sides = sides + (1 - self.alpha) * _side(along, self.inward, x)
        return sides if self.root is None else sides + self.root(x)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


def _side(operator: SparseOperator, linear: nn.Linear, x: Tensor) -> Tensor:
    """Propagates on the narrower side of the weights."""
    return operator(linear(x)) if linear.out_features < linear.in_features else linear(operator(x))


def dir_gnn(
    in_features: int, num_classes: int, width: int = 64, depth: int = 3, alpha: float = 0.5, dropout: float = 0.0
) -> FaberNet:
    """The paper's network: convolutions without W x, ReLU, rows of length one, and all layers in front of the classifier.

    `FaberConv` of order 1 with exponent 1/2 is this convolution, so that it is a `FaberNet`.
    """
    return FaberNet(in_features, num_classes, width, depth, 1, alpha, 0.5, act="relu", dropout=dropout)

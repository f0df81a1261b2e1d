"""The encoder of patches: layers of messages inside every patch, which a node's copies in several patches agree on between the layers."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.nn import GINEConv
from torch_geometric.utils import scatter

from ziggurat.data.graphs.patches import POWERS


def means(x: Float[Tensor, "M d"], group: Int64[Tensor, " M"], count: int) -> Float[Tensor, "n d"]:
    """The mean of the rows of each group; zeros where it has none."""
    return scatter(x, group, 0, count, "mean")


class GINELayer(nn.Module):
    """x + dropout(ReLU(BN(MLP(x_v + Σ_{u → v} ReLU(x_u + e_uv))))), the layer of W. Hu et al., 2020, arXiv:1905.12265, with a residual.

    Shapes: x (N, width), edge_index (2, E), edges (E, width) -> (N, width).
    """

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = GINEConv(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width, bias=False)))
        self.norm, self.act, self.dropout = nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "N d"], edge_index: Int64[Tensor, "2 E"], edges: Float[Tensor, "E d"]
    ) -> Float[Tensor, "N d"]:
        return x + self.dropout(self.act(self.norm(self.conv(x, edge_index, edges))))


class PatchShare(nn.Module):
    """Adds ReLU(BN(W · mean of the patch)) to every copy and then gives all copies of a node their mean.

    Shapes: x (M, width), the patch and the node of each copy, and how many of both there are -> (M, width).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())

    def forward(
        self, x: Float[Tensor, "M d"], patch: Int64[Tensor, " M"], node: Int64[Tensor, " M"], patches: int, nodes: int
    ) -> Float[Tensor, "M d"]:
        x = x + self.mix(means(x, patch, patches)[patch])
        return means(x, node, nodes)[node]


class PatchEncoder(nn.Module):
    """Layers of messages on the disjoint union of patches, and a vector for each patch.

    Arguments:
        in_features: of a node.
        width: of nodes and patches.
        depth: layers; a `PatchShare` stands between two of them.
        edge_features: of an edge, in `edge_attr`; 1 takes ones where there are none.
        code_size: of the position of a node in `code` (walks back to it, or eigenvectors of the Laplacian); 0: none.
        patch_code: whether the position of a patch is added to its vector.
        dropout: in the layers.

    Shapes: a batch of B `PatchData` with P patches each -> copies (M, width), patches (B, P, width); empty ones are zero.
    """

    def __init__(
        self,
        in_features: int,
        width: int = 128,
        depth: int = 4,
        edge_features: int = 1,
        code_size: int = 0,
        patch_code: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"an encoder of patches needs a depth of 1 or more, got {depth}.")
        self.node, self.edge = nn.Linear(in_features, width), nn.Linear(edge_features, width)
        self.code = nn.Linear(code_size, width) if code_size else None
        self.patch_code = nn.Linear(POWERS, width) if patch_code else None
        self.layers = nn.ModuleList(GINELayer(width, dropout) for _ in range(depth))
        self.share = nn.ModuleList(PatchShare(width) for _ in range(depth - 1))

    def edges(self, data: Any) -> Float[Tensor, "K d"]:
        """The embedded edges of the patches."""
        count, given = data.edge_index.shape[1], data.edge_attr
        given = data.x.new_ones(count, 1) if given is None else given.view(count, -1)
        if given.shape[1] != self.edge.in_features:
            raise ValueError(
                f"edges have {given.shape[1]} features, the network takes {self.edge.in_features}; build it with edge_features="
                f"{given.shape[1]}."
            )
        return self.edge(given)[data.patch_edge]

    def nodes(self, data: Any) -> Float[Tensor, "N d"]:
        """The embedded nodes, with their positions where these are known to the network."""
        if self.code is None:
            return self.node(data.x)
        code = getattr(data, "code", None)
        if code is None or code.shape[1] != self.code.in_features:
            raise ValueError(
                f"the network takes positions of {self.code.in_features} numbers in `code`; add them with torch_geometric's "
                f"AddRandomWalkPE({self.code.in_features}, 'code') or AddLaplacianEigenvectorPE, in front of GraphPatches."
            )
        return self.node(data.x) + self.code(code.to(data.x.dtype))

    def forward(self, data: Any) -> tuple[Float[Tensor, "M d"], Float[Tensor, "B P d"]]:
        mask = data.patch_mask
        x, edges = self.nodes(data)[data.patch_node], self.edges(data)
        for i, layer in enumerate(self.layers):
            if i:
                x = self.share[i - 1](x, data.patch_of, data.patch_node, mask.numel(), len(data.x))
            x = layer(x, data.patch_edges, edges)
        tokens = means(x, data.patch_of, mask.numel()).unflatten(0, mask.shape)
        if self.patch_code is not None:
            tokens = tokens + self.patch_code(data.patch_code.to(x.dtype))
        return x, tokens.masked_fill(~mask[:, :, None], 0)

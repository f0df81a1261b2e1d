"""Sheaf neural networks: every edge knows how the features of its two ends are to be compared, and diffusion follows these relations.

    (δx)_e = F_ve x_v − F_ue x_u,   L_F = δᵀ δ,   Δ = D^-1/2 L_F D^-1/2,   Y = ρ((I − Δ)(I ⊗ B) X A)

Features of a node live in a stalk R^d, and a restriction map takes them to the stalk R^k of each edge e = (u, v). The maps are given by
the domain: signs, rotations, any linear relation. With the identity everywhere it is the graph convolution without loops.

J. Hansen, T. Gebhart, Sheaf Neural Networks, 2020, arXiv:2012.06333.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.nn import global_mean_pool

from ziggurat.graphs.propagation import check_edges
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier, Staged


def constant_sheaf(
    edge_index: Int64[Tensor, "2 E"], stalk: int = 1, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "E 2 d d"]:
    """The identity at both ends of every edge: the sheaf of an ordinary graph."""
    eye = torch.eye(stalk, dtype=dtype, device=edge_index.device)
    return eye.expand(edge_index.shape[1], 2, stalk, stalk)


def signed_sheaf(sign: Float[Tensor, " E"]) -> Float[Tensor, "E 2 1 1"]:
    """Stalks of one number, which the ends of a negative edge expect to be opposite: F_ue = sign, F_ve = 1."""
    return torch.stack([sign, torch.ones_like(sign)], 1)[..., None, None]


def relation_sheaf(relations: Float[Tensor, "E d d"]) -> Float[Tensor, "E 2 d d"]:
    """The edge u → v expects x_v = R x_u: F_ue = R, F_ve = I."""
    eye = torch.eye(relations.shape[1], dtype=relations.dtype, device=relations.device).expand_as(relations)
    return torch.stack([relations, eye], 1)


def rotations(angle: Float[Tensor, " E"]) -> Float[Tensor, "E 2 2"]:
    """Rotations of the plane, for `relation_sheaf`."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)


class SheafLaplacian:
    """L_F, applied edge by edge or as a sparse matrix.

    Arguments:
        edge_index: (u, v) of every undirected edge. Once is enough; both directions count it twice, each with its own maps.
        maps: (E, 2, k, d); `maps[e, 0]` is that of the edge's first end u, `maps[e, 1]` that of v.
        num_nodes: N.
        edge_weight: factors of the edges' energy, not negative.
        loops: γ of the normaliser D + γ I. With 1 and the constant sheaf, I − Δ is the adjacency of a GCN, loops included.

    D is the block diagonal of L_F; its inverse root is that of the eigenvalues, and zero on the kernel, without gradient. A loop u = v with
    equal maps adds nothing.
    """

    def __init__(
        self,
        edge_index: Int64[Tensor, "2 E"],
        maps: Float[Tensor, "E 2 k d"],
        num_nodes: int,
        edge_weight: Float[Tensor, " E"] | None = None,
        loops: float = 0.0,
    ) -> None:
        check_edges(edge_index, num_nodes)
        if maps.ndim != 4 or tuple(maps.shape[:2]) != (edge_index.shape[1], 2):
            raise ValueError(
                f"maps must have shape (edges, 2, edge stalk, stalk), here ({edge_index.shape[1]}, 2, …), got {tuple(maps.shape)}; "
                "give one map for each end of each edge, in the order of edge_index."
            )
        if edge_weight is not None:
            maps = maps * edge_weight.to(maps.dtype).sqrt()[:, None, None, None]
        self.edge_index, self.maps, self.num_nodes, self.loops = edge_index, maps, num_nodes, loops

    def coboundary(self, x: Float[Tensor, "N d f"]) -> Float[Tensor, "E k f"]:
        """δ x: on each edge, by how much its ends disagree."""
        u, v = self.edge_index
        return self.maps[:, 1] @ x[v] - self.maps[:, 0] @ x[u]

    def __call__(self, x: Float[Tensor, "N d f"]) -> Float[Tensor, "N d f"]:
        """L_F x."""
        apart, (u, v) = self.coboundary(x), self.edge_index
        out = torch.zeros_like(x).index_add(0, v, self.maps[:, 1].mT @ apart)
        return out.index_add(0, u, -(self.maps[:, 0].mT @ apart))

    def energy(self, x: Float[Tensor, "N d f"]) -> Float[Tensor, ""]:
        """tr(xᵀ L_F x) = Σ_e |(δx)_e|²."""
        return self.coboundary(x).square().sum()

    def diagonal(self) -> Float[Tensor, "N d d"]:
        """The blocks of D + γ I."""
        (u, v), (first, second) = self.edge_index, self.maps.unbind(1)
        d = self.maps.shape[-1]
        blocks = self.loops * torch.eye(d, dtype=self.maps.dtype, device=u.device).expand(self.num_nodes, d, d)
        cross = first.mT @ second * (u == v).to(first.dtype)[:, None, None]
        return blocks.index_add(0, u, first.mT @ first - cross).index_add(0, v, second.mT @ second - cross.mT)

    @torch.no_grad()
    def inverse_root(self) -> Float[Tensor, "N d d"]:
        """(D + γ I)^-1/2, zero on its kernel."""
        exact = torch.promote_types(self.maps.dtype, torch.float32)  # no eigenvalues in half precision
        values, vectors = torch.linalg.eigh(self.diagonal().to(exact))
        kept = values > 1e-6 * values.amax(1, keepdim=True).clamp_min(1e-12)
        scale = torch.where(kept, values.clamp_min(1e-30) ** -0.5, torch.zeros_like(values))
        return ((vectors * scale[:, None]) @ vectors.mT).to(self.maps.dtype)

    def diffuse(self, x: Float[Tensor, "N d f"]) -> Float[Tensor, "N d f"]:
        """(I − Δ) x."""
        root = self.inverse_root()
        return x - root @ self(root @ x)

    def matrix(self, normalized: bool = False) -> Float[Tensor, "M M"]:
        """L_F, or with `normalized` Δ, as a sparse COO matrix of N d rows: d rows for each node."""
        (u, v), (first, second), d = self.edge_index, self.maps.unbind(1), self.maps.shape[-1]
        across = -(first.mT @ second)
        rows, cols = torch.cat([u, v, u, v]), torch.cat([u, v, v, u])
        blocks = torch.cat([first.mT @ first, second.mT @ second, across, across.mT])
        if normalized:
            root = self.inverse_root()
            blocks = root[rows] @ blocks @ root[cols]
        inside = torch.arange(d, device=u.device)
        row = (d * rows[:, None, None] + inside[:, None]).expand_as(blocks)
        col = (d * cols[:, None, None] + inside).expand_as(blocks)
        index, shape = torch.stack([row.flatten(), col.flatten()]), (self.num_nodes * d,) * 2
        return torch.sparse_coo_tensor(index, blocks.flatten(), shape, check_invariants=False).coalesce()


ACTS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh, "none": lambda x: x}
"""Activations by name."""


class SheafConv(nn.Module):
    """One layer, ρ((I − Δ)(I ⊗ B) X A): B acts inside the stalks, A on the channels.

    Arguments:
        in_channels, out_channels: f and f'.
        stalk: d.
        act: ρ: "relu", "tanh" or "none".
        loops: γ of `SheafLaplacian`.

    Shapes: x (N, d, f), or (N, d f) with the f channels of each coordinate side by side, edge_index (2, E), edge_weight (E,), maps
    (E, 2, k, d), the constant sheaf where there are none -> as x, with f' channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stalk: int = 1,
        act: Literal["relu", "tanh", "none"] = "relu",
        loops: float = 0.0,
    ) -> None:
        super().__init__()
        if act not in ACTS or stalk < 1:
            raise ValueError(
                f"act must be one of {', '.join(ACTS)} and stalk 1 or more, got {act!r} and {stalk}; choose among those."
            )
        self.stalk, self.act, self.loops = stalk, act, loops
        self.inside = nn.Parameter(torch.eye(stalk))
        self.channels = nn.Parameter(torch.empty(in_channels, out_channels))
        nn.init.xavier_uniform_(self.channels)

    def forward(
        self,
        x: Float[Tensor, "N *stalk f"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        maps: Float[Tensor, "E 2 k d"] | None = None,
    ) -> Float[Tensor, "N *stalk g"]:
        check_edges(edge_index, len(x))
        stalks = x.unflatten(1, (self.stalk, -1)) if x.ndim == 2 else x
        maps = constant_sheaf(edge_index, self.stalk, x.dtype) if maps is None else maps.to(x.dtype)
        laplacian = SheafLaplacian(edge_index, maps, len(x), edge_weight, self.loops)
        y = ACTS[self.act](laplacian.diffuse(self.inside @ stalks @ self.channels))
        return y.flatten(1) if x.ndim == 2 else y

    def extra_repr(self) -> str:
        f, g = self.channels.shape
        return f"{f}, {g}, stalk={self.stalk}, act={self.act!r}, loops={self.loops}"


class SheafNN(Staged):
    """Sheaf convolutions and a linear classifier on each node's stalk.

    Arguments:
        in_features: of a node, d coordinates with in_features / d channels each.
        num_classes: 0 gives features.
        stalk: d.
        width, depth: channels of every layer, and how many layers.
        act, loops: of each `SheafConv`.
        dropout: in front of every layer.

    Shapes: x (N, in_features), edge_index (2, E), edge_weight (E,), maps (E, 2, k, d), the constant sheaf where there are none ->
    (N, num_classes); with `batch` the mean over each graph's nodes is classified.
    """

    input = "graph"
    sequential = False

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        stalk: int = 1,
        width: int = 16,
        depth: int = 2,
        act: Literal["relu", "tanh", "none"] = "relu",
        loops: float = 0.0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if depth < 1 or in_features % stalk:
            raise ValueError(
                f"depth must be 1 or more and in_features a multiple of stalk, got {depth}, {in_features} and {stalk}."
            )
        self.stem = nn.Dropout(dropout)
        sizes = [in_features // stalk] + [width] * depth
        self.stages = nn.ModuleList(SheafConv(sizes[i], width, stalk, act, loops) for i in range(depth))
        self.dropouts = nn.ModuleList(nn.Dropout(dropout) for _ in range(depth - 1))
        self.channels, self.num_features = (stalk * width,) * depth, stalk * width
        self.head = Classifier(self.num_features, num_classes, pool="none")

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
        maps: Float[Tensor, "E 2 k d"] | None = None,
    ) -> list[Tensor]:
        x = self.stem(x)
        features: list[Tensor] = []
        for i, stage in enumerate(self.stages):
            x = self.run(stage, self.dropouts[i - 1](x) if i else x, edge_index, edge_weight, maps)
            features.append(x)
        return features

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
        maps: Float[Tensor, "E 2 k d"] | None = None,
    ) -> Tensor:
        features = self.forward_features(x, edge_index, edge_weight, maps=maps)
        if batch is not None:
            features = [*features[:-1], global_mean_pool(features[-1], batch)]
        return self.forward_head(features)

    def recipe(self, lr: float | None = None, weight_decay: float = 5e-4) -> Recipe:
        """Adam at 0.01, full-batch."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 0.01, weight_decay=weight_decay))

"""Cell complexes: features of the cells of each dimension, and which cells bound which, with signs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import networkx as nx
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch_geometric.data import Data


class CWComplex(NamedTuple):
    """Cells by dimension, 0 … K: nodes, edges, polygons (or simplices), …

    Fields:
        x: features (n_k, F_k) of the cells of each dimension.
        faces: for k = 1 … K the pairs (2, M_k) of a cell of dimension k − 1 and a cell of dimension k that it bounds.
        signs: for each pair +1 or −1, the entry of the boundary matrix B_k; ∂∂ = 0 means B_k B_{k+1} = 0.
        batch: for each dimension the complex (n_k,) that a cell belongs to; None: there is one.
    """

    x: tuple[Tensor, ...]
    faces: tuple[Tensor, ...]
    signs: tuple[Tensor, ...]
    batch: tuple[Tensor, ...] | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """n_0 … n_K."""
        return tuple(len(x) for x in self.x)

    def unsigned(self) -> CWComplex:
        """The same cells with |B|: who touches whom, without orientation."""
        return self._replace(signs=tuple(sign.abs() for sign in self.signs))

    def skeleton(self, dimension: int) -> CWComplex:
        """The cells up to a dimension."""
        batch = None if self.batch is None else self.batch[: dimension + 1]
        return CWComplex(self.x[: dimension + 1], self.faces[:dimension], self.signs[:dimension], batch)


def check_complex(cells: CWComplex) -> None:
    """Raises a `ValueError` where faces name cells that are not there, or where B_k B_{k+1} is not zero for signed faces."""
    if not len(cells.x) == len(cells.faces) + 1 == len(cells.signs) + 1:
        raise ValueError(
            f"{len(cells.x)} dimensions of cells need one fewer of faces and signs, got {len(cells.faces)} and {len(cells.signs)}."
        )
    for k, (faces, sign) in enumerate(zip(cells.faces, cells.signs, strict=True), 1):
        if faces.dtype != torch.int64 or faces.ndim != 2 or len(faces) != 2 or len(sign) != faces.shape[1]:
            raise ValueError(f"faces of dimension {k} must be int64 (2, M) with M signs, got {tuple(faces.shape)}.")
        for row, count, where in ((faces[0], cells.sizes[k - 1], k - 1), (faces[1], cells.sizes[k], k)):
            if len(row) and (row.min() < 0 or row.max() >= count):
                raise ValueError(
                    f"faces of dimension {k} name cell {int(row.max())} of dimension {where}, but there are {count}; "
                    "add its features or drop it."
                )
    for k in range(1, len(cells.faces)):
        if (cells.signs[k] < 0).any() and (boundary(cells, k).to_dense() @ boundary(cells, k + 1).to_dense()).any():
            raise ValueError(f"B_{k} B_{k + 1} is not zero: orient every cell of dimension {k + 1} along its boundary.")


def boundary(cells: CWComplex, k: int) -> Float[Tensor, "m n"]:
    """B_k (n_{k−1}, n_k) as a sparse matrix; column j is the boundary of cell j."""
    shape = (cells.sizes[k - 1], cells.sizes[k])
    sign = cells.signs[k - 1].to(cells.x[0].dtype)
    return torch.sparse_coo_tensor(cells.faces[k - 1], sign, shape, check_invariants=False)


def from_polygons(
    num_nodes: int,
    edges: Sequence[tuple[int, int]],
    polygons: Sequence[Sequence[int]],
    x: Sequence[Tensor] | None = None,
) -> CWComplex:
    """Nodes, edges (from the smaller node to the larger one) and polygons, each the walk of its nodes around.

    Arguments:
        edges: pairs; a pair that is named twice counts once.
        polygons: every side of one must be an edge. It is oriented along its walk.
        x: features of nodes, edges and polygons; ones where None.
    """
    pairs = sorted({(min(pair), max(pair)) for pair in edges})
    place = {pair: i for i, pair in enumerate(pairs)}
    low = [node for pair in pairs for node in pair]
    first = torch.tensor([low, [i // 2 for i in range(len(low))]], dtype=torch.int64).view(2, -1)
    second, signs = [], []
    for i, walk in enumerate(polygons):
        for a, b in zip(walk, [*walk[1:], walk[0]], strict=True):
            if (min(a, b), max(a, b)) not in place:
                raise ValueError(f"polygon {i} runs from {a} to {b}, which is no edge; add it or correct the walk.")
            second.append((place[min(a, b), max(a, b)], i))
            signs.append(1.0 if a < b else -1.0)
    counts = (num_nodes, len(pairs), len(polygons))
    features = tuple(torch.ones(n, 1) for n in counts) if x is None else tuple(x)
    faces = (first, torch.tensor(second, dtype=torch.int64).view(-1, 2).T.contiguous())
    cells = CWComplex(features, faces, (torch.tensor([-1.0, 1.0]).repeat(len(pairs)), torch.tensor(signs)))
    check_complex(cells)
    return cells


def rings(edge_index: Int64[Tensor, "2 E"], longest: int = 8) -> list[list[int]]:
    """The rings of a minimum cycle basis up to a length, each from its smallest node towards the smaller of its two neighbours; sorted."""
    graph = nx.Graph(sorted({(min(a, b), max(a, b)) for a, b in edge_index.T.tolist() if a != b}))
    found = []
    for ring in nx.minimum_cycle_basis(graph):
        if len(ring) <= longest:
            start = ring.index(min(ring))
            walk = ring[start:] + ring[:start]
            found.append(walk if walk[1] < walk[-1] else [walk[0], *walk[:0:-1]])
    return sorted(found)


def from_graph(data: Data, max_ring: int = 8) -> CWComplex:
    """Nodes and edges of an undirected graph, and its rings of at most `max_ring` nodes as polygons; each pair is one edge.

    Arguments:
        data: `edge_index`; `x` and `edge_attr` become the features of nodes and edges (of a pair, those that stand first), else ones.
    """
    pairs = [(min(a, b), max(a, b)) for a, b in data.edge_index.T.tolist()]
    first = {pair: i for i, pair in reversed(list(enumerate(pairs))) if pair[0] != pair[1]}
    edges, found = sorted(first), rings(data.edge_index, max_ring)
    count = int(data.num_nodes)
    nodes = torch.ones(count, 1) if data.x is None else data.x
    attributes = data.edge_attr
    rows = torch.tensor([first[pair] for pair in edges], dtype=torch.int64)
    if attributes is not None and attributes.ndim == 1:
        attributes = attributes.unsqueeze(1)
    sides = torch.ones(len(edges), 1) if attributes is None else attributes[rows]
    return from_polygons(count, edges, found, (nodes, sides.to(nodes.dtype), torch.ones(len(found), 1).to(nodes.dtype)))


def from_simplices(
    simplices: Sequence[Sequence[int]], num_nodes: int, top: int = 2
) -> tuple[CWComplex, list[list[tuple[int, ...]]]]:
    """The simplicial complex of all faces of the given simplices up to dimension `top`, nodes in ascending order.

    Returns: the complex, with ones as features, and for each dimension its simplices as tuples of nodes.
    """
    levels: list[set[tuple[int, ...]]] = [set() for _ in range(top + 1)]
    levels[0].update((node,) for node in range(num_nodes))
    for simplex in {tuple(sorted(set(s))) for s in simplices}:
        for size in range(2, min(len(simplex), top + 1) + 1):
            levels[size - 1].update(combinations(simplex, size))
    names = [sorted(level) for level in levels]
    faces, signs = [], []
    for below, level in pairwise(names):
        place = {simplex: i for i, simplex in enumerate(below)}
        pairs = [(place[s[:j] + s[j + 1 :]], i) for i, s in enumerate(level) for j in range(len(s))]
        faces.append(torch.tensor(pairs, dtype=torch.int64).view(-1, 2).T.contiguous())
        signs.append(torch.tensor([(-1.0) ** j for s in level for j in range(len(s))]))
    x = tuple(torch.ones(len(level), 1) for level in names)
    return CWComplex(x, tuple(faces), tuple(signs)), names


def batch_complexes(complexes: Sequence[CWComplex]) -> CWComplex:
    """Several complexes of the same dimension as one, with `batch` naming each cell's own."""
    depths = {len(cells.x) for cells in complexes}
    if len(depths) != 1:
        raise ValueError(f"complexes of one dimension can be batched, got {sorted(d - 1 for d in depths)}.")
    x, faces, signs, batch = [], [], [], []
    for k in range(depths.pop()):
        x.append(torch.cat([cells.x[k] for cells in complexes]))
        batch.append(
            torch.repeat_interleave(torch.arange(len(complexes)), torch.tensor([c.sizes[k] for c in complexes]))
        )
    for k in range(1, len(x)):
        sizes = torch.tensor([[c.sizes[k - 1], c.sizes[k]] for c in complexes])
        start = sizes.cumsum(0) - sizes
        faces.append(torch.cat([c.faces[k - 1] + s[:, None] for c, s in zip(complexes, start, strict=True)], 1))
        signs.append(torch.cat([c.signs[k - 1] for c in complexes]))
    return CWComplex(tuple(x), tuple(faces), tuple(signs), tuple(batch))

"""Road networks: a generator of drawn ones, and the merging of nodes that are only bends of a road.

A road network is `Data` with one row a road: `pos` (N, 2), `edge_index` (2, E), and columns of the roads such as `length` (E,).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch_geometric.data import Data

from ziggurat.data.seeds import derive


def smooth_field(rng: np.random.Generator, side: int, correlation: float) -> Float[np.ndarray, "S S"]:
    """Normal noise on a square grid, smoothed by a Gaussian of `correlation` cells and brought to mean 0 and variance 1."""
    field = gaussian_filter(rng.normal(size=(side, side)), correlation)
    return (field - field.mean()) / max(field.std(), 1e-12)


def largest_component(
    edge_index: Int64[Tensor, "2 E"], num_nodes: int
) -> tuple[Int64[Tensor, " M"], Int64[Tensor, " F"], Int64[Tensor, "2 F"]]:
    """Nodes and rows of `edge_index` that belong to the largest component, direction ignored, and its edges with new numbers."""
    source, target = edge_index.numpy()
    matrix = coo_matrix((np.ones(len(source), np.int8), (source, target)), shape=(num_nodes, num_nodes))
    part = connected_components(matrix, directed=False)[1]
    inside = torch.from_numpy(part == np.bincount(part).argmax())
    place, rows = inside.cumsum(0) - 1, inside[edge_index[0]].nonzero().flatten()
    return inside.nonzero().flatten(), rows, place[edge_index[:, rows]]


def road_like(side: int = 60, removed: float = 0.2, seed: int = 0) -> Data:
    """A drawn road network: a jittered grid, some of its roads removed, of which the largest component stays.

    Arguments:
        side: junctions along one side of the grid.
        removed: share of the roads that are taken away.
        seed: of positions, roads and lengths.

    Lengths are exp(0.5 F + 0.8 ε): F a smooth field with a correlation of 4 cells, taken as the mean of a road's ends, ε normal noise
    of each road. They do not follow from the positions, which therefore give nothing away.
    """
    if side < 2 or not 0 <= removed < 1:
        raise ValueError(f"side must be 2 or more and removed at least 0 and below 1, got {side} and {removed}.")
    rng, place = np.random.default_rng(derive(seed, "roads")), np.arange(side * side).reshape(side, side)
    pos = np.stack(np.divmod(np.arange(side * side), side), 1) + rng.uniform(-0.3, 0.3, (side * side, 2))
    along = [(place[:-1], place[1:]), (place[:, :-1], place[:, 1:])]
    edges = np.concatenate([np.stack([a.ravel(), b.ravel()]) for a, b in along], 1)
    edges = edges[:, np.sort(rng.permutation(edges.shape[1])[round(removed * edges.shape[1]) :])]
    field = smooth_field(rng, side, 4.0).ravel()
    length = np.exp(0.5 * field[edges].mean(0) + 0.8 * rng.normal(size=edges.shape[1]))
    nodes, rows, kept = largest_component(torch.from_numpy(edges), side * side)
    return Data(
        pos=torch.from_numpy(pos)[nodes],
        edge_index=kept,
        length=torch.from_numpy(length)[rows].float(),
        num_nodes=len(nodes),
    )


def merge_bends(graph: Data) -> Data:
    """The network of junctions: nodes with exactly two neighbours become part of the road that runs through them; lengths add up.

    Arguments:
        graph: `Data` with edge_index and length; directions, loops and further columns are dropped.

    Returns: `Data` with pos (where there is one), edge_index with every road once, length, and `junction` (M,), the old numbers. Of
    several roads between the same two junctions the shortest stays; roads that lead back to their start are dropped. Of repeated rows of
    the input the shortest counts, too. A ring without any junction disappears.
    """
    n, ends = int(graph.num_nodes), graph.edge_index.numpy()
    low, high, length = _shortest(ends.min(0), ends.max(0), graph.length.numpy().astype(np.float64), n)
    degree = np.bincount(np.concatenate([low, high]), minlength=n)
    bend = degree == 2
    inner = bend[low] & bend[high]
    chains = connected_components(coo_matrix((np.ones(inner.sum()), (low[inner], high[inner])), shape=(n, n)))[1]
    # an edge belongs to the chain of bends at either of its ends, or is a road of its own
    own = ~bend[low] & ~bend[high]
    chain = chains[np.where(bend[low], low, high)]
    total = np.bincount(chain[~own], length[~own], minlength=n)
    outer = ~own & ~inner
    junction = np.where(bend[low[outer]], high[outer], low[outer])
    order = np.argsort(chain[outer], kind="stable")
    pairs = junction[order].reshape(-1, 2).T  # every chain that is no ring has two ends
    joined = chain[outer][order][::2]
    a = np.concatenate([low[own], pairs.min(0)])
    b = np.concatenate([high[own], pairs.max(0)])
    a, b, length = _shortest(a, b, np.concatenate([length[own], total[joined]]), n)
    kept = np.flatnonzero(~bend)
    place = np.cumsum(~bend) - 1
    merged = Data(
        edge_index=torch.from_numpy(np.stack([place[a], place[b]])), length=torch.from_numpy(length).float(),
        junction=torch.from_numpy(kept), num_nodes=len(kept),
    )  # fmt: skip
    if graph.pos is not None:
        merged.pos = graph.pos[merged.junction]
    return merged


def _shortest(low: np.ndarray, high: np.ndarray, length: np.ndarray, n: int) -> tuple[np.ndarray, ...]:
    """Every pair of different nodes once, with the length of its shortest road; sorted."""
    apart = low != high
    low, high, length = low[apart], high[apart], length[apart]
    code = low.astype(np.int64) * n + high
    order = np.lexsort((length, code))
    first = np.unique(code[order], return_index=True)[1]
    kept = order[first]
    return low[kept].astype(np.int64), high[kept].astype(np.int64), length[kept]

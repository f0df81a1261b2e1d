"""Graphs from files: npz with arrays, GraphML, and lists of edges."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch_geometric.data import Data


def read_graph(path: Path) -> Data:
    """A graph: npz with `x`, `edge_index` (2, E), `y`, optional `edge_weight` and masks; GraphML; or two columns of node names.

    A graph without features gets its degree as the only one. Raises a `ValueError` that says what is wrong.
    """
    graph = _from_npz(path) if path.suffix == ".npz" else _from_networkx(path)
    graph.name, graph.kind, graph.task, graph.note = path.stem, "graph", "node classification", ""
    known = graph.y[graph.y >= 0] if "y" in graph else torch.zeros(0, dtype=torch.int64)
    graph.classes = tuple(str(c) for c in range(int(known.max()) + 1)) if len(known) else ()
    return graph


def _from_npz(path: Path) -> Data:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read as npz ({error}); save it again with numpy.savez and no objects."
        ) from None
    lacking = {"edge_index", "y"} - set(arrays)
    if lacking:
        raise ValueError(
            f"{path} has no array {', '.join(sorted(lacking))}; a graph needs edge_index (2, E), y (N,), and best x (N, F)."
        )
    edges, y = arrays["edge_index"], arrays["y"]
    if edges.ndim != 2 or edges.shape[0] != 2:
        raise ValueError(f"{path}: edge_index has the shape {edges.shape}; make it (2, E), sources in the first row.")
    if not np.issubdtype(edges.dtype, np.integer):
        raise ValueError(
            f"{path}: edge_index has the type {edges.dtype}; nodes are whole numbers, convert it with astype('int64')."
        )
    nodes = len(y)
    if edges.size and (edges.min() < 0 or edges.max() >= nodes):
        raise ValueError(
            f"{path}: edge_index names nodes {edges.min()} to {edges.max()}, but y has {nodes}; there are nodes 0 to {nodes - 1}."
        )
    graph = Data(
        edge_index=torch.from_numpy(edges.astype(np.int64)), y=torch.from_numpy(y.astype(np.int64)), num_nodes=nodes
    )
    graph.x = _features(path, arrays["x"], nodes) if "x" in arrays else degrees(graph)
    if "edge_weight" in arrays:
        weight = torch.from_numpy(arrays["edge_weight"].astype(np.float32))
        if len(weight) != graph.edge_index.shape[1] or not torch.isfinite(weight).all():
            raise ValueError(
                f"{path}: edge_weight must hold one finite number for each of the {graph.edge_index.shape[1]} edges."
            )
        graph.edge_weight = weight
    for name in ("train_mask", "val_mask", "test_mask"):
        if name in arrays:
            graph[name] = torch.from_numpy(arrays[name].astype(bool))
            if graph[name].shape != (nodes,):
                raise ValueError(
                    f"{path}: {name} has the shape {tuple(graph[name].shape)}; give one value for each of the {nodes} nodes."
                )
    return graph


def _features(path: Path, x: np.ndarray, nodes: int) -> torch.Tensor:
    if x.ndim != 2 or len(x) != nodes:
        raise ValueError(f"{path}: x has the shape {x.shape}; give one row for each of the {nodes} nodes of y.")
    if not np.isfinite(x).all():
        raise ValueError(f"{path}: x holds numbers that are not finite; fill or drop them first.")
    return torch.from_numpy(x.astype(np.float32))


def _from_networkx(path: Path) -> Data:
    try:
        if path.suffix == ".graphml":
            network: Any = nx.Graph(nx.read_graphml(path))
        else:
            network = nx.read_edgelist(path, comments="#", data=False)
    except Exception as error:  # networkx lets its parsers' own errors through
        raise ValueError(f"{path} cannot be read as a graph ({error}); see docs/data.md for the formats.") from None
    if not network.number_of_nodes():
        raise ValueError(f"{path} has no nodes.")
    names = list(network.nodes)
    place = {name: i for i, name in enumerate(names)}
    pairs = torch.tensor([[place[a], place[b]] for a, b in network.edges], dtype=torch.int64).view(-1, 2).T
    graph = Data(edge_index=torch.cat([pairs, pairs[:, pairs[0] != pairs[1]].flip(0)], 1), num_nodes=len(names))
    labels = [network.nodes[name].get("y", network.nodes[name].get("label")) for name in names]
    if all(label is not None for label in labels):
        graph.y = torch.from_numpy(np.unique([str(label) for label in labels], return_inverse=True)[1].astype(np.int64))
    else:
        graph.y = torch.full((len(names),), -1)
    graph.x = degrees(graph)
    graph.names = names
    return graph


def degrees(graph: Data) -> torch.Tensor:
    """Degree of each node as its only feature (N, 1)."""
    ones = torch.ones(graph.edge_index.shape[1])
    return torch.zeros(graph.num_nodes).index_add(0, graph.edge_index[0], ones).unsqueeze(1)

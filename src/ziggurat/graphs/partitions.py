"""A graph in parts, one for each process: the part's own nodes, and the halo that their predictions depend on.

With a halo as deep as the network has layers, a network that normalises by the targets' degrees says of a part's own nodes exactly what it
says of them on the whole graph; one that normalises by both ends' degrees, such as GCN, needs one hop more. Parts are written to files,
and a process reads its own only.

G. Karypis, V. Kumar, A Fast and High Quality Multilevel Scheme for Partitioning Irregular Graphs (METIS), 1998.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from safetensors.torch import load_file, save_file
from scipy import sparse
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import k_hop_subgraph

from ziggurat.data.batch import GraphBatch
from ziggurat.data.feeds import Labelled, Loader
from ziggurat.graphs.propagation import check_edges


def metis(edge_index: Int64[Tensor, "2 E"], num_nodes: int, parts: int) -> Int64[Tensor, " N"]:
    """The part of each node by METIS: parts of about equal size with few edges between them.

    Raises a `ValueError` where pymetis is not installed; `ziggurat.data.graphs.patches.partition` needs nothing, and is for small graphs.
    """
    try:
        import pymetis
    except ImportError as error:
        raise ValueError("METIS needs pymetis, which is not installed; pip install pymetis brings it.") from error
    check_edges(edge_index, num_nodes)
    if not 1 <= parts <= num_nodes:
        raise ValueError(f"a graph of {num_nodes} nodes has 1 to {num_nodes} parts, got {parts}.")
    source, target = edge_index[:, edge_index[0] != edge_index[1]].numpy()
    links = sparse.coo_matrix((np.ones(len(source)), (source, target)), shape=(num_nodes, num_nodes)).tocsr()
    both = (links + links.T).tocsr()
    adjacency = pymetis.CSRAdjacency(both.indptr.astype(np.int64), both.indices.astype(np.int64))
    return torch.tensor(pymetis.part_graph(parts, adjacency=adjacency)[1])


def cut(graph: Any, part: Int64[Tensor, " N"], hops: int, mask: str = "train_mask") -> Iterator[Data]:
    """The parts one after the other, each as a graph of its own whose nodes keep their order.

    Arguments:
        graph: with `x`, `edge_index`, `y` and the mask; `edge_weight` if there is one.
        part: of each node.
        hops: depth of the halo.
        mask: of the nodes to train on; in a part it holds for the part's own nodes only.

    Fields besides the graph's: `node` (n,), each node's number in the whole graph; `own` (n,), which nodes are not halo.
    """
    if hops < 0:
        raise ValueError(f"hops must be 0 or more, got {hops}.")
    if len(part) != graph.num_nodes:
        raise ValueError(f"{graph.num_nodes} nodes need a part each, got {len(part)}.")
    if mask not in graph:
        raise ValueError(f"the graph has no {mask}; its nodes must be split first.")
    weight = getattr(graph, "edge_weight", None)
    for number in range(int(part.max()) + 1):
        inside = (part == number).nonzero().flatten()
        node, edges, _, kept = k_hop_subgraph(inside, hops, graph.edge_index, True, graph.num_nodes)
        own = part[node] == number
        made = Data(x=graph.x[node], edge_index=edges, y=graph.y[node], node=node, own=own)
        made[mask] = graph[mask][node] & own
        if weight is not None:
            made.edge_weight = weight[kept]
        yield made


def write_parts(graph: Any, part: Int64[Tensor, " N"], hops: int, folder: str | Path, mask: str = "train_mask") -> Path:
    """Writes what `cut` gives as `part00000.safetensors`, …; a part without nodes to train on is an error, since its process would wait."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number, made in enumerate(cut(graph, part, hops, mask)):
        if not made[mask].any():
            raise ValueError(f"part {number} has no node in {mask}; make fewer parts.")
        path = folder / f"part{number:05}.safetensors"
        tensors = {name: value.contiguous() for name, value in made.to_dict().items()}
        save_file(tensors, f"{path}.unfinished")
        os.replace(f"{path}.unfinished", path)
    return folder


class PartFiles:
    """The files of `write_parts` as samples, each read when it is asked for."""

    def __init__(self, folder: str | Path) -> None:
        self.paths = sorted(Path(folder).glob("part*.safetensors"))
        if not self.paths:
            raise ValueError(f"{folder} holds no parts; write_parts makes them.")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Data:
        return Data(**load_file(self.paths[number]))


@dataclass(frozen=True)
class OnePart:
    """A part of a graph in every step: a `GraphBatch` with the loss on the part's own nodes.

    Arguments:
        mask: of the nodes to train on.
    """

    mask: str = "train_mask"

    order = Labelled.order

    def batch(self, dataset: PartFiles, index: Tensor, generator: torch.Generator) -> GraphBatch:
        if len(index) != 1:
            raise ValueError(f"a step takes one part on each process, got {len(index)}; make a multiple of processes.")
        part = dataset[int(index)]
        mask = part[self.mask]
        inputs = (part.x, part.edge_index, getattr(part, "edge_weight", None))
        return GraphBatch(inputs, part.y[mask], part.node[mask], mask=mask)


def part_loader(folder: str | Path, seed: int = 0, rank: int = 0, world: int = 1, mask: str = "train_mask") -> Loader:
    """A loader of the parts in a folder, in an order that depends on (seed, epoch) alone; of every `world` parts a process takes one."""
    return Loader(PartFiles(folder), OnePart(mask), 1, seed, rank=rank, world=world)

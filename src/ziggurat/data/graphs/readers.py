"""Readers of graphs, hypergraphs, complexes, road networks and message streams known by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from scipy.sparse import csr_matrix
from torch import Tensor

from ziggurat.data.datasets import Graphs
from ziggurat.data.graphs.molecules import TABLES, read_molecules
from ziggurat.data.sources import choose, locate

GEOMGCN = ("chameleon", "squirrel", "film", "texas", "wisconsin", "cornell")
FILTERED = {
    "chameleon_filtered": "hetero_chameleon_filtered_directed",
    "squirrel_filtered": "hetero_squirrel_filtered_directed",
}
TU = ("mutag", "ptc", "enzymes", "proteins", "nci1", "imdb_binary")
HYPERGRAPHS = {
    "cora_coauthorship": "hypergcn_coauthorship_cora",
    "cora_cocitation": "hypergcn_cocitation_cora",
    "citeseer_cocitation": "hypergcn_cocitation_citeseer",
    "pubmed_cocitation": "hypergcn_cocitation_pubmed",
}
SIMPLICES = {
    "contacts_primary": "simplices_contact_primary_school",
    "contacts_high": "simplices_contact_high_school",
    "email_enron": "simplices_email_Enron",
    "email_eu": "simplices_email_Eu",
}
HETERO = {
    "heco_acm": ("paper", {"p": "paper", "a": "author", "s": "subject"}),
    "heco_aminer": ("paper", {"p": "paper", "a": "author", "r": "reference"}),
    "heco_dblp": ("author", {"a": "author", "p": "paper", "c": "conference", "t": "term"}),
    "heco_freebase": ("movie", {"m": "movie", "a": "actor", "d": "director", "w": "writer"}),
}
"""Type that has the labels, and the letters of the types."""


def _features(file: Any, prefix: str = "feat") -> Tensor:
    data = file[f"{prefix}_data"].astype(np.float32)
    matrix = csr_matrix(
        (data, file[f"{prefix}_indices"], file[f"{prefix}_indptr"]), shape=tuple(file[f"{prefix}_shape"])
    )
    return torch.from_numpy(matrix.toarray())


def planetoid(name: str, split: Any, root: Any) -> Any:
    """Citation graphs with the public split; PubMed comes without features, of which most are missing."""
    from torch_geometric.data import Data

    choose(name, split, ("public",))
    with np.load(locate(name, root)[0], allow_pickle=False) as file:
        y = torch.from_numpy(file["labels"].astype(np.int64))
        graph = Data(edge_index=torch.from_numpy(file["edge_index"].astype(np.int64)), y=y, num_nodes=len(y))
        if name != "pubmed":
            graph.x = _features(file)
        for part in ("train", "val", "test"):
            mask = torch.zeros(len(y), dtype=torch.bool)
            mask[torch.from_numpy(file[f"{part}_idx"].astype(np.int64))] = True
            graph[f"{part}_mask"] = mask & (y >= 0)
    return described(graph, name, "features of 18,657 of its 19,717 nodes could not be had" if name == "pubmed" else "")


def geomgcn(name: str, split: Any, root: Any) -> Any:
    """Graphs with ten published splits, of which `split` chooses one (0 … 9)."""
    from torch_geometric.data import Data

    choose(name, split, tuple(range(10)))
    with np.load(locate(name, root)[0], allow_pickle=False) as file:
        edges = torch.from_numpy(file["edge_index"].astype(np.int64))
        if name == "cornell":  # stored undirected, each edge once
            edges = torch.cat([edges, edges.flip(0)], 1)
        y = torch.from_numpy(file["labels"].astype(np.int64))
        graph = Data(x=_features(file), edge_index=edges, y=y, num_nodes=len(y))
        for part in ("train", "val", "test"):
            graph[f"{part}_mask"] = torch.from_numpy(file[f"{part}_mask"][split or 0].astype(bool))
    return described(graph, name)


def described(graph: Any, name: str, note: str = "") -> Any:
    """The graph with what people ask first: `name`, `classes`, `kind`, `task`, `note`."""
    known = graph.y[graph.y >= 0]
    graph.name, graph.kind, graph.task, graph.note = name, "graph", "node classification", note
    graph.classes = tuple(str(c) for c in range(int(known.max()) + 1))
    return graph


def tu(name: str, split: Any, root: Any) -> Graphs:
    """Graphs with one-hot node tags `x` (ones where there are none), a class `y` and their test fold `fold`."""
    from torch_geometric.data import Data

    choose(name, split, ())
    with np.load(locate(name, root)[0], allow_pickle=False) as file:
        pointer, edges = file["node_ptr"].astype(np.int64), torch.from_numpy(file["edge_index"].astype(np.int64))
        tags = (
            torch.from_numpy(file["node_tag"].astype(np.int64))
            if "node_tag" in file.files
            else torch.zeros(int(pointer[-1])).long()
        )
        labels, folds = file["graph_label"].tolist(), file["fold10"].tolist()
    one_hot = torch.nn.functional.one_hot(tags).float()
    owner = torch.from_numpy(np.searchsorted(pointer, edges[0].numpy(), side="right") - 1)
    order = owner.argsort(stable=True)
    edges = edges[:, order]
    cuts = torch.bincount(owner, minlength=len(labels)).tolist()
    graphs = []
    for g, own in enumerate(edges.split(cuts, 1)):
        a, b = int(pointer[g]), int(pointer[g + 1])
        graphs.append(Data(x=one_hot[a:b], edge_index=own - a, y=torch.tensor([labels[g]]), fold=folds[g]))
    names = tuple(str(c) for c in range(max(labels) + 1))
    return Graphs(tuple(graphs), torch.tensor(labels), names, name)


def filtered(name: str, split: Any, root: Any) -> Any:
    """Directed web graphs without their repeated nodes, with ten published splits, of which `split` chooses one (0 … 9)."""
    from torch_geometric.data import Data

    choose(name, split, tuple(range(10)))
    with np.load(locate(FILTERED[name], root)[0], allow_pickle=False) as file:
        y, edges = torch.from_numpy(file["node_labels"]), torch.from_numpy(file["edges"].T.astype(np.int64))
        graph = Data(x=torch.from_numpy(file["node_features"]), edge_index=edges.contiguous(), y=y, num_nodes=len(y))
        for part in ("train", "val", "test"):
            graph[f"{part}_mask"] = torch.from_numpy(file[f"{part}_masks"][split or 0].astype(bool))
    return described(graph, name)


def hetero(name: str, split: Any, root: Any) -> Any:
    """Typed nodes and edges as `HeteroData`; the type with labels `y` has the splits of 20, 40 and 60 labels a class as node numbers."""
    from torch_geometric.data import HeteroData

    choose(name, split, ())
    target, types = HETERO[name]
    graph = HeteroData()
    with np.load(locate(name, root)[0], allow_pickle=False) as file:
        for letter, kind in types.items():
            if f"{letter}_feat_data" in file.files:
                graph[kind].x = _features(file, f"{letter}_feat")
        graph[target].y = torch.from_numpy(file["labels"].astype(np.int64))
        ends: dict[str, int] = {}
        for key in (key for key in file.files if key.startswith("edges_")):
            source, other = (types[letter] for letter in key.removeprefix("edges_"))
            edges = torch.from_numpy(file[key].astype(np.int64))
            graph[source, "to", other].edge_index = edges
            for kind, row in ((source, 0), (other, 1)):
                ends[kind] = max(ends.get(kind, 0), int(edges[row].max()) + 1)
        for kind, count in ends.items():
            if "x" not in graph[kind]:
                graph[kind].num_nodes = len(graph[kind].y) if kind == target else count
        for key in file.files:
            if key.startswith(("train_", "val_", "test_")):
                graph[target][key] = torch.from_numpy(file[key].astype(np.int64))
    return graph


def hypergraph(name: str, split: Any, root: Any) -> Any:
    """Documents with `hyperedge_index` (2, M), and ten published splits without a validation part, of which `split` chooses one (0 … 9)."""
    from torch_geometric.data import Data

    choose(name, split, tuple(range(10)))
    with np.load(locate(HYPERGRAPHS[name], root)[0], allow_pickle=False) as file:
        y = torch.from_numpy(file["labels"].astype(np.int64))
        members = np.stack([file["inc_node"], file["inc_edge"]]).astype(np.int64)
        graph = Data(hyperedge_index=torch.from_numpy(members), y=y, num_nodes=len(y))
        if "feat_data" in file.files:
            graph.x = _features(file)
        for part in ("train", "test"):
            mask = torch.zeros(len(y), dtype=torch.bool)
            mask[torch.from_numpy(file[f"{part}_idx"][split or 0].astype(np.int64))] = True
            graph[f"{part}_mask"] = mask
    graph = described(graph, name, "" if "x" in graph else "its features could not be had")
    graph.kind = "hypergraph"
    return graph


class Simplices(NamedTuple):
    """Groups of nodes that met, each with its time; `nodes[pointer[i]:pointer[i + 1]]` is group i."""

    pointer: Int64[Tensor, " G+1"]
    nodes: Int64[Tensor, " M"]
    times: Int64[Tensor, " G"]
    num_nodes: int

    def groups(self) -> list[tuple[int, ...]]:
        """Every group as a sorted tuple of nodes, in order of time."""
        return [tuple(sorted(part.tolist())) for part in self.nodes.split(self.pointer.diff().tolist())]


def simplices(name: str, split: Any, root: Any) -> Simplices:
    """Groups in order of time; nodes are numbered from 0 without gaps, in the order of their published numbers."""
    choose(name, split, ())
    with np.load(locate(SIMPLICES[name], root)[0], allow_pickle=False) as file:
        known, nodes = np.unique(file["nodes"].astype(np.int64), return_inverse=True)
        order = file["times"].argsort(kind="stable")
        sizes = np.diff(file["ptr"].astype(np.int64))
        starts = file["ptr"][:-1].astype(np.int64)
        pointer = np.concatenate([[0], sizes[order].cumsum()])
        place = np.repeat(starts[order] - pointer[:-1], sizes[order]) + np.arange(pointer[-1])
        moved, times = nodes[place].astype(np.int64), file["times"][order].astype(np.int64)
    return Simplices(torch.from_numpy(pointer), torch.from_numpy(moved), torch.from_numpy(times), len(known))


def messages(name: str, split: Any, root: Any) -> Any:
    """Who wrote to whom and when (seconds from the first), in order of time, as `TemporalData`."""
    from torch_geometric.data import TemporalData

    choose(name, split, ())
    with np.load(locate(name, root)[0], allow_pickle=False) as file:
        people, place = np.unique(np.stack([file["src"], file["dst"]]), return_inverse=True)
        source, target = torch.from_numpy(place.reshape(2, -1).astype(np.int64))
        times = torch.from_numpy((file["time"] - file["time"].min()).astype(np.int64))
    return TemporalData(src=source, dst=target, t=times, msg=torch.zeros(len(times), 0), num_people=len(people))


def roads(name: str, split: Any, root: Any) -> Any:
    """Junctions and the way segments between them, in the direction of the way.

    `Data` with pos (N, 2) longitude and latitude, edge_index (2, E), and for each edge length (m), speed (km/h, 0: not tagged), oneway
    (1, −1, 0), lanes (0: not tagged), highway (number in `highway_names`) and way (number of the way it belongs to).
    """
    from torch_geometric.data import Data

    choose(name, split, ())
    with np.load(locate(name, root)[0], allow_pickle=False) as file:
        columns = {
            "length": file["length_m"].astype(np.float32), "speed": file["maxspeed_kmh"].astype(np.float32),
            "oneway": file["oneway"].astype(np.int64), "lanes": file["lanes"].astype(np.int64),
            "highway": file["highway"].astype(np.int64), "way": file["way"].astype(np.int64),
        }  # fmt: skip
        position = torch.from_numpy(np.stack([file["lon"], file["lat"]], 1))
        graph = Data(pos=position, edge_index=torch.from_numpy(file["edge"].astype(np.int64)), num_nodes=len(position))
        graph.highway_names = tuple(str(word) for word in file["highway_name"])
    for key, values in columns.items():
        graph[key] = torch.from_numpy(values)
    graph.name = name
    return graph


GRAPH_READERS: dict[str, Callable[[str, Any, str | Path | None], Any]] = {
    **dict.fromkeys(("cora", "citeseer", "pubmed"), planetoid),
    **dict.fromkeys(GEOMGCN, geomgcn),
    **dict.fromkeys(FILTERED, filtered),
    **dict.fromkeys(TU, tu),
    **dict.fromkeys(HETERO, hetero),
    **dict.fromkeys(HYPERGRAPHS, hypergraph),
    **dict.fromkeys(SIMPLICES, simplices),
    **dict.fromkeys(("roads_helsinki", "roads_test_area"), roads),
    **dict.fromkeys(TABLES, read_molecules),
    "collegemsg": messages,
}

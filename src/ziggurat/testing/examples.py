"""Small inputs and data sets of every kind, for checks and for your own tests."""

from __future__ import annotations

from typing import Any

import torch
from torch_geometric.data import Batch, Data

from ziggurat.data.datasets import Images
from ziggurat.data.graphs.complexes import CWComplex, batch_complexes, from_polygons
from ziggurat.data.seeds import derive, generator

NODES, FEATURES, CLASSES = 12, 8, 3
MAP_CHANNELS, MAP_STRIDES = (6, 8, 10), (4, 8, 16)
"""Of the maps that necks are checked with; they are those of an image of 65 × 47."""


def ring_graph(nodes: int = NODES, features: int = FEATURES, seed: int = 0) -> Data:
    """An undirected ring with a few chords, random features, classes and masks."""
    g = generator(seed, "graph")
    ring = torch.stack([torch.arange(nodes), (torch.arange(nodes) + 1) % nodes])
    chords = torch.randint(nodes, (2, nodes), generator=g)
    edges = torch.cat([ring, chords[:, chords[0] != chords[1]]], 1)
    edges = torch.unique(torch.cat([edges, edges.flip(0)], 1), dim=1)
    y = torch.arange(nodes) % CLASSES
    x = torch.randn(nodes, features, generator=g) + torch.nn.functional.one_hot(y, features)
    every = torch.arange(nodes)
    return Data(
        x=x, edge_index=edges, y=y, train_mask=every % 2 == 0, val_mask=every % 4 == 1, test_mask=every % 4 == 3,
        name="ring", kind="graph", task="node classification", classes=tuple("abc"), note="",
    )  # fmt: skip


def example(kind: str, seed: int = 0, batch: int = 2, size: int = 16, channels: int = 3) -> tuple:
    """Inputs of a kind, in the order of its contract: `network(*example("image"))`.

    Arguments:
        kind: "image", "video", "pair", "maps", "graph", "graphs", "links", "hypergraph", "complex", "hops", "points", "sequence", "set",
            "table"; of objectives several of "embeddings", "triplets", "logits", "probabilities", "labels", "levels" (labels of two levels,
            the coarse one first), with commas between them.
        batch: samples, also how many "graphs" or complexes; one graph has 12 nodes whatever it is.
        size: side of images; length of sequences, sets and clouds.
        channels: of images; width of set elements.
    """
    if "," in kind:
        return tuple(x for part in kind.split(",") for x in example(part.strip(), seed, batch, size, channels))
    g = generator(seed, kind)
    if kind == "image":
        return (torch.rand(batch, channels, size, size, generator=g),)
    if kind == "video":
        return (torch.rand(batch, channels, 4, size, size, generator=g),)
    if kind == "pair":
        return (
            torch.rand(batch, channels, size, size, generator=g),
            torch.rand(batch, channels, size, size, generator=g),
        )
    if kind == "maps":
        shape = [(batch, c, -(-65 // s), -(-47 // s)) for c, s in zip(MAP_CHANNELS, MAP_STRIDES, strict=True)]
        return ([torch.randn(*one, generator=g) for one in shape],)
    if kind == "graph":
        graph = ring_graph(seed=seed)
        return (graph.x, graph.edge_index)
    if kind == "graphs":
        many = Batch.from_data_list([ring_graph(seed=derive(seed, i)) for i in range(batch)])
        return (many.x, many.edge_index, None, many.batch)
    if kind == "links":
        graph = ring_graph(seed=seed)
        return (graph.x, graph.edge_index, torch.randint(NODES, (2, 5), generator=g))
    if kind == "hypergraph":
        return (ring_graph(seed=seed).x, example_hyperedges(seed))
    if kind == "complex":
        return (batch_complexes([example_complex(derive(seed, i)) for i in range(batch)]),)
    if kind == "hops":
        return (ring_graph(seed=seed).x,)
    if kind == "points":
        return (torch.nn.functional.normalize(torch.randn(batch, 4 * size, 3, generator=g), dim=-1),)
    if kind == "sequence":
        return (torch.randint(10, (batch, size), generator=g),)
    if kind == "set":
        return (torch.randn(batch, size, channels, generator=g),)
    if kind == "table":
        return (torch.randn(batch, FEATURES, generator=g),)
    if kind == "embeddings":
        return (torch.randn(batch, FEATURES, generator=g),)
    if kind == "triplets":
        return (torch.stack([(torch.arange(batch) + i) % batch for i in range(3)], 1),)
    if kind == "logits":
        return (torch.randn(batch, CLASSES, generator=g),)
    if kind == "probabilities":
        return (torch.randn(batch, CLASSES, generator=g).softmax(1),)
    if kind == "labels":
        return (torch.arange(batch) % CLASSES,)
    if kind == "levels":
        return (torch.stack([torch.arange(batch) % CLASSES // 2, torch.arange(batch) % CLASSES], 1),)
    raise ValueError(f"there is no example of the kind {kind!r}.")


def example_hyperedges(seed: int = 0) -> torch.Tensor:
    """Memberships (2, M) of the 12 nodes of `ring_graph` in six hyperedges of two to four members; every node is in one at least."""
    g = generator(seed, "hyperedges")
    order = torch.randperm(NODES, generator=g)
    groups = [order[0:4], order[4:8], order[8:12], *(torch.randperm(NODES, generator=g)[:n] for n in (2, 3, 4))]
    return torch.stack([torch.cat(groups), torch.repeat_interleave(torch.arange(6), torch.tensor([4, 4, 4, 2, 3, 4]))])


def example_complex(seed: int = 0) -> CWComplex:
    """A square with a triangle on one side, both filled, and an edge that hangs on it; random features of width `FEATURES`."""
    g = generator(seed, "complex")
    edges = [(0, 1), (1, 2), (2, 3), (0, 3), (3, 4), (0, 4), (2, 5)]
    x = [torch.randn(n, FEATURES, generator=g) for n in (6, 7, 2)]
    return from_polygons(6, edges, [[0, 1, 2, 3], [0, 3, 4]], x)


def example_images(count: int = 8, classes: int = 4, size: int = 16, channels: int = 3, seed: int = 0) -> Images:
    """Images whose class can be told: each class has its own random pattern, under noise."""
    g = generator(seed, "images")
    patterns = torch.rand(classes, channels, size, size, generator=g)
    labels = torch.arange(count) % classes
    pixels = 0.7 * patterns[labels] + 0.3 * torch.rand(count, channels, size, size, generator=g)
    names = tuple(str(c) for c in range(classes))
    return Images((255 * pixels).to(torch.uint8), labels, names, "example")


def outputs(value: Any) -> list[torch.Tensor]:
    """All tensors of a network's output, whatever its structure."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for item in value.values() for t in outputs(item)]
    if isinstance(value, tuple | list):
        return [t for item in value for t in outputs(item)]
    return []

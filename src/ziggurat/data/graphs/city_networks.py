"""City-Networks: junctions of a city's roads, labelled by how far the farthest junction of their surroundings is.

Road graphs have large diameters and small degrees, so that a label that depends on 16 hops needs information from far away. The label
of node v is the weighted eccentricity inside of its ball, cut into classes of equal frequency:

    e(v) = max_{u ∈ B_k(v)} d_w(u, v; G[B_k(v)]),   B_k(v) = nodes within k hops, whatever their weights

where d_w is the shortest way that does not leave the ball. With weights of one it is min(k, eccentricity of v), the same for nearly all
nodes of a large graph: the lengths of the roads are essential.

H. Liang, H. Sáez de Ocáriz Borde, B. Sripathmanathan, M. Bronstein, X. Dong, Towards Quantifying Long-Range Interactions in Graph Machine
Learning: a Large Graph Dataset and a Measurement, 2025, arXiv:2503.09008. The measurement is in `ziggurat.explain.influence`.
"""

from __future__ import annotations

from typing import Any, Literal

import networkx as nx
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.sparse import csr_matrix
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import coalesce

from ziggurat.data.graphs._roads import ball_eccentricities
from ziggurat.data.graphs.roads import largest_component

CATEGORIES = ("oneway", "lanes", "reversed", "highway")


def ball_eccentricity(
    edge_index: Int64[Tensor, "2 E"], weight: Float[Tensor, " E"], num_nodes: int, hops: int
) -> Float[Tensor, " N"]:
    """e(v) of every node, float64.

    Arguments:
        edge_index: both directions of an undirected graph, each once.
        weight: of every edge, 0 or more.
        hops: k.
    """
    if hops < 0:
        raise ValueError(f"hops must be 0 or more, got {hops}.")
    values = weight.double().numpy()
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("weights of roads must be finite and not negative; repair or drop those roads.")
    source, target = edge_index.numpy()
    matrix = csr_matrix((values, (source, target)), shape=(num_nodes, num_nodes))
    indptr, indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
    return torch.from_numpy(ball_eccentricities(indptr, indices, matrix.data, hops))


def equal_frequency(values: Float[Tensor, " N"], bins: int) -> Int64[Tensor, " N"]:
    """Classes of ⌊N / bins⌋ + 1 nodes in ascending order of their values; the last class takes what is left.

    Equal values may fall into different classes, the first node first.
    """
    size = len(values) // bins + 1 if bins > 0 else 0
    if bins < 1 or size * (bins - 1) >= len(values):
        raise ValueError(f"{len(values)} nodes cannot be cut into {bins} classes of {size}; take fewer bins.")
    labels = torch.empty(len(values), dtype=torch.int64)
    labels[values.argsort(stable=True)] = torch.arange(len(values)) // size
    return labels


def random_masks(nodes: int, train: float, valid: float, seed: int = 0) -> tuple[Bool[Tensor, " N"], ...]:
    """Masks of a uniform split into training, validation and test nodes; the last are the rest."""
    if min(train, valid) <= 0 or train + valid >= 1:
        raise ValueError(f"train and valid must be positive with a sum below 1, got {train} and {valid}.")
    order = np.random.RandomState(seed).permutation(nodes)
    a, b = int(nodes * train), int(nodes * train) + int(nodes * valid)
    return tuple(
        torch.zeros(nodes, dtype=torch.bool).index_fill(0, torch.from_numpy(part), True)
        for part in (order[:a], order[a:b], order[b:])
    )


class CityNetwork(Data):
    """A city as torch_geometric's `Data`: x, edge_index, edge_attr, y, masks, and `eccentricity`; made by `from_graph`.

    `columns` names the columns of x.
    """

    @classmethod
    def from_graph(
        cls,
        graph: Data | nx.Graph,
        k: int = 16,
        bins: int = 10,
        weight: Literal["length", "time"] = "length",
        augmented: bool = True,
        train: float = 0.1,
        valid: float = 0.1,
        seed: int = 0,
    ) -> CityNetwork:
        """Labels and features of any network of streets.

        Arguments:
            graph: `Data` as of `load("roads_helsinki")` or `road_like`, or a networkx graph with OSMnx's names (also read from GraphML):
                nodes x, y, street_count, landuse, edges length, speed_kph, oneway, lanes, reversed, highway. Only length is required.
            k: hops of the balls.
            bins: classes.
            weight: what distances are made of, "length" or "time" (minutes at the speed of the road).
            augmented: appends the mean of the features of its roads to every node.
            train, valid: shares of the nodes; the rest is for testing.
            seed: of the split.

        Roads become undirected: the features of both directions are averaged. Loops and all but the largest component are dropped. A road
        without a speed gets the mean of its class, else of all roads.
        """
        roads = _from_networkx(graph) if isinstance(graph, nx.Graph) else graph
        if "length" not in roads:
            raise ValueError("a network of streets needs the length of every road; give edges a 'length'.")
        if weight not in ("length", "time"):
            raise ValueError(f"weight must be 'length' or 'time', got {weight!r}.")
        attributes, names = _edge_features(roads)
        city = _undirected(roads, attributes)
        cost = city.edge_attr[:, 0]
        if weight == "time":
            if "speed" not in names:
                raise ValueError("times need speeds, and no road has one; take weight='length'.")
            cost = 0.06 * cost / city.edge_attr[:, names.index("speed")]  # metres over km/h, in minutes
        n = int(city.num_nodes)
        x, columns = _node_features(city)
        if augmented:
            x, columns = torch.cat([x, _mean_of_roads(city)], 1), columns + [f"road {name}" for name in names]
        eccentricity = ball_eccentricity(city.edge_index, cost, n, k)
        masks = random_masks(n, train, valid, seed)
        made = cls(
            x=x, edge_index=city.edge_index, edge_attr=city.edge_attr, y=equal_frequency(eccentricity, bins),
            train_mask=masks[0], val_mask=masks[1], test_mask=masks[2], eccentricity=eccentricity, num_nodes=n,
        )  # fmt: skip
        made.columns, made.name, made.kind, made.task = columns, "city", "graph", "node classification"
        made.classes, made.note = tuple(str(c) for c in range(bins)), f"{k} hops, {weight}"
        return made


def _one_hot(values: Any, name: str) -> tuple[Tensor, list[str]]:
    """A column for each value that occurs."""
    found, place = np.unique(np.asarray(values).astype(str), return_inverse=True)
    return torch.nn.functional.one_hot(torch.from_numpy(place)).float(), [f"{name}={word}" for word in found]


def _edge_features(roads: Data) -> tuple[Float[Tensor, "E D"], list[str]]:
    """Length, speed where known, and one-hot columns of what else is known."""
    parts, names = [roads.length.float()[:, None]], ["length"]
    if "speed" in roads and bool((roads.speed > 0).any()):
        parts.append(_filled(roads.speed.float(), getattr(roads, "highway", None))[:, None])
        names.append("speed")
    for category in CATEGORIES:
        if category in roads:
            part, words = _one_hot(roads[category], category)
            parts.append(part)
            names += words
    return torch.cat(parts, 1), names


def _filled(speed: Float[Tensor, " E"], highway: Any) -> Float[Tensor, " E"]:
    """Speeds of 0 replaced by the mean of the class of the road, else of all."""
    known = speed > 0
    mean = speed[known].mean().expand(len(speed))
    if highway is not None:
        place = torch.from_numpy(np.unique(np.asarray(highway).astype(str), return_inverse=True)[1])
        count = torch.bincount(place[known], minlength=int(place.max()) + 1)
        by_class = torch.bincount(place[known], speed[known], minlength=len(count)) / count.clamp_min(1)
        mean = torch.where(count[place] > 0, by_class[place], mean)
    return torch.where(known, speed, mean)


def _undirected(roads: Data, attributes: Float[Tensor, "E D"]) -> Data:
    """The largest component, every road in both directions with the mean of its rows, without loops."""
    apart = roads.edge_index[0] != roads.edge_index[1]
    edges, rows = roads.edge_index[:, apart], attributes[apart]
    both, features = coalesce(
        torch.cat([edges, edges.flip(0)], 1), torch.cat([rows, rows]), int(roads.num_nodes), reduce="mean"
    )
    nodes, kept, ends = largest_component(both, int(roads.num_nodes))
    city = Data(edge_index=ends, edge_attr=features[kept], num_nodes=len(nodes))
    for key in ("pos", "street_count", "landuse"):
        if key in roads:
            city[key] = roads[key][nodes]
    return city


def _node_features(city: Data) -> tuple[Float[Tensor, "N D"], list[str]]:
    degree = torch.bincount(city.edge_index[0], minlength=int(city.num_nodes))
    parts, names = [(city.street_count if "street_count" in city else degree).float()[:, None]], ["street_count"]
    if "pos" in city:
        parts, names = [city.pos.float(), *parts], ["lon", "lat", *names]
    if "landuse" in city:
        part, words = _one_hot(city.landuse, "landuse")
        parts, names = [*parts, part], names + words
    return torch.cat(parts, 1), names


def _mean_of_roads(city: Data) -> Float[Tensor, "N D"]:
    """The mean of the features of each node's roads."""
    target, rows = city.edge_index[1], city.edge_attr
    total = torch.zeros(int(city.num_nodes), rows.shape[1]).index_add(0, target, rows)
    return total / torch.bincount(target, minlength=len(total)).clamp_min(1)[:, None]


def _from_networkx(graph: nx.Graph) -> Data:
    """A network under OSMnx's names as `Data`; texts become whole numbers, in alphabetical order."""
    names = list(graph.nodes)
    place = {name: i for i, name in enumerate(names)}
    rows = list(graph.edges(data=True))
    ends = torch.tensor([[place[a], place[b]] for a, b, _ in rows], dtype=torch.int64).view(-1, 2).T
    roads = Data(edge_index=ends, num_nodes=len(names))
    if not rows or any("length" not in row for *_, row in rows):
        raise ValueError("a network of streets needs the length of every road; give edges a 'length'.")
    roads.length = torch.tensor([float(row["length"]) for *_, row in rows])
    if any("speed_kph" in row for *_, row in rows):
        roads.speed = torch.tensor([float(row.get("speed_kph", 0)) for *_, row in rows])
    for key in CATEGORIES:
        if any(key in row for *_, row in rows):
            roads[key] = _numbers([row.get(key) for *_, row in rows])
    nodes = [graph.nodes[name] for name in names]
    if all("x" in node and "y" in node for node in nodes):
        roads.pos = torch.tensor([[float(node["x"]), float(node["y"])] for node in nodes], dtype=torch.float64)
    if all("street_count" in node for node in nodes):
        roads.street_count = torch.tensor([int(node["street_count"]) for node in nodes])
    if any("landuse" in node for node in nodes):
        roads.landuse = _numbers([node.get("landuse") for node in nodes])
    return roads


def _numbers(values: list[Any]) -> Int64[Tensor, " N"]:
    words = [str(value) for value in values]
    return torch.from_numpy(np.unique(words, return_inverse=True)[1].astype(np.int64))

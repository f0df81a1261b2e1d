import inspect
import itertools

import networkx as nx
import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.datasets import CityNetwork as PeerCityNetwork
from torch_geometric.utils import to_networkx

from tests.data import load_or_skip
from tests.typecheck import value_error
from ziggurat.data.graphs.city_networks import CityNetwork, ball_eccentricity, equal_frequency, random_masks
from ziggurat.data.graphs.roads import largest_component, merge_bends, road_like


def both(graph):
    return torch.cat([graph.edge_index, graph.edge_index.flip(0)], 1), torch.cat([graph.length, graph.length]).double()


def naive(edges, weight, n, k):
    """Ball by hops, induced subgraph, Dijkstra."""
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_weighted_edges_from((a, b, w) for (a, b), w in zip(edges.T.tolist(), weight.tolist(), strict=True))
    result = []
    for v in range(n):
        ball = graph.subgraph(nx.single_source_shortest_path_length(graph, v, cutoff=k))
        result.append(max(nx.single_source_dijkstra_path_length(ball, v).values()))
    return torch.tensor(result, dtype=torch.float64)


@pytest.mark.parametrize("k", [0, 1, 3, 6])
def test_eccentricity_against_networkx(k):
    roads = road_like(9, seed=3)
    edges, weight = both(roads)
    n = int(roads.num_nodes)
    torch.testing.assert_close(ball_eccentricity(edges, weight, n, k), naive(edges, weight, n, k))


def test_ways_do_not_leave_the_ball():
    # from 0, the short way to 2 runs over 3 and 4, and 4 is three hops away
    edges = torch.tensor([[0, 1, 0, 3, 5], [1, 2, 3, 5, 2]])
    edges = torch.cat([edges, torch.tensor([[5], [4]])], 1)
    weight = torch.tensor([10.0, 10.0, 0.1, 0.1, 0.1, 0.1])
    edges, weight = torch.cat([edges, edges.flip(0)], 1), torch.cat([weight, weight])
    assert float(ball_eccentricity(edges, weight, 6, 1)[0]) == pytest.approx(10)
    assert float(ball_eccentricity(edges, weight, 6, 2)[0]) == pytest.approx(10)  # 2 over 5, which is two hops away
    longer = torch.tensor([[0, 1, 0, 3, 4, 5], [1, 2, 3, 4, 5, 2]])
    longer = torch.cat([longer, longer.flip(0)], 1)
    cost = torch.tensor([10.0, 10.0, 0.1, 0.1, 0.1, 0.1]).repeat(2)
    assert float(ball_eccentricity(longer, cost, 6, 2)[0]) == pytest.approx(20)  # 5 is outside of the ball
    assert float(ball_eccentricity(longer, cost, 6, 3)[0]) == pytest.approx(10)


@pytest.mark.fact("city_networks", 6)
@pytest.mark.parametrize("k", [1, 4, 50])
def test_with_unit_weights_it_is_the_smaller_of_k_and_the_eccentricity(k):
    roads = road_like(7, seed=1)
    edges, weight = both(roads)
    whole = nx.eccentricity(to_networkx(Data(edge_index=edges, num_nodes=roads.num_nodes), to_undirected=True))
    want = [min(k, whole[v]) for v in range(int(roads.num_nodes))]
    assert ball_eccentricity(edges, torch.ones_like(weight), int(roads.num_nodes), k).tolist() == want


@pytest.mark.fact("city_networks", 5)
def test_the_published_cities_have_our_defaults():
    text = " ".join(inspect.getdoc(PeerCityNetwork).replace("`", "").split())
    assert all(name in text for name in ("paris", "shanghai", "la", "london"))
    assert "16-hop neighborhood" in text and "10 quantiles" in text
    assert all(text.find(nodes) > 0 for nodes in ("114,127", "183,917", "240,587", "568,795"))
    ours = inspect.signature(CityNetwork.from_graph).parameters
    assert (
        ours["k"].default == 16 and ours["bins"].default == 10 and ours["train"].default == ours["valid"].default == 0.1
    )


def test_classes_are_chunks_of_the_sorted_nodes():
    values = torch.from_numpy(np.random.default_rng(0).permutation(107)).double()
    got = equal_frequency(values, 10)
    assert torch.bincount(got).tolist() == [11] * 9 + [8]
    assert torch.equal(got, (values // 11).long())
    assert equal_frequency(torch.zeros(5), 2).tolist() == [0, 0, 0, 1, 1]
    with value_error("cannot be cut into 10 classes"):
        equal_frequency(torch.arange(90.0), 10)


def test_the_generator():
    roads = road_like(60, seed=5)
    n, e = int(roads.num_nodes), roads.edge_index.shape[1]
    assert 3300 < n <= 3600 and e <= round(0.8 * 2 * 60 * 59) and roads.pos.shape == (n, 2)
    graph = nx.Graph(roads.edge_index.T.tolist())
    assert nx.is_connected(graph) and graph.number_of_nodes() == n and graph.number_of_edges() == e
    assert max(dict(graph.degree).values()) <= 4
    logs = roads.length.double().log()
    assert float(logs.mean()) == pytest.approx(0, abs=0.1) and float(logs.std()) == pytest.approx(0.94, abs=0.06)
    again = road_like(60, seed=5)
    assert torch.equal(roads.length, again.length) and not torch.equal(
        roads.edge_index[:, :50], road_like(60).edge_index[:, :50]
    )
    # lengths of roads that meet are alike: the field is smooth
    low = logs[roads.edge_index[0].argsort(stable=True)]
    assert float(torch.corrcoef(torch.stack([low[1:], low[:-1]]))[0, 1]) > 0.15
    with value_error("side must be 2 or more"):
        road_like(1)


def test_bends_are_merged_into_their_roads():
    # 0 - 1 - 2 - 3 with junctions 0 and 3 (leaves 4, 5, 6, 7 hang on them), a direct road 0 - 3, a loop 3 - 8 - 9 - 3, a ring apart
    pairs = [
        (0, 1),
        (1, 2),
        (2, 3),
        (0, 3),
        (0, 4),
        (5, 0),
        (3, 6),
        (7, 3),
        (3, 8),
        (8, 9),
        (9, 3),
        (10, 11),
        (11, 12),
        (12, 10),
    ]
    graph = Data(
        edge_index=torch.tensor(pairs).T,
        length=torch.arange(1.0, 15.0),
        num_nodes=13,
        pos=torch.arange(26.0).view(13, 2),
    )
    merged = merge_bends(graph)
    assert merged.junction.tolist() == [0, 3, 4, 5, 6, 7]
    old = merged.junction[merged.edge_index].T.tolist()
    assert old == [[0, 3], [0, 4], [0, 5], [3, 6], [3, 7]]
    assert merged.length.tolist() == [4.0, 5.0, 6.0, 7.0, 8.0]  # 0 - 3 directly is shorter than 1 + 2 + 3
    assert torch.equal(merged.pos, graph.pos[merged.junction])
    graph.length[3] = 100.0
    assert merge_bends(graph).length[0] == 6.0


def test_merging_keeps_distances_between_junctions():
    roads = load_or_skip("roads_test_area")
    nodes, rows, ends = largest_component(roads.edge_index, int(roads.num_nodes))
    roads = Data(edge_index=ends, length=roads.length[rows], num_nodes=len(nodes))
    merged = merge_bends(roads)
    whole, small = nx.Graph(), nx.Graph()
    for graph, data in ((whole, roads), (small, merged)):
        for (a, b), w in zip(data.edge_index.T.tolist(), data.length.tolist(), strict=True):
            if a != b and w < graph.get_edge_data(a, b, {"weight": np.inf})["weight"]:
                graph.add_edge(a, b, weight=w)
    assert all(whole.degree(v) != 2 for v in merged.junction.tolist())
    start = small.nodes and next(iter(small))
    away = nx.single_source_dijkstra_path_length(small, start)
    want = nx.single_source_dijkstra_path_length(whole, int(merged.junction[start]))
    assert all(away[v] == pytest.approx(want[int(merged.junction[v])], rel=1e-5) for v in away)


def test_a_city_of_a_street_map():
    roads = load_or_skip("roads_test_area")
    city = CityNetwork.from_graph(roads, k=8)
    n = len(city.x)
    assert city.edge_index.shape[1] == len(city.edge_attr) and nx.is_connected(to_networkx(city, to_undirected=True))
    assert not (city.edge_index[0] == city.edge_index[1]).any() and city.is_undirected()
    assert city.x.shape[1] == len(city.columns) == 3 + city.edge_attr.shape[1]
    assert city.columns[:3] == ["lon", "lat", "street_count"] and {"road length", "road oneway=0"} <= set(city.columns)
    sizes = [int(m.sum()) for m in (city.train_mask, city.val_mask, city.test_mask)]
    assert sizes == [n // 10, n // 10, n - 2 * (n // 10)]
    assert not (city.train_mask & city.val_mask).any() and (city.train_mask | city.val_mask | city.test_mask).all()
    assert torch.bincount(city.y).tolist()[:-1] == [n // 10 + 1] * 9
    parts = [city.eccentricity[city.y == c] for c in range(10)]
    assert all(float(a.max()) <= float(b.min()) for a, b in itertools.pairwise(parts))
    node = 17
    rows = city.edge_attr[city.edge_index[1] == node]
    torch.testing.assert_close(city.x[node, 3:], rows.mean(0))
    assert float(city.edge_attr[:, 1].min()) > 0  # every road has a speed
    plain = CityNetwork.from_graph(roads, k=8, augmented=False, weight="time")
    assert plain.x.shape[1] == 3 and not torch.equal(plain.eccentricity, city.eccentricity)
    assert plain.clone().y.equal(plain.y)


def test_a_city_of_networkx():
    graph = nx.MultiDiGraph()
    for v in range(30):
        graph.add_node(f"n{v}", x=v * 1.0, y=-1.0, street_count=2, **({"landuse": "park"} if v % 3 else {}))
    for v in range(29):
        graph.add_edge(f"n{v}", f"n{v + 1}", length=1.0 + v, speed_kph=60.0, oneway=False, lanes="2", highway="primary")
        graph.add_edge(f"n{v + 1}", f"n{v}", length=3.0 + v, oneway=True, highway=["a", "b"] if v == 3 else "secondary")
    graph.add_edge("n3", "n3", length=9.0)
    city = CityNetwork.from_graph(graph, k=2, bins=3, weight="time")
    assert city.columns[:5] == ["lon", "lat", "street_count", "landuse=0", "landuse=1"]
    assert len(city.x) == 30 and city.edge_index.shape[1] == 58
    length = city.edge_attr[(torch.tensor([4, 5]) == city.edge_index.T).all(1), 0]
    assert length.tolist() == [6.0]  # the mean of 5 and 7
    assert float(city.eccentricity[0]) == pytest.approx((2 + 3) * 0.06 / 60)
    with value_error("needs the length of every road"):
        CityNetwork.from_graph(nx.path_graph(4))
    with value_error("needs the length of every road"):
        CityNetwork.from_graph(Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2))


def test_mistakes_with_roads():
    roads = road_like(5)
    with value_error("weight must be 'length' or 'time'"):
        CityNetwork.from_graph(roads, weight="steps")
    with value_error("no road has one"):
        CityNetwork.from_graph(roads, weight="time")
    with value_error("hops must be 0 or more"):
        ball_eccentricity(*both(roads), int(roads.num_nodes), -1)
    edges, weight = both(roads)
    with value_error("finite and not negative"):
        ball_eccentricity(edges, -weight, int(roads.num_nodes), 2)
    with value_error("a sum below 1"):
        random_masks(10, 0.6, 0.5)

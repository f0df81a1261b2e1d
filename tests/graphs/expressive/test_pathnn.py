import networkx as nx
import pytest
import torch
from torch_geometric.data import Batch, Data

from tests.typecheck import value_error
from ziggurat.data.graphs.generators import CSL_SKIPS, circular_skip_links, relabelled, rook, shrikhande
from ziggurat.data.graphs.paths import AddPaths, path_tensor
from ziggurat.graphs.expressive.pathnn import PathConv, PathLSTM, PathNN
from ziggurat.testing import ring_graph


def edges_of(graph):
    pairs = torch.tensor(list(graph.edges)).T
    return torch.cat([pairs, pairs.flip(0)], 1)


def rows(paths):
    return sorted(paths.nodes.tolist())


def distinct(graphs, kind, length, width=8, **options):
    """How many graphs random weights tell apart, in float64; a relabelled copy of the last one must get the same vector."""
    torch.manual_seed(0)
    network = PathNN(1, 0, kind, width, length, norm="none", **options).double().eval()
    vectors = []
    for edges in graphs:
        n = int(edges.max()) + 1
        x = torch.ones(n, 1, dtype=torch.float64)
        vectors.append(network.forward_features(x, edges)[-1][0])
    again = network.forward_features(x, relabelled(edges, n, 1))[-1][0]
    torch.testing.assert_close(again, vectors[-1], atol=1e-9, rtol=1e-9)
    apart = torch.cdist(torch.stack(vectors), torch.stack(vectors), compute_mode="donot_use_mm_for_euclid_dist")
    return len({tuple(row) for row in (apart < 1e-7).tolist()})


TRIANGLES = torch.cat([edges_of(nx.cycle_graph(3)), edges_of(nx.cycle_graph(3)) + 3], 1)
HEXAGON = edges_of(nx.cycle_graph(6))


@pytest.mark.fact("pathnn", 1)
def test_paths_are_those_of_networkx():
    graph = nx.random_regular_graph(3, 8, seed=1)
    graph.add_edge(0, 8)
    edges, far = edges_of(graph), dict(nx.all_pairs_shortest_path_length(graph))
    one, shortest, every = (path_tensor(edges, 9, kind, 4) for kind in ("SP", "SP+", "AP"))
    for k in range(1, 5):
        targets = [(u, v) for v in graph for u in graph if far[v][u] == k]
        assert sorted((p[0], p[-1]) for p in one[k - 1].nodes.tolist()) == sorted(targets)
        all_shortest = [p[::-1] for u, v in targets for p in nx.all_shortest_paths(graph, v, u)]
        assert rows(shortest[k - 1]) == sorted(all_shortest)
        assert {tuple(p) for p in one[k - 1].nodes.tolist()} <= {tuple(p) for p in all_shortest}
        simple = [p[::-1] for v in graph for u in graph if u != v for p in nx.all_simple_paths(graph, v, u, k)]
        assert rows(every[k - 1]) == sorted(p for p in simple if len(p) == k + 1)
        for nodes, distances in zip(every[k - 1].nodes.tolist(), every[k - 1].distances.tolist(), strict=True):
            assert distances == [far[nodes[-1]][u] for u in nodes]


@pytest.mark.fact("pathnn", 1)
def test_on_a_tree_the_three_kinds_are_the_same():
    edges = edges_of(nx.balanced_tree(3, 2))
    first, *others = (path_tensor(edges, 13, kind, 4) for kind in ("SP", "SP+", "AP"))
    for other in others:
        assert [rows(p) for p in other] == [rows(p) for p in first]


@pytest.mark.fact("pathnn", 2)
def test_paths_of_one_edge_are_the_edges():
    graph = ring_graph()
    paths = path_tensor(graph.edge_index, 12, "AP", 1)[0]
    assert rows(paths) == sorted(graph.edge_index.T.tolist())
    conv, lstm = PathConv(8, "none").double(), PathLSTM(8, 8).double()
    h = graph.x.double()
    peer = torch.nn.LSTM(8, 8, batch_first=True).double()
    peer.load_state_dict(lstm.state_dict())
    want = torch.stack(
        [
            sum(peer(torch.stack([h[u], h[v]])[None])[1][0][0, 0] for u, t in graph.edge_index.T if t == v)
            for v in range(12)
        ]
    )
    torch.testing.assert_close(conv(h, paths, lstm), (h + want).relu())


@pytest.mark.fact("pathnn", 3)
def test_two_triangles_and_a_hexagon():
    pair = [TRIANGLES, HEXAGON]
    assert distinct(pair, "SP+", 1) == distinct(pair, "AP", 1, distances=False) == 1
    assert distinct(pair, "SP+", 2) == 2
    assert distinct(pair, "AP", 2, distances=False) == 1 and distinct(pair, "AP", 3, distances=False) == 2


@pytest.mark.fact("pathnn", 4)
def test_rook_and_shrikhande():
    pair = [rook(), shrikhande()]
    assert distinct(pair, "SP+", 3) == distinct(pair, "AP", 4, distances=False) == 1
    assert distinct(pair, "AP", 3) == 1 and distinct(pair, "AP", 4, width=32) == 2


@pytest.mark.fact("pathnn", 5)
@pytest.mark.parametrize(("kind", "length", "told"), [("SP+", 5, 8), ("SP+", 6, 10), ("AP", 4, 9), ("AP", 5, 10)])
def test_circular_skip_links(kind, length, told):
    assert distinct([circular_skip_links(41, skip) for skip in CSL_SKIPS], kind, length) == told


@pytest.mark.fact("pathnn", 6)
def test_parameters_of_the_lstm():
    for kind, count in (("SP+", 33280), ("AP", 49664)):
        network = PathNN(3, 2, kind)
        assert sum(p.numel() for p in network.lstm.parameters()) == count
    assert PathNN(3, 2, "AP", length=4).distance.shape == (5, 64)


@pytest.mark.parametrize("kind", ["SP", "SP+", "AP"])
def test_listed_paths_give_the_same_in_a_batch(kind):
    graphs = [ring_graph(n, 8, seed=n) for n in (12, 7, 9)]
    network = PathNN(8, 3, kind, 8, 3).eval()
    listed = Batch.from_data_list([AddPaths(kind, 3)(graph) for graph in graphs])
    together = network.forward_batch(listed)
    for i, graph in enumerate(graphs):
        torch.testing.assert_close(together[i], network(graph.x, graph.edge_index)[0])
    assert torch.equal(listed.get_example(1).path_2, AddPaths(kind, 3)(graphs[1]).path_2)


def test_the_choice_of_shortest_paths_is_seeded():
    edges = edges_of(nx.convert_node_labels_to_integers(nx.grid_2d_graph(4, 4)))
    first, same, other = (rows(path_tensor(edges, 16, "SP", 4, seed)[3]) for seed in (0, 0, 1))
    assert first == same != other


def test_mistakes_are_named():
    edges = HEXAGON
    with value_error("kind must be"):
        path_tensor(edges, 6, "all", 2)
    with value_error("length must be 1"):
        path_tensor(edges, 6, "SP", 0)
    with value_error("names node 5"):
        path_tensor(edges, 5, "SP", 1)
    with value_error("kind must be"):
        PathNN(3, 2, "XP")
    with value_error("norm must be"):
        PathNN(3, 2, norm="layer")
    listed = Batch.from_data_list([AddPaths("SP", 2)(Data(x=torch.ones(6, 3), edge_index=edges))])
    with value_error("paths of 1 to 3 edges, got 2"):
        PathNN(3, 2).forward_batch(listed)

import networkx as nx
import pytest
import torch
from torch_geometric.data import Batch, Data

from tests.typecheck import value_error
from ziggurat.data.datasets import Graphs
from ziggurat.data.feeds import feed
from ziggurat.data.graphs.patches import GraphPatches, InPatches, partition, return_code
from ziggurat.testing.examples import ring_graph


def grid(rows, columns):
    graph = nx.convert_node_labels_to_integers(nx.grid_2d_graph(rows, columns))
    edges = torch.tensor(list(graph.edges)).T
    return Data(edge_index=torch.cat([edges, edges.flip(0)], 1), num_nodes=rows * columns)


def cut(edges, part):
    return int((part[edges[0]] != part[edges[1]]).sum()) // 2


def test_parts_are_equal_and_few_edges_are_cut():
    graph = grid(8, 8)
    for parts in (2, 3, 8):
        part = partition(graph.edge_index, 64, parts)
        sizes = torch.bincount(part, minlength=parts)
        assert int(sizes.max() - sizes.min()) <= 2 and len(sizes) == parts
        ours = cut(graph.edge_index, part)
        assert ours < 0.6 * cut(graph.edge_index, part[torch.randperm(64)])
    halves = nx.algorithms.community.kernighan_lin_bisection(nx.grid_2d_graph(8, 8), seed=0)
    place = {node: i for i, node in enumerate(nx.grid_2d_graph(8, 8))}
    peer = torch.zeros(64).long()
    peer[[place[node] for node in halves[0]]] = 1
    ours = [cut(graph.edge_index, partition(graph.edge_index, 64, 2, seed)) for seed in range(5)]
    assert min(ours) <= 1.25 * cut(graph.edge_index, peer) and max(ours) <= 16


def test_partition_takes_odd_graphs_and_is_seeded():
    none = torch.zeros(2, 0, dtype=torch.int64)
    assert partition(none, 5, 5).sort().values.tolist() == [0, 1, 2, 3, 4]
    assert torch.bincount(partition(none, 7, 2)).tolist() in ([3, 4], [4, 3])
    graph = grid(6, 7)
    assert torch.equal(partition(graph.edge_index, 42, 4, 1), partition(graph.edge_index, 42, 4, 1))
    assert not torch.equal(partition(graph.edge_index, 42, 4, 1), partition(graph.edge_index, 42, 4, 2))
    two = torch.cat([graph.edge_index, graph.edge_index + 42], 1)
    assert cut(two, partition(two, 84, 2)) == 0  # along the gap
    with value_error("has 1 to 5 parts"):
        partition(none, 5, 6)


@pytest.mark.fact("graph_vit_mixer", 2)
@pytest.mark.parametrize(("patches", "drop_rate"), [(4, 0.0), (4, 0.3), (60, 0.0)])
def test_patches_cover_every_node_and_every_edge(patches, drop_rate):
    graph = grid(6, 7)
    made = GraphPatches(patches, drop_rate=drop_rate, shuffle=True, seed=3)(graph)
    assert set(made.patch_node.tolist()) == set(range(42))
    assert set(made.patch_edge.tolist()) == set(range(graph.edge_index.shape[1]))
    members = set(zip(made.patch_of.tolist(), made.patch_node.tolist(), strict=True))
    inside = {(p, e) for p in range(patches) for e, (s, t) in enumerate(graph.edge_index.T.tolist())
              if {(p, s), (p, t)} <= members}  # fmt: skip
    owner = made.patch_of[made.patch_edges]
    assert torch.equal(owner[0], owner[1])
    assert sorted(zip(owner[0].tolist(), made.patch_edge.tolist(), strict=True)) == sorted(inside)
    assert torch.equal(made.patch_node[made.patch_edges], graph.edge_index[:, made.patch_edge])


@pytest.mark.fact("graph_vit_mixer", 3)
def test_the_diagonal_of_the_adjacency_counts_nodes_and_it_is_symmetric():
    made = GraphPatches(5, seed=1)(grid(6, 7))
    a = made.patch_adjacency[0]
    assert torch.equal(a, a.T) and torch.equal(a.diagonal(), torch.bincount(made.patch_of, minlength=5).float())
    sets = [set(made.patch_node[made.patch_of == p].tolist()) for p in range(5)]
    assert a.tolist() == [[len(p & q) for q in sets] for p in sets]
    step = (a / a.sum(1, keepdim=True)).double()
    expected = torch.stack([torch.linalg.matrix_power(step, k).diagonal() for k in range(1, 9)], 1)
    torch.testing.assert_close(made.patch_code[0].double(), expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(return_code(torch.zeros(2, 2)), torch.zeros(2, 8))


def test_without_growth_the_edges_between_parts_are_lost():
    graph = grid(6, 7)
    part, made = partition(graph.edge_index, 42, 4), GraphPatches(4, hops=0)(graph)
    assert len(made.patch_node) == 42 and len(made.patch_edge) == graph.edge_index.shape[1] - 2 * cut(
        graph.edge_index, part
    )
    wide = GraphPatches(4, hops=2)(graph)
    near = GraphPatches(4, hops=1)(graph)
    assert len(wide.patch_node) > len(near.patch_node) > 42


def test_small_graphs_get_a_patch_a_node_and_empty_ones():
    graph = ring_graph()
    made = GraphPatches(16)(graph)
    assert made.patch_mask[0].tolist() == [True] * 12 + [False] * 4
    degree = torch.bincount(graph.edge_index[0])
    assert torch.equal(made.patch_adjacency[0].diagonal()[:12].long(), degree + 1)
    shuffled = GraphPatches(16, shuffle=True, seed=2)(graph)
    assert int(shuffled.patch_mask.sum()) == 12 and not torch.equal(shuffled.patch_mask, made.patch_mask)


def test_a_batch_numbers_everything_anew():
    cutter = GraphPatches(4)
    one, other = cutter(grid(3, 4)), cutter(grid(5, 5))
    many = Batch.from_data_list([one, other])
    assert many.patch_mask.shape == (2, 4) and many.patch_adjacency.shape == (2, 4, 4) and many.num_nodes == 37
    m = len(one.patch_node)
    assert torch.equal(many.patch_node[m:], other.patch_node + 12) and torch.equal(
        many.patch_of[m:], other.patch_of + 4
    )
    k = len(one.patch_edge)
    assert torch.equal(many.patch_edges[:, k:], other.patch_edges + m)
    assert torch.equal(many.edge_index[:, many.patch_edge], many.patch_node[many.patch_edges])


def test_a_feed_cuts_anew_in_every_epoch():
    graphs = tuple(grid(5, 5 + i) for i in range(2))
    data = Graphs(graphs, torch.tensor([0, 1]), ("a", "b"), "grids")
    loader = feed(data, InPatches(GraphPatches(4, drop_rate=0.3, shuffle=True)), 2, seed=0)
    (first,) = list(loader)
    (again,) = list(loader)
    loader.set_epoch(1)
    (later,) = list(loader)
    assert torch.equal(first.inputs[0].patch_node, again.inputs[0].patch_node)
    assert first.inputs[0].patch_node.shape != later.inputs[0].patch_node.shape or not torch.equal(
        first.inputs[0].patch_node, later.inputs[0].patch_node
    )
    with value_error("patches must be 1 or more"):
        GraphPatches(0)

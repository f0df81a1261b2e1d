import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.nn import TopKPooling

from tests.typecheck import value_error
from ziggurat.graphs.pooling.diff_pool import DenseMeanConv, DiffPoolClassifier
from ziggurat.graphs.pooling.sparse_hgc import (
    MeanGCNConv,
    SparseHierarchicalClassifier,
    TopKPool,
    induced,
    largest_of_each,
)
from ziggurat.testing import ring_graph


def several(sizes=(12, 5, 9, 1)):
    return Batch.from_data_list(
        [ring_graph(max(n, 2), 6, seed=n) if n > 1 else ring_graph(2, 6, seed=1) for n in sizes]
    )


@pytest.mark.fact("sparse_hgc", 1)
def test_equals_the_peer_with_the_same_direction():
    many = several()
    for ratio in (0.8, 0.5, 0.3):
        ours, peer = TopKPool(6, ratio), TopKPooling(6, ratio=ratio)
        with torch.no_grad():
            peer.select.weight.copy_(ours.direction[None])
        got, want = ours(many.x, many.edge_index, many.batch), peer(many.x, many.edge_index, batch=many.batch)
        torch.testing.assert_close(got.perm, want[4])
        torch.testing.assert_close(got.x, want[0])
        torch.testing.assert_close(got.edge_index, want[1])
        torch.testing.assert_close(got.batch, want[3])
        torch.testing.assert_close(got.score.tanh(), want[5])


@pytest.mark.fact("sparse_hgc", 2)
def test_sizes_are_rounded_up_in_each_graph():
    graph = ring_graph(100, 6)
    x, edges, sizes = graph.x, graph.edge_index, []
    for _ in range(3):
        x, edges, *_ = TopKPool(6)(x, edges)
        sizes.append(len(x))
    assert sizes == [80, 64, 52]
    counts = torch.arange(1, 60)
    batch = torch.arange(59).repeat_interleave(counts)
    kept = torch.bincount(batch[largest_of_each(torch.rand(len(batch)), batch, 0.8)])
    assert kept.tolist() == [(4 * n + 4) // 5 for n in counts.tolist()]


@pytest.mark.fact("sparse_hgc", 3)
def test_the_gate_alone_gives_the_direction_a_gradient():
    many, pool = several(), TopKPool(6)
    out = pool(many.x, many.edge_index, many.batch)
    out.x.square().sum().backward()
    assert pool.direction.grad.abs().sum() > 0
    pool.zero_grad()
    x = many.x.clone().requires_grad_()
    x[pool(x, many.edge_index, many.batch).perm].square().sum().backward()
    assert pool.direction.grad is None and x.grad.abs().sum() > 0


@pytest.mark.fact("sparse_hgc", 4)
def test_renaming_nodes_changes_nothing():
    graph = ring_graph(20, 6)
    network = SparseHierarchicalClassifier(6, 3, 8).double().eval()
    x, order = graph.x.double(), torch.randperm(20)
    want = network(x, graph.edge_index)
    torch.testing.assert_close(network(x[order], order.argsort()[graph.edge_index]), want)


def test_the_subgraph_is_induced():
    graph, perm = ring_graph(12), torch.tensor([7, 2, 9, 3, 8])
    weight = torch.rand(graph.num_edges)
    a = torch.zeros(12, 12).index_put(tuple(graph.edge_index), weight)
    edges, kept = induced(graph.edge_index, weight, perm, 12)
    torch.testing.assert_close(torch.zeros(5, 5).index_put(tuple(edges), kept), a[perm][:, perm])


def test_the_convolution_equals_a_dense_product():
    graph, conv = ring_graph(12), MeanGCNConv(8, 5).double()
    x = graph.x.double()
    a = torch.eye(12, dtype=x.dtype).index_put(tuple(graph.edge_index), torch.ones((), dtype=x.dtype))
    want = (a / a.sum(1, keepdim=True)) @ x @ conv.around.weight.T + x @ conv.own.weight.T
    torch.testing.assert_close(conv(x, graph.edge_index), want)


def test_readouts_follow_the_pooling_and_are_added():
    many = several()
    network = SparseHierarchicalClassifier(6, 3, 8).eval()
    features = network.forward_features(many.x, many.edge_index, None, many.batch)
    assert [tuple(f.shape) for f in features] == [(4, 16)] * 3
    out = network.stages[0](many.x, many.edge_index, None, many.batch)
    torch.testing.assert_close(features[0][1, :8], out.x[out.batch == 1].mean(0))
    torch.testing.assert_close(features[0][1, 8:], out.x[out.batch == 1].amax(0))
    total = features[0] + features[1] + features[2]
    torch.testing.assert_close(network.forward_head(features), network.head(total))


def test_memory_grows_with_nodes_and_edges():
    def saved(n):
        size, graph = 0, ring_graph(n, 6)

        def count(t):
            nonlocal size
            size += t.numel() * t.element_size()
            return t

        with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
            SparseHierarchicalClassifier(6, 3, 8)(graph.x, graph.edge_index)
        return size

    assert 3.5 < saved(4000) / saved(1000) < 4.5


def test_mistakes_are_named():
    for ratio in (0.0, 1.5):
        with value_error("ratio must be above 0"):
            TopKPool(6, ratio)
    with value_error("depth must be 1"):
        SparseHierarchicalClassifier(6, 3, depth=0)
    with value_error("names node 99"):
        TopKPool(6)(torch.ones(3, 6), torch.tensor([[0], [99]]))


def test_the_dense_baseline_has_the_same_convolution_and_independent_graphs():
    graph, ours = ring_graph(12), MeanGCNConv(8, 5)
    theirs = DenseMeanConv(8, 5)
    theirs.load_state_dict(ours.state_dict())
    a = torch.zeros(12, 12).index_put(tuple(graph.edge_index), torch.ones(()))
    torch.testing.assert_close(theirs(graph.x[None], a[None])[0], ours(graph.x, graph.edge_index))
    many, network = several(), DiffPoolClassifier(6, 3, 12, 8).eval()
    together = network(many.x, many.edge_index, None, many.batch)
    assert together.shape == (4, 3) and network.pooling_loss > 0
    first = many.get_example(0)
    torch.testing.assert_close(network(first.x, first.edge_index)[0], together[0])
    with value_error("largest and depth"):
        DiffPoolClassifier(6, 3, 0)

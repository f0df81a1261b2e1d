import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data import Episodes, Labelled, ManyGraphs, TripletFeed, TwoViews, WholeGraph, feed
from ziggurat.data.datasets import Graphs
from ziggurat.data.seeds import derive
from ziggurat.learning import Supervised
from ziggurat.nn import MLP, fit
from ziggurat.testing import example_images, ring_graph


def indices(loader):
    return [batch.index.tolist() for batch in loader]


def test_order_is_a_function_of_seed_and_epoch():
    data = example_images(20)
    one, two = feed(data, Labelled(), 8, seed=1), feed(data, Labelled(), 8, seed=1)
    first = indices(one)
    assert first == indices(two) and sorted(sum(first, [])) == list(range(20))
    one.set_epoch(1)
    assert indices(one) != first
    assert indices(feed(data, Labelled(), 8, seed=2)) != first
    assert [len(i) for i in first] == [8, 8, 4] and len(one) == 3
    assert [len(i) for i in indices(feed(data, Labelled(), 8, drop_last=True))] == [8, 8]


def test_training_sees_another_order_in_each_epoch():
    seen = []

    class Watched(Supervised):
        def losses(self, batch):
            seen.append(tuple(batch.index.tolist()))
            return super().losses(batch)

    fit(Watched(MLP(768, 4, (4,))), feed(example_images(16), Labelled(), 16), epochs=3)
    assert len(seen) == len(set(seen)) == 3


def test_a_loader_resumes_where_it_was():
    data = example_images(20)
    whole = indices(feed(data, Labelled(), 4, seed=3))
    loader = feed(data, Labelled(), 4, seed=3)
    iterator = iter(loader)
    done = [next(iterator).index.tolist() for _ in range(2)]
    other = feed(data, Labelled(), 4, seed=3)
    other.load_state_dict(loader.state_dict())
    assert done + indices(other) == whole
    assert indices(other) == whole  # the next epoch is complete again


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_partition_every_step(world):
    data = example_images(24)
    parts = [indices(feed(data, Labelled(), 4, rank=r, world=world)) for r in range(world)]
    whole = indices(feed(data, Labelled(), 4 * world))
    for step, together in enumerate(whole):
        assert sorted(sum((p[step] for p in parts), [])) == sorted(together)


def test_augmentation_is_seeded_by_the_batch_and_leaves_the_global_generator():
    data = example_images(8)
    kind = TwoViews(lambda x: x + torch.rand(len(x), 1, 1, 1))
    state = torch.get_rng_state()
    one, two = next(iter(feed(data, kind, 8))), next(iter(feed(data, kind, 8)))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one.views[0], two.views[0]) and not torch.equal(one.views[0], one.views[1])
    torch.testing.assert_close(one.inputs[0], data.inputs(one.index))


def test_normalisation_reaches_every_image_of_a_batch():
    data = example_images(12)
    stats = (torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.25, 1.0]))
    for kind in (Labelled(), TwoViews(lambda x: x), TripletFeed()):
        batch = next(iter(feed(data, kind, 4, normalize=stats)))
        plain = next(iter(feed(data, kind, 4)))
        images = [(batch.inputs[0], plain.inputs[0])]
        images += [(a, b) for a, b in zip(getattr(batch, "views", ()), getattr(plain, "views", ()), strict=True)]
        for name in ("positive", "negative"):
            if hasattr(batch, name):
                images.append((getattr(batch, name), getattr(plain, name)))
        for normalized, x in images:
            torch.testing.assert_close(normalized[:, 1], (x[:, 1] - 0.2) / 0.25)


def test_triplets_are_of_the_right_classes_and_uniform():
    labels = torch.tensor([0] * 5 + [2] * 5 + [3] * 5)  # class 1 has no sample
    data = example_images(15)
    object.__setattr__(data, "labels", labels)
    flat = data.inputs(slice(None)).flatten(1)

    def classes(x):
        return labels[torch.cdist(x.flatten(1), flat).argmin(1)]

    counts = torch.zeros(4)
    for epoch in range(60):
        loader = feed(data, TripletFeed(), 15)
        loader.set_epoch(epoch)
        for batch in loader:
            assert torch.equal(classes(batch.positive), batch.target)
            negative = classes(batch.negative)
            assert (negative != batch.target).all()
            counts += torch.bincount(negative[batch.target == 0], minlength=4)
    assert counts[1] == 0 and abs(counts[2] / counts[3] - 1) < 0.35


def test_episodes_have_disjoint_support_and_queries_of_relabelled_classes():
    data = example_images(40, classes=4)
    kind = Episodes(ways=3, shots=2, queries=4, count=5)
    loader = feed(data, kind, 1, seed=1)
    batches = list(loader)
    assert len(batches) == len(loader) == 5
    for batch in batches:
        assert batch.support.shape == (3, 2, 3, 16, 16) and batch.inputs[0].shape == (12, 3, 16, 16)
        assert batch.target.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        queries = data.labels[batch.index].view(3, 4)
        assert (queries == queries[:, :1]).all() and len(queries[:, 0].unique()) == 3
        flat = data.inputs(slice(None)).flatten(1)
        support = torch.cdist(batch.support.flatten(0, 1).flatten(1), flat).argmin(1)
        assert not set(support.tolist()) & set(batch.index.tolist())
        assert torch.equal(data.labels[support].view(3, 2)[:, 0], queries[:, 0])


def test_whole_graph_precomputes_once():
    calls = []
    loader = feed(ring_graph(), WholeGraph(precompute=lambda data: (calls.append(1) or data.x * 2,)))
    batches = [*loader, *loader]
    assert len(calls) == 1 and batches[0] is batches[1]
    assert torch.equal(batches[0].target, ring_graph().y[::2])
    assert batches[0].pick(torch.arange(12)).tolist() == [0, 2, 4, 6, 8, 10]


def test_several_graphs_are_one_and_each_node_knows_its_own():
    graphs = [ring_graph(seed=i) for i in range(5)]
    first, second = feed(Graphs(tuple(graphs), torch.arange(5), tuple("abcde"), "rings"), ManyGraphs(), 3)
    x, edges, weight, batch = first.inputs
    assert len(x) == 36 and weight is None and torch.bincount(batch).tolist() == [12, 12, 12]
    assert torch.equal(first.target, first.index) and len(second) == 2
    own = graphs[int(first.index[1])]
    assert torch.equal(x[12:24], own.x) and torch.equal(edges[:, batch[edges[0]] == 1] - 12, own.edge_index)


def test_a_hypergraph_is_fed_whole():
    graph = ring_graph()
    graph.hyperedge_index = torch.tensor([[0, 1, 2], [0, 0, 0]])
    (batch,) = feed(graph, WholeGraph())
    assert torch.equal(batch.inputs[1], graph.hyperedge_index) and batch.inputs[2] is None


def test_seeds_differ_where_sums_would_collide():
    assert derive(0, "order", 1) != derive(1, "order", 0)
    assert 0 <= derive("x", 5) < 2**63


def test_mistakes_are_named():
    with value_error("at least 1"):
        feed(example_images(), Labelled(), 0)
    with value_error("not a graph"):
        feed(example_images(), WholeGraph())
    with value_error("mlp"):
        feed(ring_graph(), Labelled())
    with value_error("fewer than the 9"):
        next(iter(feed(example_images(40), Episodes(ways=9), 1)))
    one_class = example_images(8).subset([0, 4])
    with value_error("one class"):
        next(iter(feed(one_class, TripletFeed(), 2)))

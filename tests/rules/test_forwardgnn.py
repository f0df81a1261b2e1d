import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from tests.typecheck import value_error
from ziggurat.data.feeds import feed
from ziggurat.nn.fitting import fit
from ziggurat.nn.profile import saved_bytes
from ziggurat.rules.forwardgnn import (
    ForwardGNN,
    GraphForwardForward,
    SingleForwardLayer,
    VirtualClassNodes,
    fit_layer_by_layer,
    known_labels,
)
from ziggurat.testing.examples import ring_graph


def batch(learner, data=None):
    return next(iter(feed(ring_graph() if data is None else data, learner.feed)))


def communities(nodes=60):
    """Two groups that mostly link among themselves, with weak features."""
    g = torch.Generator().manual_seed(0)
    data = ring_graph(nodes)
    data.y = torch.arange(nodes) * 2 // nodes
    near = (torch.rand(nodes, nodes, generator=g) < torch.where(data.y[:, None] == data.y[None], 0.2, 0.02)).triu(1)
    data.edge_index = torch.cat([near.nonzero().T, near.nonzero().T.flip(0)], 1)
    data.x = torch.randn(nodes, 8, generator=g) + nn.functional.one_hot(data.y, 8)
    return data


@pytest.mark.fact("forwardgnn", 1)
@pytest.mark.parametrize("top_down", ["none", "input", "loss"])
def test_no_loss_reaches_another_layer(top_down):
    learner = ForwardGNN(8, 3, (6, 6, 6), top_down=top_down)
    for k, loss in enumerate(learner.losses(batch(learner)).values()):
        learner.zero_grad()
        loss.mean().backward()
        for j, layer in enumerate(learner.layers):
            grads = [p.grad for p in layer.parameters()]
            assert all(g is not None for g in grads) if j == k else grads == [None] * len(grads)


@pytest.mark.fact("forwardgnn", 2)
@pytest.mark.parametrize("both", [True, False])
def test_size_of_the_augmented_graph(both):
    data = ring_graph()
    m = int(data.train_mask.sum())
    x, edges, weights = VirtualClassNodes(3, both)(data)
    assert len(x) == 12 + 3 and torch.equal(x[:12], data.x) and weights is None
    assert edges.shape[1] == data.edge_index.shape[1] + (2 * m if both else m)
    added = edges[:, data.edge_index.shape[1] :]
    real = torch.where(added < 12, added, -1).max(0).values
    virtual = added.max(0).values - 12
    assert data.train_mask[real].all() and torch.equal(virtual, data.y[real])  # no label leaks
    assert torch.equal(x, VirtualClassNodes(3, both)(data)[0])  # the features are fixed


@pytest.mark.fact("forwardgnn", 3)
def test_one_layer_is_backpropagation_of_the_same_objective():
    learner = ForwardGNN(8, 3, (6,)).double()
    data = ring_graph()
    data.x = data.x.double()
    b = batch(learner, data)
    conv = copy.deepcopy(learner.layers[0].conv)
    x, edges, _ = b.inputs
    h = conv(normalize(x, dim=1), edges).relu()
    cross_entropy((h[:12] @ h[12:].T)[data.train_mask], b.target).backward()
    learner.total(learner.losses(b), b).backward()
    for ours, theirs in zip(learner.layers[0].conv.parameters(), conv.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-12, rtol=0)


@pytest.mark.fact("forwardgnn", 4)
@pytest.mark.parametrize("conv", ["gcn", "sage", "gat"])
def test_scaling_an_output_leaves_the_next_layer_unchanged(conv):
    data = ring_graph()
    first, second = SingleForwardLayer(8, 6, conv), SingleForwardLayer(6, 5, conv)
    h = first(data.x, data.edge_index)
    torch.testing.assert_close(second(137.0 * h, data.edge_index), second(h, data.edge_index))


@pytest.mark.fact("forwardgnn", 5)
def test_memory_does_not_grow_with_the_depth():
    data = ring_graph(400)

    def forward_only(depth):
        learner = ForwardGNN(8, 3, (32,) * depth)
        b = batch(learner, data)
        with saved_bytes(learner) as meter:
            for _, loss in learner.stream(b):
                loss.mean().backward()
        return meter.peak

    def backward(depth):
        learner = ForwardGNN(8, 3, (32,) * depth)
        b = batch(learner, data)
        with saved_bytes(learner) as meter:
            h, *edges = b.inputs
            for layer in learner.layers:
                h = layer.conv(normalize(h, dim=1), *edges).relu()
            cross_entropy(b.pick(learner.logits(h)), b.target).backward()
        return meter.peak

    assert forward_only(8) <= 1.02 * forward_only(2)
    two, four, eight = (backward(depth) for depth in (2, 4, 8))
    assert eight > 2.5 * two and abs((eight - four) / (four - two) - 2) < 0.05


@pytest.mark.parametrize("top_down", ["none", "input", "loss"])
def test_learns_communities_layer_by_layer(top_down):
    data = communities()
    learner = ForwardGNN(8, 2, (16, 16), top_down=top_down, lr=0.01)
    b = batch(learner, data)
    fit_layer_by_layer(learner, b, steps=60)
    assert learner.only is None
    with torch.no_grad():
        chances = learner.predict(*b.inputs)
    assert chances.shape == (60, 2)
    torch.testing.assert_close(chances.sum(1), torch.full((60,), 2.0))
    assert (chances.argmax(1) == data.y)[data.test_mask].float().mean() >= 0.8


def test_only_the_chosen_layer_learns():
    learner = ForwardGNN(8, 3, (6, 6, 6), lr=0.01)
    before = copy.deepcopy(learner.state_dict())
    learner.only = 1
    fit(learner, [batch(learner)], steps=2)
    moved = {name for name, value in learner.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("network.1.") for name in moved)


@pytest.mark.parametrize("labels", ["features", "virtual"])
def test_forward_forward_learns_communities(labels):
    data = communities()
    learner = GraphForwardForward(8, 2, (16, 16), labels=labels, lr=0.01)
    b = batch(learner, data)
    fit(learner, [b], steps=100)
    with torch.no_grad():
        right = learner.predict(*b.inputs).argmax(1) == data.y
        assert learner.represent(*b.inputs).shape == (60, 16)
    assert right[data.test_mask].float().mean() >= 0.7


def test_labels_that_are_shown():
    data = ring_graph()
    x, edges, _, known = known_labels(data)
    assert torch.equal(known >= 0, data.train_mask) and torch.equal(known[data.train_mask], data.y[data.train_mask])
    shown, same, _ = GraphForwardForward(8, 3).labelled(x, edges, None, known)
    assert same is edges and shown.shape == (12, 11)
    torch.testing.assert_close(shown[:, 8:].sum(1), torch.ones(12))
    assert (shown[1, 8:] == 1 / 3).all() and shown[0, 8:].tolist() == [1.0, 0.0, 0.0]
    wired, more, _ = GraphForwardForward(8, 3, labels="virtual").labelled(x, edges, None, known)
    assert len(wired) == 15 and more.shape[1] == edges.shape[1] + int(data.train_mask.sum())
    assert (more[1] < 12).all()  # nothing reaches a virtual node


def test_weights_of_edges_are_kept():
    data = ring_graph()
    data.edge_weight = torch.rand(data.edge_index.shape[1])
    _, edges, weights = VirtualClassNodes(3)(data)
    assert len(weights) == edges.shape[1] and (weights[len(data.edge_weight) :] == 1).all()
    learner = ForwardGNN(8, 3, (6, 6))
    assert torch.isfinite(learner.predict(*batch(learner, data).inputs)).all()


def test_mistakes_are_named():
    for wrong, says in (
        ({"top_down": "up"}, "top_down"),
        ({"tau": 0.0}, "tau"),
        ({"sizes": ()}, "at least one"),
        ({"sizes": (4, 5), "top_down": "loss"}, "equal widths"),
    ):
        with value_error(says):
            ForwardGNN(8, 3, **wrong)
    with value_error("conv must"):
        SingleForwardLayer(8, 3, "cheb")
    with value_error("labels must"):
        GraphForwardForward(8, 3, labels="none")
    with value_error("num_classes"):
        VirtualClassNodes(1)
    with value_error("there are 2 classes"):
        VirtualClassNodes(2)(ring_graph())

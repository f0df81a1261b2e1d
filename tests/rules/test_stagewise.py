"""Stages that learn alone inside a network that runs as it always does."""

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.feeds import feed
from ziggurat.graphs.baselines import GCN
from ziggurat.nn.fitting import fit
from ziggurat.nn.mlp import MLP
from ziggurat.rules.mono_forward import MonoForward
from ziggurat.rules.stagewise import StagewiseMonoForward, cut_between
from ziggurat.testing.examples import ring_graph


def test_no_error_crosses_from_one_convolution_to_the_one_before():
    torch.manual_seed(0)
    learner, graph = StagewiseMonoForward(GCN(8, 3), 3), ring_graph()
    first, last = learner.goodness(graph.x, graph.edge_index, None)
    weight = next(learner.network.stages[0].parameters())
    last.sum().backward()
    assert weight.grad is None and learner.projections[1].weight.grad is not None
    first.sum().backward()
    assert weight.grad is not None
    assert not any(stage._forward_pre_hooks for stage in learner.network.stages)


def test_on_a_sequential_network_it_has_the_losses_and_gradients_of_mono_forward():
    torch.manual_seed(0)
    x, y = torch.randn(6, 5), torch.arange(6) % 3
    one, two = (MLP(5, 3, (7, 4), 0.0) for _ in range(2))
    two.load_state_dict(one.state_dict())
    ours, theirs = StagewiseMonoForward(one, 3), MonoForward(two, 3, (5,), by="stage", immediate=False)
    stages = list(zip(ours.projections, list(theirs.blocks)[-len(ours.projections) :], strict=True))
    for mine, block in stages:
        block.projection.load_state_dict(mine.state_dict())
    for mine, other in zip(ours.goodness(x), list(theirs.goodness(x))[-len(stages) :], strict=True):
        torch.testing.assert_close(mine, other)
    sum(torch.nn.functional.cross_entropy(g, y) for g in ours.goodness(x)).backward()
    sum(torch.nn.functional.cross_entropy(g, y) for g in theirs.goodness(x)).backward()
    for mine, other in zip(one.stages.parameters(), two.stages.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_hooks_go_whatever_happens():
    network = GCN(8, 3)
    with pytest.raises(ZeroDivisionError), cut_between(network.stages):
        1 / 0  # noqa: B018
    assert not any(stage._forward_pre_hooks for stage in network.stages)


def test_it_learns_a_graph():
    torch.manual_seed(0)
    graph = ring_graph()
    learner = StagewiseMonoForward(GCN(8, 3, dropout=0.0), 3, lr=0.05)
    batch = feed(graph, learner.feed).one
    fit(learner, [batch], steps=100)
    right = learner.predict(*batch.inputs).argmax(1) == graph.y
    assert right[graph.train_mask].float().mean() > 0.9


def test_mistakes_are_named():
    with value_error("mode must be"):
        StagewiseMonoForward(GCN(8, 3), 3, mode="mean")
    with value_error("2 or more"):
        StagewiseMonoForward(GCN(8, 3), 1)

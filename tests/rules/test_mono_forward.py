import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.typecheck import value_error
from ziggurat.data import Batch
from ziggurat.nn import MLP, Recipe, count_parameters, fit, saved_bytes
from ziggurat.rules import MonoForward
from ziggurat.rules.local import part_shapes, trainable_parts
from ziggurat.vision.backbones.resnet import cifar_resnet


def batch(features=12, classes=3, n=16, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=g, dtype=dtype)
    return Batch((x,), torch.arange(n) % classes, torch.arange(n))


@pytest.mark.fact("mono_forward", 1)
@pytest.mark.parametrize(("sizes", "count"), [((784, 1000, 1000), 1_806_000), ((3072, 2000, 2000, 2000), 14_210_000)])
def test_parameter_counts_with_projections(sizes, count):
    assert count_parameters(MonoForward(MLP(sizes[0], 10, sizes[1:]), 10, (sizes[0],))) == count


@pytest.mark.fact("mono_forward", 2)
def test_one_hidden_layer_is_exactly_backpropagation():
    b = batch(dtype=torch.float64)
    learner = MonoForward(MLP(12, 3, (20,)).double(), 3, (12,), immediate=False)
    learner.double()
    block = learner.blocks[0]
    plain = nn.Sequential(copy.deepcopy(block.part), copy.deepcopy(block.projection))
    learner.total(learner.losses(b), b).backward()
    cross_entropy(plain(b.inputs[0]), b.target).backward()
    for ours, theirs in zip(block.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-12, rtol=0)


@pytest.mark.fact("mono_forward", 3)
def test_no_loss_reaches_another_layer():
    b = batch()
    learner = MonoForward(MLP(12, 3, (8, 8, 8)), 3, (12,))
    for k, loss in enumerate(learner.losses(b).values()):
        learner.zero_grad()
        loss.mean().backward()
        for j, block in enumerate(learner.blocks):
            gradients = [p.grad for p in block.parameters()]
            assert all(g is not None and g.abs().sum() > 0 for g in gradients) if j == k else gradients == [None] * 3


@pytest.mark.fact(
    "mono_forward",
    4,
    corrected="with one forward pass a layer hands on the activation it had before its update, so both modes take the same steps",
)
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_immediate_and_summed_modes_take_the_same_steps(optimizer):
    b = batch()

    class With(MonoForward):
        def recipe(self):
            return Recipe(optimizer(self.blocks.parameters(), lr=0.05))

    summed, streamed = (With(MLP(12, 3, (8, 8)), 3, (12,), immediate=mode) for mode in (False, True))
    streamed.load_state_dict(summed.state_dict())
    summed.total(summed.losses(b), b).backward()
    for _, loss in streamed.stream(b):
        loss.mean().backward()
    for p, q in zip(summed.parameters(), streamed.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
    fit(summed, [b], steps=3)
    fit(streamed, [b], steps=3)
    for p, q in zip(summed.parameters(), streamed.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-7, rtol=1e-6)


def test_a_step_is_one_step_however_many_layers():
    learner = MonoForward(MLP(12, 3, (8, 8, 8)), 3, (12,))
    fit(learner, [batch()], steps=5)
    assert learner.trainer.global_step == 5


@pytest.mark.parametrize("mode", ["sum", "last"])
def test_prediction_modes(mode):
    learner = MonoForward(MLP(12, 3, (8, 8)), 3, (12,), mode=mode)
    x = batch().inputs[0]
    goodness = list(learner.goodness(x))
    expected = goodness[0] + goodness[1] if mode == "sum" else goodness[1]
    torch.testing.assert_close(learner.predict(x), expected)


def test_overfits_sixteen_samples_and_its_loss_is_flat_in_memory():
    learner = MonoForward(MLP(12, 3, (32, 32)), 3, (12,), lr=1e-2)
    b = batch()
    fit(learner, [b], steps=150)
    assert (learner.predict(*b.inputs).argmax(1) == b.target).all()

    def peak(depth):
        deep = MonoForward(MLP(64, 3, (64,) * depth), 3, (64,))
        wide = batch(64)
        with saved_bytes(deep) as meter:
            for _, loss in deep.stream(wide):
                loss.mean().backward()
        return meter.peak

    assert peak(8) <= 1.2 * peak(2)


def test_convolutional_networks_by_stage_and_by_block():
    network = cifar_resnet(14, 10, 1, widths=(4, 8, 8))
    by_stage = MonoForward(copy.deepcopy(network), 10, (1, 8, 8))
    by_block = MonoForward(network, 10, (1, 8, 8), by="block")
    assert (len(by_stage.blocks), len(by_block.blocks)) == (4, 7)
    assert by_stage.blocks[1].projection.in_features == 4 * 8 * 8
    assert by_block.predict(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_parts_without_parameters_join_their_neighbours():
    parts = trainable_parts(MLP(12, 0, (8, 4)), "stage")
    assert len(parts) == 2 and isinstance(parts[0][0], nn.Flatten)
    assert part_shapes(parts, (3, 4)) == [(8,), (4,)]


def test_mistakes_are_named():
    with value_error("'sum' or 'last'"):
        MonoForward(MLP(12, 3), 3, (12,), mode="mean")
    with value_error("2 or more"):
        MonoForward(MLP(12, 3), 1, (12,))
    with value_error("sequential"):
        MonoForward(nn.Linear(3, 3), 3, (3,))

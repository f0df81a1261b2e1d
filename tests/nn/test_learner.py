import math

import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.data import Batch
from ziggurat.learning import Supervised
from ziggurat.nn import MLP, Learner, Recipe, constant, cosine, fit, steps, walk, warmup_cosine
from ziggurat.vision.backbones.resnet import cifar_resnet


def batch(n=8, weight=None):
    g = torch.Generator().manual_seed(0)
    return Batch((torch.randn(n, 6, generator=g),), torch.arange(n) % 2, torch.arange(n) + 100, weight)


def test_total_weights_samples():
    learner = Supervised(MLP(6, 2))
    value = torch.tensor([1.0, 3.0])
    assert float(learner.total({"a": value, "b": torch.tensor(5.0)}, batch(2))) == 7
    assert float(learner.total({"a": value}, batch(2, torch.tensor([3.0, 1.0])))) == pytest.approx(1.5)


def test_a_loss_that_is_not_finite_stops_with_step_and_samples():
    b = batch()
    b.inputs[0][3] = math.nan
    with pytest.raises(FloatingPointError, match=r"step 0 for samples \[103\].*learning rate"):
        fit(Supervised(MLP(6, 2)), [b], steps=3)


def test_schedules_run_over_the_fraction_of_the_run():
    seen = []

    class Watched(Supervised):
        def recipe(self):
            return Recipe(torch.optim.SGD(self.parameters(), lr=1.0), cosine)

        def after_step(self, batch):
            seen.append(self.optimizers().param_groups[0]["lr"])

    fit(Watched(MLP(6, 2)), [batch()], steps=4)
    assert seen[0] == 1.0 or seen == pytest.approx([cosine((i + 1) / 4) for i in range(4)])
    assert [constant(0.3), cosine(0.5), cosine(2.0)] == [1.0, pytest.approx(0.5), pytest.approx(0.0)]
    assert [steps(0.5, 0.75)(f) for f in (0.4, 0.5, 0.8)] == [1, pytest.approx(0.1), pytest.approx(0.01)]
    assert warmup_cosine(0.0) < 0.05 and warmup_cosine(0.05) == pytest.approx(1.0)


def test_groups_and_schedules_must_agree():
    class Bad(Supervised):
        def recipe(self):
            return Recipe(torch.optim.SGD(self.parameters(), lr=1.0), [cosine, constant])

    with value_error("1 parameter groups but 2 schedules"):
        fit(Bad(MLP(6, 2)), [batch()], steps=1)


def test_same_seed_same_weights_and_global_generator_untouched():
    def train(seed):
        torch.manual_seed(0)
        learner = Supervised(MLP(6, 2, dropout=0.5))
        state = torch.get_rng_state()
        fit(learner, [batch()], steps=5, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        return learner.network.head.fc.weight

    assert torch.equal(train(1), train(1))
    assert not torch.equal(train(1), train(2))


def test_represent_and_predict():
    learner = Supervised(MLP(6, 2, (5,)))
    x = batch().inputs[0]
    assert learner.represent(x).shape == (8, 5)
    torch.testing.assert_close(learner.network.head.fc(learner.represent(x)), learner.predict(x))


def test_what_is_missing_is_said():
    with pytest.raises(TypeError, match="define losses"):
        Learner(nn.Linear(1, 1)).losses(batch())
    with value_error("positive"):
        Supervised(MLP(6, 2), lr=-1.0)
    with value_error("either steps or epochs"):
        fit(Supervised(MLP(6, 2)), [batch()])


def test_walk_names_parts_in_order():
    network = cifar_resnet(14, widths=(4, 4, 4))
    assert [name for name, _ in walk(network)] == ["stem", "stages.0", "stages.1", "stages.2"]
    blocks = list(walk(network, by="block"))
    assert [name for name, _ in blocks][:3] == ["stem", "stages.0.0", "stages.0.1"]
    x = torch.rand(1, 3, 8, 8)
    y = x
    for _, part in blocks:
        y = part(y)
    torch.testing.assert_close(y, network.forward_features(x)[-1])
    with value_error("'stage' or 'block'"):
        list(walk(network, by="layer"))

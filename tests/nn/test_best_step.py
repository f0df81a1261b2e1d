import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.data.batch import Batch
from ziggurat.learning.supervised import Supervised
from ziggurat.nn.best_step import BestStep
from ziggurat.nn.fitting import fit


def test_the_best_weights_come_back():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout(0.5))
    batch = Batch((torch.randn(6, 4),), torch.arange(6) % 3, torch.arange(6))
    seen = []

    def score(learner):
        assert not learner.training and not network[2].training
        seen.append(network[1].weight.clone())
        return -abs(len(seen) - 4)

    best = BestStep(score)
    learner = fit(Supervised(network), [batch], steps=7, callbacks=[best])
    assert (best.step, best.best, len(seen)) == (4, 0, 7)
    assert torch.equal(learner.network[1].weight, seen[3]) and not torch.equal(seen[3], seen[6])


def test_looks_only_now_and_then_and_keeps_modes():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    batch = Batch((torch.randn(6, 4),), torch.arange(6) % 3, torch.arange(6))
    modes = []
    best = BestStep(lambda learner: modes.append(learner.training) or 0.0, every=3)
    fit(Supervised(network), [batch], steps=7, callbacks=[best])
    assert modes == [False, False] and best.step == 3


def test_mistakes_are_named():
    with value_error("1 step or more"):
        BestStep(lambda learner: 0.0, every=0)

"""Neighbours that are looked up anew in every epoch, against a brute-force vote on what the network says then."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.typecheck import value_error
from ziggurat.data import Labelled, Table, feed
from ziggurat.learning.features import encode
from ziggurat.learning.neighbour_tuning import NeighbourTuning
from ziggurat.nn import MLP
from ziggurat.nn.fitting import fit


def blobs(n=60):
    """Three classes, and one sample whose label is that of another one."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    x = 4 * torch.eye(3)[labels] + torch.randn(n, 3, generator=g)
    labels[0] = 1
    return Table(x, labels, ("a", "b", "c"), "blobs")


def vote(z, labels, k, temperature):
    """p_knn(y | x) of every sample among the others."""
    z = z / z.norm(dim=1, keepdim=True)
    away = (2 - 2 * z @ z.T).fill_diagonal_(torch.inf)
    found = []
    for i in range(len(z)):
        near = away[i].argsort()[:k]
        weight = torch.exp(-away[i, near] / temperature)
        found.append(float(weight[labels[near] == labels[i]].sum() / weight.sum()))
    return np.array(found)


def tuned(epochs, **options):
    data, seen = blobs(), []
    torch.manual_seed(0)

    class Watched(NeighbourTuning):
        def on_train_epoch_start(self):
            super().on_train_epoch_start()
            seen.append((encode(self, data), self.agreement.clone()))

    learner = Watched(MLP(3, 3, (8,)), len(data), 5, lr=0.02, **options)
    return fit(learner, feed(data, Labelled(), 16, 0), epochs=epochs), data, seen


def test_each_epoch_asks_the_neighbours_of_what_the_network_says_then():
    _, data, seen = tuned(3)
    assert len(seen) == 3 and not torch.allclose(seen[0][1], seen[2][1])
    for z, agreement in seen:
        np.testing.assert_allclose(agreement, vote(z, data.labels, 5, 0.07), atol=1e-4)
    assert seen[2][1][0] < 0.2 < 0.8 < seen[2][1][1:].mean(), "the wrong label has no neighbours"


@pytest.mark.parametrize(
    ("kind", "factor"), [("reg", lambda p: 1 - 0.5 * p.log().clamp_min(-100)), ("focal", lambda p: (1 - p) ** 0.5)]
)
def test_losses_are_weighted_by_the_agreement(kind, factor):
    learner, data, _ = tuned(1, kind=kind, strength=0.5)
    batch = next(iter(feed(data, Labelled(), 60, 1)))
    plain = cross_entropy(learner.predict(*batch.inputs), batch.target, reduction="none")
    torch.testing.assert_close(learner.losses(batch)["cross_entropy"], factor(learner.agreement[batch.index]) * plain)


def test_mistakes_are_named():
    with value_error("there must be 2 or more, got 1"):
        NeighbourTuning(MLP(3, 3, (8,)), 1)
    with value_error("needs a loader of 50 samples"):
        fit(NeighbourTuning(MLP(3, 3, (8,)), 50), feed(blobs(), Labelled(), 16, 0), epochs=1)

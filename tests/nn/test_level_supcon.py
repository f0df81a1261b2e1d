"""Supervised contrastive loss on all levels."""

import pytest
import torch

from ziggurat.nn.losses.level_supcon import level_positives, level_supcon
from ziggurat.nn.losses.supcon import SupConLoss

LABELS = torch.tensor([[0, 0], [0, 1], [1, 2], [0, 0], [1, 2], [1, 3], [0, 1], [0, 0]])


def naive(z, same, among, temperature):
    """The loss of each anchor, pair by pair."""
    z, found = z / z.norm(dim=1, keepdim=True), []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i and among[a]]
        positives = [p for p in others if same[i, p]] if among[i] else []
        total = sum(torch.exp(z[i] @ z[a] / temperature) for a in others)
        terms = [-torch.log(torch.exp(z[i] @ z[p] / temperature) / total) for p in positives]
        found.append((sum(terms) / len(terms)) if terms else torch.zeros(()))
    return torch.stack([torch.as_tensor(x, dtype=torch.float64) for x in found])


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("part", [False, True])
def test_against_its_formula(own, part):
    z = torch.randn(2, 8, 5, dtype=torch.float64)
    among = torch.tensor([[1, 1, 1, 0, 1, 0, 1, 1], [1] * 8]).bool() if part else torch.ones(2, 8).bool()
    got = level_supcon(z if own else z[0], LABELS, 0.2, among if part else None)
    for level in range(2):
        same = LABELS[:, None, level] == LABELS[None, :, level]
        want = naive(z[level if own else 0], same, among[level], 0.2)
        torch.testing.assert_close(got.values[level], want)
        assert torch.equal(got.counted[level], want != 0)


def test_the_mean_is_that_of_the_flat_loss():
    z = torch.randn(8, 5, dtype=torch.float64)
    got = level_supcon(z, LABELS, 0.1).mean()
    for level in range(2):
        torch.testing.assert_close(got[level], SupConLoss(0.1)(z, LABELS[:, level]))


def test_the_mean_by_class_weighs_classes_alike():
    z = torch.randn(8, 5, dtype=torch.float64)
    losses = level_supcon(z, LABELS, 0.1)
    values = losses.values[0]
    want = (values[LABELS[:, 0] == 0].mean() + values[LABELS[:, 0] == 1].mean()) / 2
    torch.testing.assert_close(losses.mean_by_class(LABELS)[0], want)
    fine = [losses.values[1][LABELS[:, 1] == k].mean() for k in range(3)]  # class 3 is alone and does not count
    torch.testing.assert_close(losses.mean_by_class(LABELS)[1], torch.stack(fine).mean())


def test_positives_of_a_finer_level_are_among_those_above():
    coarse, fine = level_positives(LABELS)
    assert not (fine & ~coarse).any() and (coarse & ~fine).any()


def test_one_sample_has_a_loss_of_zero_and_a_finite_gradient():
    z = torch.randn(1, 3, requires_grad=True)
    loss = level_supcon(z, LABELS[:1], 0.1).mean().sum()
    loss.backward()
    assert float(loss) == 0 and torch.isfinite(z.grad).all()

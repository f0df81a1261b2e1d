import torch
from torch.nn.functional import softplus

from ziggurat.data import Batch
from ziggurat.nn import fit
from ziggurat.rules import ForwardForward


def test_loss_against_a_loop():
    torch.manual_seed(0)
    learner = ForwardForward(20, 4, (6, 5))
    x, y = torch.rand(3, 20), torch.tensor([0, 3, 1])
    torch.manual_seed(1)
    losses = learner.losses(Batch((x,), y, torch.arange(3)))
    torch.manual_seed(1)
    wrong = (y + torch.randint(1, 4, (3,))) % 4
    assert (wrong != y).all()
    for i in range(3):
        totals = []
        for label in (y[i], wrong[i]):
            h = x[i].clone()
            h[:4] = 0
            h[int(label)] = x.max()
            goodness = []
            for stage in learner.network.stages:
                h = stage(h / h.norm() * len(h) ** 0.5)
                goodness.append((h**2).mean())
            totals.append(goodness)
        for layer in range(2):
            expected = softplus(2 - totals[0][layer]) + softplus(totals[1][layer] - 2)
            torch.testing.assert_close(losses[f"part{layer}"][i], expected)


def test_learns_four_prototypes():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(64) % 4
    x = torch.rand(4, 40, generator=g)[y] + 0.1 * torch.rand(64, 40, generator=g)
    learner = ForwardForward(40, 4, (64, 64), lr=5e-3)
    fit(learner, [Batch((x,), y, torch.arange(64))], steps=300)
    assert (learner.predict(x).argmax(1) == y).float().mean() >= 0.95

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.typecheck import value_error
from ziggurat.nn.losses.label_smoothing import LabelSmoothingCrossEntropy


@pytest.mark.fact("inception_v3", 4)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_against_a_loop_and_torch(smoothing):
    logits, labels = torch.randn(5, 7, dtype=torch.float64), torch.tensor([0, 6, 3, 3, 1])
    loss = LabelSmoothingCrossEntropy(smoothing, reduction="none")(logits, labels)
    for row, label, value in zip(logits, labels, loss, strict=True):
        p = row.softmax(0)
        q = [smoothing / 7 + (1 - smoothing) * (k == label) for k in range(7)]
        assert float(value) == pytest.approx(-sum(float(q[k] * p[k].log()) for k in range(7)))
        wanted = -(1 - smoothing) * p[label].log() - smoothing * p.log().mean()
        assert float(value) == pytest.approx(float(wanted))
    torch.testing.assert_close(
        LabelSmoothingCrossEntropy(smoothing)(logits, labels), cross_entropy(logits, labels, label_smoothing=smoothing)
    )


@pytest.mark.fact("inception_v3", 4)
def test_without_smoothing_it_is_cross_entropy():
    logits, labels = torch.randn(5, 7, dtype=torch.float64), torch.tensor([0, 6, 3, 3, 1])
    torch.testing.assert_close(LabelSmoothingCrossEntropy(0.0)(logits, labels), cross_entropy(logits, labels))


def test_it_is_least_at_a_finite_gap_of_the_logits():
    # the best p is q, so the gap is log of q's ratio: the right class has 1 - eps + eps/K, the others eps/K
    gap = torch.tensor((0.9 + 0.1 / 4) / (0.1 / 4)).log()
    logits = (gap * torch.eye(4)[:1]).requires_grad_()
    loss = LabelSmoothingCrossEntropy(0.1)(logits, torch.tensor([0]))
    assert float(torch.autograd.grad(loss, logits)[0].abs().max()) < 1e-6


def test_mistakes_are_named():
    with value_error("between 0 and 1, got 2"):
        LabelSmoothingCrossEntropy(2)
    with value_error("'mean' or 'none'"):
        LabelSmoothingCrossEntropy(reduction="sum")

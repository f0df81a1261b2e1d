import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import ziggurat.metrics.frechet
from tests.typecheck import value_error
from ziggurat.metrics.frechet import (
    FrechetDistance,
    Gaussian,
    KernelDistance,
    frechet,
    frechet_distance,
    gaussian,
    kernel_distance,
)


def correlated(n=400, d=5):
    return torch.randn(n, d, dtype=torch.float64) @ torch.randn(d, d, dtype=torch.float64) + torch.randn(d).double()


@pytest.mark.fact("fid_classes", 1)
def test_equal_sets_symmetry_rotation_and_shift():
    x, y = correlated(), correlated(300)
    assert abs(float(frechet_distance(x, x))) < 1e-6
    assert float(frechet_distance(x, y)) == pytest.approx(float(frechet_distance(y, x)), rel=1e-9)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    assert float(frechet_distance(x @ rotation, y @ rotation)) == pytest.approx(float(frechet_distance(x, y)), rel=1e-9)
    shift = torch.randn(5).double()
    assert float(frechet_distance(x, x + shift)) == pytest.approx(float(shift.square().sum()), abs=1e-6)


@pytest.mark.fact("fid_classes", 2)
def test_one_dimension_and_commuting_covariances():
    x, y = 2 + 3 * torch.randn(50, 1).double(), torch.randn(60, 1).double()
    expected = (x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2
    assert float(frechet_distance(x, y)) == pytest.approx(float(expected), rel=1e-9)
    basis = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    a, b = torch.rand(4).double(), torch.tensor([0.0, 1, 2, 3]).double()
    m, n = torch.randn(2, 4).double()
    found = frechet(Gaussian(m, basis @ a.diag() @ basis.T, 9), Gaussian(n, basis @ b.diag() @ basis.T, 9))
    assert float(found) == pytest.approx(float((m - n).square().sum() + (a.sqrt() - b.sqrt()).square().sum()), rel=1e-6)


@pytest.mark.fact("fid_classes", 3)
def test_equal_weights_are_none_and_the_gradient_of_log_weights_sums_to_zero():
    x, y = correlated(), correlated(80)
    logs = torch.zeros(80, dtype=torch.float64, requires_grad=True)
    distance = frechet_distance(x, y, logs.softmax(0))
    assert float(distance.detach()) == pytest.approx(float(frechet_distance(x, y)), abs=1e-6)
    distance.backward()
    assert abs(float(logs.grad.sum())) < 1e-9 < float(logs.grad.abs().max())


def test_gradient_is_the_numerical_one_also_where_a_covariance_is_singular():
    x, y = correlated(30, 3), correlated(6, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: frechet_distance(x, y), (y,))
    flat = torch.cat([x, x[:, :1]], 1)
    found = frechet_distance(flat, torch.cat([y, y[:, :1]], 1))
    (gradient,) = torch.autograd.grad(found, y)
    assert torch.isfinite(gradient).all() and float(found.detach()) > 0


@pytest.mark.fact("fid_classes", 5)
def test_halves_of_one_set_differ_in_fid_and_not_in_kid():
    kernel = []
    fid = {n: [] for n in (40, 160)}
    for _ in range(60):
        for n, found in fid.items():
            x = torch.randn(2 * n, 4).double()
            found.append(float(frechet_distance(x[:n], x[n:])))
        kernel.append(float(kernel_distance(x[:n], x[n:])))
    few, many = (torch.tensor(fid[n]) for n in (40, 160))
    assert float(many.min()) > 0 and float(few.mean()) > 2 * float(many.mean())
    kernel = torch.tensor(kernel)
    assert abs(float(kernel.mean())) < 3 * float(kernel.std()) / 60**0.5


@pytest.mark.fact("fid_classes", 6)
def test_as_torchmetrics_on_the_same_features():
    from torchmetrics.image.fid import FrechetInceptionDistance

    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 6))
    images = torch.rand(2, 150, 3, 2, 2)
    images[1] = images[1] ** 2
    ours = FrechetDistance(network)
    theirs = FrechetInceptionDistance(feature=network, input_img_size=(3, 2, 2), normalize=True)
    for side, real in ((images[0], True), (images[1], False)):
        for part in side.split(50):
            ours.update(part, real)
            theirs.update(part, real)
    assert float(ours.compute()) == pytest.approx(float(theirs.compute()), rel=1e-3)


def test_kid_against_a_loop_over_pairs_and_in_batches():
    x, y = torch.rand(7, 3).double(), torch.rand(5, 3).double()

    def k(a, b):
        return float(a @ b / 3 + 1) ** 3

    expected = sum(k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / 42
    expected += sum(k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / 20
    expected -= 2 * sum(k(a, b) for a in x for b in y) / 35
    assert float(kernel_distance(x, y)) == pytest.approx(expected)
    metric = KernelDistance(lambda v: v)
    metric.update(x[:4], True)
    metric.update(y, False)
    metric.update(x[4:], True)
    assert float(metric.compute()) == pytest.approx(expected)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.numel = max(
            [
                self.numel,
                *(x.numel() for x in (made if isinstance(made, (tuple, list)) else [made]) if torch.is_tensor(x)),
            ]
        )
        return made


def test_kid_keeps_a_block_of_pairs_at_a_time(monkeypatch):
    x, y = torch.rand(70, 3).double(), torch.rand(50, 3).double() ** 2
    whole = float(kernel_distance(x, y))
    monkeypatch.setattr(ziggurat.metrics.frechet, "BLOCK", 8)
    with Largest() as seen:
        assert float(kernel_distance(x, y)) == pytest.approx(whole)
    assert seen.numel <= 8 * 70


def test_mistakes_are_named():
    with value_error("two features or more"):
        gaussian(torch.rand(1, 3))
    with value_error("one weight for each of the 4 features, got 3"):
        gaussian(torch.rand(4, 3), torch.full((3,), 1 / 3))
    for wrong in (torch.tensor([0.5, 0.7, -0.2, 0.0]), torch.tensor([0.5, float("nan"), 0.5, 0.0])):
        with value_error("must not be negative"):
            gaussian(torch.rand(4, 3), wrong)
    with value_error("must sum to 1, these sum to 4"):
        frechet_distance(torch.rand(9, 3), torch.rand(4, 3), torch.ones(4))
    with value_error("two features or more"):
        kernel_distance(torch.rand(1, 3), torch.rand(4, 3))
    with value_error("take both from one network"):
        frechet_distance(torch.rand(9, 3), torch.rand(9, 2))
    with value_error("before compute"):
        FrechetDistance(lambda v: v).compute()

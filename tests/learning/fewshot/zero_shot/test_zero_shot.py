import numpy as np
import pytest
import torch

from tests.typecheck import value_error
from ziggurat.learning.fewshot.zero_shot.attributes import DAP, IAP, signature_scores
from ziggurat.learning.fewshot.zero_shot.calibrated import CalibratedStacking
from ziggurat.learning.fewshot.zero_shot.conse import ConSE, convex_combination
from ziggurat.learning.fewshot.zero_shot.devise import DeViSE, ranking_loss
from ziggurat.learning.fewshot.zero_shot.eszsl import ESZSL, eszsl_weights
from ziggurat.learning.fewshot.zero_shot.measures import (
    SeenUnseen,
    generalised,
    harmonic_mean,
    hubness,
    occurrences,
    open_set,
    per_class_accuracy,
)
from ziggurat.learning.fewshot.zero_shot.ridge import SemanticRidge, VisualRidge, ridge
from ziggurat.learning.fewshot.zero_shot.transductive import propagated_scores, self_trained_prototypes


def world(seed=0, n=20, noise=0.3):
    """Eight classes of three binary attributes, features that show them; six classes are seen."""
    rng = np.random.default_rng(seed)
    S = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)], dtype=float)
    y = np.repeat(np.arange(8), n)
    X = (2 * S[y] - 1) @ rng.normal(size=(3, 6)) + noise * rng.normal(size=(8 * n, 6))
    return X, y, S, np.array([0, 1, 3, 4, 6, 7]), np.array([2, 5])


ALL = (DAP(), IAP(), ConSE(4), DeViSE(epochs=10), ESZSL(), SemanticRidge(), VisualRidge())


@pytest.mark.parametrize("method", ALL, ids=lambda m: type(m).__name__)
def test_unseen_classes_are_recognised(method):
    X, y, S, seen, unseen = world()
    known = np.isin(y, seen)
    method.fit(X[known], y[known], S[seen])
    found = method.predict(X[~known], S[unseen])
    assert per_class_accuracy(unseen[found], y[~known]) > 0.85
    assert set(method.predict(X[known])) <= set(seen)  # without vectors: labels of seen classes
    assert method.decision_function(X, S).shape == (len(X), 8)


@pytest.mark.fact("zero_shot_recognition", 1)
def test_eszsl_is_the_stationary_point_of_its_objective():
    rng = np.random.default_rng(0)
    X, S, g, lam = rng.normal(size=(30, 5)), rng.normal(size=(4, 3)), 0.7, 1.9
    Y = 2 * np.eye(4)[rng.integers(0, 4, 30)] - 1
    w = torch.from_numpy(eszsl_weights(X, Y, S, g, lam)).requires_grad_()
    x, s, t = torch.from_numpy(X), torch.from_numpy(S).T, torch.from_numpy(Y)
    loss = (x @ w @ s - t).square().sum() + g * (w @ s).square().sum() + lam * (x @ w).square().sum()
    (loss + g * lam * w.square().sum()).backward()
    assert float(w.grad.norm()) < 1e-6


@pytest.mark.fact("zero_shot_recognition", 2)
def test_dap_with_right_attributes_is_never_wrong():
    S = np.array([[a, b, c, d] for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)], dtype=float)
    prior = np.array([0.1, 0.5, 0.9, 0.3])
    scores = signature_scores(S, S, prior)  # p(a = 1 | x) is exactly the class's attribute
    assert scores.argmax(1).tolist() == list(range(16))
    p = np.array([[0.2, 0.6, 0.5, 0.9]])
    for c in range(16):
        expected = sum(
            np.log((p[0, m] if S[c, m] else 1 - p[0, m]) / (prior[m] if S[c, m] else 1 - prior[m])) for m in range(4)
        )
        assert signature_scores(p, S, prior)[0, c] == pytest.approx(expected)


def test_an_attribute_that_all_seen_classes_share_keeps_its_prior():
    X, y, S, *_ = world()
    S = np.concatenate([S, np.ones((8, 1))], 1)
    found = DAP().fit(X, y, S).attribute_probabilities(X)
    assert (found[:, 3] == 1).all() and per_class_accuracy(DAP().fit(X, y, S).predict(X, S), y) > 0.8


@pytest.mark.fact("zero_shot_recognition", 3)
def test_conse_with_all_classes_is_the_expectation_and_with_one_the_top_class():
    rng = np.random.default_rng(0)
    p, S = rng.dirichlet(np.ones(5), 20), rng.normal(size=(5, 3))
    np.testing.assert_allclose(convex_combination(p, S, 5), p @ S)
    np.testing.assert_allclose(convex_combination(p, S, 99), p @ S)
    np.testing.assert_allclose(convex_combination(p, S, 1), S[p.argmax(1)])
    first, second = np.sort(p[0])[:-3:-1]
    a, b = np.argsort(-p[0])[:2]
    np.testing.assert_allclose(convex_combination(p, S, 2)[0], (first * S[a] + second * S[b]) / (first + second))


def test_devise_loss_against_a_loop():
    scores, target = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 3, 1, 1, 2, 0])
    for row, y, found in zip(scores, target, ranking_loss(scores, target, 0.1), strict=True):
        expected = sum(max(0.0, 0.1 - float(row[y]) + float(row[k])) for k in range(4) if k != y)
        assert float(found) == pytest.approx(expected)


def test_ridge_both_ways():
    X, y, S, *_ = world()
    w = ridge(X, S[y], 3.0)
    np.testing.assert_allclose(X.T @ (X @ w - S[y]) + 3 * w, 0, atol=1e-9)
    unit = S / np.maximum(np.linalg.norm(S, axis=1, keepdims=True), 1e-12)
    method = VisualRidge(0.1).fit(X, y, S)
    expected = ridge(unit[y], X, 0.1 * len(X))
    np.testing.assert_allclose(method.prototypes(S), unit @ expected)
    scores = method.decision_function(X[:2], S)
    assert scores[1, 4] == pytest.approx(-np.square(X[1] - unit[4] @ expected).sum())


@pytest.mark.fact("zero_shot_recognition", 4)
def test_harmonic_mean_and_the_two_ends_of_stacking():
    assert harmonic_mean(0, 0.9) == harmonic_mean(0.9, 0) == 0
    for u, s in np.random.default_rng(0).random((50, 2)):
        assert harmonic_mean(u, s) <= 2 * min(u, s)
    X, y, S, seen, unseen = world(noise=2.5)
    known = np.isin(y, seen)
    plain = ESZSL().fit(X[known], y[known], S[seen])
    zero, infinite = (CalibratedStacking(ESZSL(), c).fit(X[known], y[known], S[seen]) for c in (0.0, 1e9))
    np.testing.assert_array_equal(zero.predict(X, S), plain.predict(X, S))
    np.testing.assert_array_equal(infinite.predict(X, S), unseen[plain.predict(X, S[unseen])])


def test_the_curve_against_predictions_at_many_constants():
    rng = np.random.default_rng(1)
    y, seen = rng.integers(0, 6, 200), np.array([1, 1, 0, 1, 0, 0], dtype=bool)
    scores = rng.normal(size=(200, 6)) + 1.5 * np.eye(6)[y] + 0.8 * seen
    both = SeenUnseen(scores, y, seen)
    best = 0.0
    for constant in np.linspace(-3, 4, 60):
        predicted = (scores - constant * seen).argmax(1)
        u, s = (per_class_accuracy(predicted[part[y]], y[part[y]]) for part in (~seen, seen))
        assert both.at(constant) == pytest.approx({"U": u, "S": s, "H": harmonic_mean(u, s)})
        best = max(best, harmonic_mean(u, s))
    assert both.at(both.best_constant())["H"] >= best - 1e-12
    constants, u, s = both.curve()
    assert u[0] == 0 and s[-1] == 0 and (np.diff(u) >= 0).all() and (np.diff(s) <= 0).all() and len(constants) == 201
    assert both.area() == pytest.approx(sum((b - a) * (c + d) / 2 for a, b, c, d in zip(u, u[1:], s, s[1:])))
    assert generalised(scores, y, seen, 0.8)["AUSUC"] == pytest.approx(both.area())


def test_calibration_by_held_out_classes_raises_h():
    X, y, S, seen, _ = world(noise=0.8, n=60)
    train = np.isin(y, seen[:5]) & (np.arange(len(y)) % 2 == 0)
    made = CalibratedStacking(ESZSL()).fit(X[train], y[train], S[seen[:5]])
    rest = np.isin(y, seen) & (np.arange(len(y)) % 2 == 1)
    rows = np.searchsorted(seen, y[rest])
    constant = made.best_constant(X[rest], rows, S[seen])
    is_seen = made.seen(S[seen])
    assert is_seen.tolist() == [True] * 5 + [False]
    scores = made.decision_function(X[rest], S[seen])
    assert generalised(scores, rows, is_seen, constant)["H"] > generalised(scores, rows, is_seen)["H"]


@pytest.mark.fact("zero_shot_recognition", 5)
def test_occurrences_average_the_same_whatever_the_scores():
    rng = np.random.default_rng(0)
    for scale in (0, 3):
        scores = rng.normal(size=(300, 40)) + scale * rng.exponential(size=40)
        for k in (1, 5):
            counts = occurrences(scores, k)
            assert counts.mean() == pytest.approx(k * 300 / 40)
            if scale:
                assert hubness(scores, k) > 1
    assert hubness(np.eye(5), 1) == 0  # every class equally often
    loop = [sum(c in np.argsort(-row)[:5] for row in scores) for c in range(40)]
    assert occurrences(scores, 5).tolist() == loop


def test_an_open_set_rejects_low_scores():
    known, unknown = np.array([[2.0, 0], [0.1, 0.3], [0, 3]]), np.array([[0.2, 0.1], [5, 0]])
    assert open_set(known, np.array([0, 1, 1]), unknown, 0.5) == {"known": 0.75, "rejected": 0.5}


def test_transduction_follows_a_shift():
    rng = np.random.default_rng(0)
    centres = 4 * rng.normal(size=(5, 8))
    y = np.repeat(np.arange(5), 30)
    X = centres[y] + 0.5 * rng.normal(size=(150, 8))
    shifted = centres + 2.2 * rng.normal(size=(5, 8))
    moved = self_trained_prototypes(X, shifted, 15, 3)
    assert np.linalg.norm(moved - centres) < 0.5 * np.linalg.norm(shifted - centres)
    np.testing.assert_array_equal(self_trained_prototypes(X, shifted, 15, 0), shifted)
    scores = np.eye(5)[y] + 0.6 * rng.normal(size=(150, 5))
    before, after = (per_class_accuracy(s.argmax(1), y) for s in (scores, propagated_scores(X, scores)))
    assert after > before + 0.05 and propagated_scores(X, scores).shape == scores.shape


def test_mistakes_are_named():
    X, y, S, *_ = world()
    with value_error("S 3 rows"):
        ESZSL().fit(X, y, S[:3])
    with value_error("call fit"):
        ESZSL().predict(X)
    with value_error("S has 2 columns"):
        ESZSL().fit(X, y, S).predict(X, S[:, :2])
    with value_error("zeros and ones"):
        DAP().fit(X, y, S + 0.5)
    with value_error("must be positive"):
        ESZSL(gamma=0).fit(X, y, S)
    with value_error("penalty must be positive"):
        VisualRidge(0).fit(X, y, S)
    with value_error("top must be"):
        ConSE(0).fit(X, y, S)
    with value_error("margin must be positive"):
        DeViSE(margin=0).fit(X, y, S)
    with value_error("between 1 and the 8 classes"):
        occurrences(np.zeros((3, 8)), 9)
    with value_error("seen and of unseen"):
        SeenUnseen(np.zeros((3, 8)), np.zeros(3, np.int64), np.ones(8, bool))
    with value_error("rounds 0 or more"):
        self_trained_prototypes(X, X[:3], 0)
    with value_error("alpha must be"):
        propagated_scores(X, np.zeros((len(X), 3)), alpha=1.0)

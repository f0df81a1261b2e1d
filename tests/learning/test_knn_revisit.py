import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch.nn.functional import cross_entropy

from tests.typecheck import value_error
from ziggurat.learning.knn_revisit import JointKNNClassifier, KNNClassifier, KNNWeightedCrossEntropy
from ziggurat.learning.probes import linear_probe
from ziggurat.memory.indexes import unit


def data(n=80, d=6, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.normal(size=(n, d)).astype(np.float32)
    x[:, 0] += 2 * y
    return x, y


@pytest.mark.fact("knn_revisit", 1)
def test_mixture_has_both_ends_and_is_a_probability():
    (x, y), (new, _) = data(), data(seed=1)
    linear, knn = LogisticRegression(), KNNClassifier()
    for mix, alone in ((0.0, linear), (1.0, knn)):
        joint = JointKNNClassifier(linear, knn, mix).fit(x, y).predict_proba(new)
        np.testing.assert_allclose(joint, alone.fit(x, y).predict_proba(new), atol=1e-6)
    p = JointKNNClassifier(linear, knn, 0.3).fit(x, y).predict_proba(new)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)
    assert (p >= 0).all()


@pytest.mark.fact("knn_revisit", 2)
def test_weights_of_the_loss():
    torch.manual_seed(0)
    logits, y = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 2, 0, 1])
    p = torch.softmax(torch.randn(5, 3, dtype=torch.float64), 1)
    plain = cross_entropy(logits, y, reduction="none")
    for kind in ("reg", "focal"):
        torch.testing.assert_close(KNNWeightedCrossEntropy(kind, 0.0)(logits, p, y), plain)
    sure = torch.nn.functional.one_hot(y, 3).double()
    assert torch.equal(KNNWeightedCrossEntropy("reg", 2.0).weight(sure, y), torch.ones(5, dtype=torch.float64))
    assert torch.equal(KNNWeightedCrossEntropy("focal", 2.0).weight(sure, y), torch.zeros(5, dtype=torch.float64))
    own = p[torch.arange(5), y]
    torch.testing.assert_close(KNNWeightedCrossEntropy("reg", 0.7)(logits, p, y), plain * (1 - 0.7 * own.log()))
    torch.testing.assert_close(KNNWeightedCrossEntropy("focal", 1.5)(logits, p, y), plain * (1 - own) ** 1.5)
    assert KNNWeightedCrossEntropy("reg", 1.0).weight(torch.zeros(1, 3), y[:1]).item() == 101
    p.requires_grad_()
    KNNWeightedCrossEntropy()(logits, p, y).sum().backward()
    assert p.grad is None and logits.grad is not None


@pytest.mark.fact("knn_revisit", 3)
def test_temperature_limits():
    (x, y), (new, _) = data(), data(seed=1)
    flat = KNNClassifier(7, temperature=1e6).fit(x, y).predict_proba(new)
    peer = KNeighborsClassifier(7).fit(unit(x), y).predict_proba(unit(new))
    np.testing.assert_allclose(flat, peer, atol=1e-5)
    sharp = KNNClassifier(7, temperature=1e-6).fit(x, y).predict(new)
    assert np.array_equal(sharp, KNeighborsClassifier(1).fit(unit(x), y).predict(unit(new)))


@pytest.mark.fact("knn_revisit", 4)
def test_cosine_at_half_the_temperature_is_the_squared_distance():
    (x, y), (new, _) = data(), data(seed=1)
    cosine = KNNClassifier(16, 0.07, "cosine").fit(x, y).predict_proba(new)
    squared = KNNClassifier(16, 0.14, "l2").fit(x, y).predict_proba(new)
    np.testing.assert_allclose(cosine, squared, atol=1e-5)


@pytest.mark.fact("knn_revisit", 5)
def test_without_exclusion_training_samples_vote_for_themselves():
    x, y = data()
    knn = KNNClassifier(16, temperature=1e-3).fit(x, y)
    own = knn.predict_proba(x)[np.arange(80), y]
    assert own.min() > 0.99
    excluded = knn.predict_proba(x, exclude_ids=np.arange(80))[np.arange(80), y]
    assert excluded.min() < 0.5
    weight = KNNWeightedCrossEntropy("reg", 1.0).weight(torch.from_numpy(knn.predict_proba(x)), torch.from_numpy(y))
    assert float(weight.max() - weight.min()) < 0.02


@pytest.mark.fact("knn_revisit", 6)
def test_official_defaults():
    assert JointKNNClassifier().mix == 0.5 and KNNClassifier().neighbours == 16


def test_vote_against_a_loop_with_exclusion():
    (x, y), t = data(30), 0.2
    ids = np.arange(30) + 100
    p = KNNClassifier(5, t).fit(x, y, ids).predict_proba(x, exclude_ids=ids)
    u = unit(x)
    for i in range(30):
        d = ((u[i] - u) ** 2).sum(1)
        near = [j for j in np.argsort(d) if j != i][:5]
        votes = np.zeros(3)
        for j in near:
            votes[y[j]] += np.exp(-d[j] / t)
        np.testing.assert_allclose(p[i], votes / votes.sum(), atol=1e-5)


def test_exclusion_goes_by_id_so_that_true_duplicates_vote():
    x = np.concatenate([np.eye(4), np.eye(4)]).astype(np.float32)
    y = np.tile(np.arange(4), 2)
    p = KNNClassifier(1).fit(x, y).predict_proba(x, exclude_ids=np.arange(8))
    assert np.array_equal(p.argmax(1), y)


def test_a_foreign_id_excludes_nobody_of_few_and_each_query_counts_for_itself():
    x, y = np.eye(4, dtype=np.float32)[:3], np.array([0, 1, 2])
    knn = KNNClassifier(16, 1e6).fit(x, y)
    together = knn.predict_proba(x, exclude_ids=np.array([0, 99, 2]))
    np.testing.assert_allclose(together, [[0, 1 / 2, 1 / 2], [1 / 3] * 3, [1 / 2, 1 / 2, 0]], atol=1e-5)
    for i, own in enumerate((0, 99, 2)):
        np.testing.assert_allclose(
            knn.predict_proba(x[i : i + 1], exclude_ids=np.array([own])), together[i : i + 1], atol=1e-6
        )


def test_samples_whose_neighbours_disagree_count_more_in_the_fit():
    x, y = data(300)
    joint = JointKNNClassifier(mix=0.0, strength=2.0).fit(x, y)
    knn = KNNClassifier().fit(x, y)
    p = torch.from_numpy(knn.predict_proba(x, exclude_ids=np.arange(300)))
    weight = KNNWeightedCrossEntropy("reg", 2.0).weight(p, torch.from_numpy(y)).numpy()
    alone = linear_probe().fit(x, y, logisticregression__sample_weight=weight / weight.mean())
    np.testing.assert_allclose(joint.predict_proba(x), alone.predict_proba(x), atol=1e-6)
    assert np.abs(joint.predict_proba(x) - JointKNNClassifier(mix=0.0).fit(x, y).predict_proba(x)).max() > 0.01


def test_centring_takes_the_training_mean_for_queries_too():
    (x, y), (new, _) = data(), data(seed=1)
    shifted = KNNClassifier(centre=True).fit(x + 5, y).predict_proba(new + 5)
    np.testing.assert_allclose(shifted, KNNClassifier(centre=True).fit(x, y).predict_proba(new), atol=1e-3)


def test_mistakes_are_named():
    x, y = data()
    for call, says in (
        (lambda: KNNClassifier(metric="dot").fit(x, y), "'l2' or 'cosine'"),
        (lambda: KNNClassifier(temperature=0).fit(x, y), "temperature positive"),
        (lambda: KNNClassifier().predict(x), "call fit"),
        (lambda: KNNClassifier().fit(x, y).predict(x[:, :2]), "2 columns"),
        (lambda: KNNClassifier().fit(x, y, ids=np.zeros(len(x), int)), "an id of its own; got 1 for 80"),
        (lambda: KNNClassifier().fit(x, y, ids=np.arange(3)), "an id of its own; got 3 for 80"),
        (
            lambda: KNNClassifier().fit(x[:1], y[:1]).predict_proba(x[:1], exclude_ids=np.zeros(1, int)),
            "there is no other",
        ),
        (lambda: JointKNNClassifier(mix=2).fit(x, y), "between 0 and 1"),
        (lambda: JointKNNClassifier().predict(x), "call fit"),
        (lambda: KNNWeightedCrossEntropy("hard"), "'reg' or 'focal'"),
    ):
        with value_error(says):
            call()

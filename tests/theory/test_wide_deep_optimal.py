import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermeval
from scipy.integrate import quad
from sklearn.neighbors import KNeighborsClassifier

from tests.typecheck import value_error
from ziggurat.theory import DeepNTK, InfiniteDepthClassifier, SingularKernelClassifier, optimal_activation
from ziggurat.theory.dual_activation import NormalisedReLU, polynomial
from ziggurat.theory.ntk import KernelTable, log_kernels
from ziggurat.theory.wide_deep_optimal import limit_kind, singular_exponent


def sphere(n, d, seed=0, flip=0.0):
    rng = np.random.default_rng(seed)
    x = np.abs(rng.normal(size=(n, d + 1)))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = np.where((x[:, 0] > x[:, 1]) ^ (rng.random(n) < flip), 1, -1)
    return x, y


@pytest.mark.fact("wide_deep_optimal", 1)
@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_optimal_activation(d):
    dual = optimal_activation(d)
    assert dual.log_value(np.zeros(1))[0] == pytest.approx(0, abs=1e-12)
    assert dual.slope_at_one == pytest.approx(2) and dual.slope_at_zero == pytest.approx(2 ** (-d / 2))
    assert singular_exponent(dual) == pytest.approx(d)
    if d == 1:
        assert [c**2 for _, c in dual.coefficients] == pytest.approx([2**-0.5, 0.1716, 0.1213], abs=1e-4)


def slope(values, distances):
    return (values[0] - values[1]) / (np.log(distances[0]) - np.log(distances[1]))


@pytest.mark.fact("wide_deep_optimal", 2)
@pytest.mark.parametrize(("d", "expected"), [(2, -2.016), (3, -3.022), (4, -4.027)])
@pytest.mark.parametrize("depth", [20, 60])
def test_slope_of_the_kernel_at_initialisation(d, expected, depth):
    distance = np.array([0.2, 0.1])
    s, _ = log_kernels(optimal_activation(d), np.log(1 - distance**2 / 2), depth)
    assert slope(s, distance) == pytest.approx(expected, abs=2e-3)


@pytest.mark.fact("wide_deep_optimal", 3)
@pytest.mark.parametrize(("d", "expected"), [(2, -2.038), (3, -3.054), (4, -4.070)])
def test_slope_of_the_tangent_kernel_comes_slowly(d, expected):
    distance = np.array([0.2, 0.1])
    deep = log_kernels(optimal_activation(d), np.log(1 - distance**2 / 2), 20_000)[1]
    assert slope(deep, distance) == pytest.approx(expected, abs=2e-3)
    shallow = log_kernels(optimal_activation(d), np.log(1 - distance**2 / 2), 20)[1]
    assert slope(shallow, distance) == pytest.approx(-(d + 2), abs=0.5)


@pytest.mark.fact("wide_deep_optimal", 4)
def test_deep_h2_is_the_nearest_neighbour_and_deep_relu_the_majority():
    x, y = sphere(60, 2)
    new, _ = sphere(200, 2, seed=1)
    deep = DeepNTK({2: 1.0}, depth=40).fit(x, y).predict(new)
    assert np.array_equal(deep, KNeighborsClassifier(1).fit(x, y).predict(new))
    assert np.array_equal(InfiniteDepthClassifier({2: 1.0}).fit(x, y).predict(new), deep)
    rng = np.random.default_rng(0)
    y = np.where(rng.random(60) < 0.7, 1, -1)
    assert (DeepNTK("relu", depth=2000).fit(x, y).predict(new) == 1).all()
    assert (InfiniteDepthClassifier("relu").fit(x, y).predict(new) == 1).all()


@pytest.mark.fact("wide_deep_optimal", 5)
def test_dual_of_the_normalised_relu():
    dual = NormalisedReLU()
    for t in (0.0, 0.3, 0.9, 1.0):
        formula = (np.sqrt(1 - t**2) + (np.pi - np.arccos(t)) * t) / np.pi
        with np.errstate(divide="ignore"):
            assert np.exp(dual.log_value(np.log(np.array([t])))[0]) == pytest.approx(formula)
    assert dual.at_zero == pytest.approx(1 / np.pi) and dual.slope_at_one == 1
    with np.errstate(divide="ignore"):
        assert np.exp(dual.log_value(np.array([-np.inf])))[0] == pytest.approx(1 / np.pi)


def test_duals_are_gaussian_correlations():
    """D(t) = E[φ(u) φ(v)] for standard normal u, v of correlation t, by quadrature."""
    c = {1: 0.6, 2: 0.5, 3: np.sqrt(1 - 0.61)}
    norms = {1: 1.0, 2: np.sqrt(2), 3: np.sqrt(6)}

    def phi(x):
        return sum(c[i] * hermeval(x, [0] * i + [1]) / norms[i] for i in c)

    t = 0.4

    def inner(u):
        density = np.exp(-u * u / 2) / np.sqrt(2 * np.pi)
        z = np.linspace(-9, 9, 2001)
        weight = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
        return density * phi(u) * np.trapezoid(weight * phi(t * u + np.sqrt(1 - t * t) * z), z)

    expected = quad(inner, -9, 9)[0]
    assert np.exp(polynomial(c).log_value(np.log(np.array([t]))))[0] == pytest.approx(expected, abs=1e-6)


def test_recursion_against_a_plain_loop_and_the_closed_form():
    dual, t = optimal_activation(2), np.array([0.2, 0.9, 0.999])
    s = k = t.copy()
    c2 = {i: c**2 for i, c in dual.coefficients}
    for _ in range(12):
        value = sum(w * s**i for i, w in c2.items())
        k = value + k * sum(i * w * s ** (i - 1) for i, w in c2.items())
        s = value
    log_s, log_k = log_kernels(dual, np.log(t), 12)
    np.testing.assert_allclose([np.exp(log_s), np.exp(log_k)], [s, k], rtol=1e-10)
    from ziggurat.theory import ntk

    jumped = log_kernels(dual, np.log(t), 4000)
    old, ntk.LINEAR = ntk.LINEAR, -np.inf
    try:
        np.testing.assert_allclose(jumped, log_kernels(dual, np.log(t), 4000), rtol=1e-9)
    finally:
        ntk.LINEAR = old


def test_table_interpolates():
    dual, t = optimal_activation(3), np.random.default_rng(0).uniform(0.01, 0.9999, 200)
    np.testing.assert_allclose(KernelTable(dual, 200)(t), log_kernels(dual, np.log(t), 200)[1], atol=1e-4)


def test_limits_are_told_apart():
    assert [limit_kind(dual) for dual in (NormalisedReLU(), polynomial({2: 1.0}), optimal_activation(2))] == [
        "majority", "nearest neighbour", "singular kernel",
    ]  # fmt: skip


def test_singular_kernel_against_a_loop_and_on_a_training_point():
    x, y = sphere(30, 2, flip=0.3)
    new, _ = sphere(20, 2, seed=5)
    got = SingularKernelClassifier(2.0).fit(x, y).predict(new)
    for i in range(20):
        total = sum(y[j] / np.linalg.norm(new[i] - x[j]) ** 2 for j in range(30))
        assert got[i] == np.sign(total)
    assert np.array_equal(SingularKernelClassifier(2.0).fit(x, y).predict(x), y)


def test_three_classes():
    rng = np.random.default_rng(0)
    centres = np.eye(3) * 3 + 0.1
    x = np.abs(np.repeat(centres, 10, 0) + 0.1 * rng.normal(size=(30, 3)))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = np.repeat(["a", "b", "c"], 10)
    for model in (DeepNTK(2, 500), DeepNTK(2, 3), InfiniteDepthClassifier(2), SingularKernelClassifier()):
        assert (model.fit(x, y).predict(x) == y).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: polynomial({1: 1.0, 2: 1.0}), "divide them by 1.4142"),
        (lambda: optimal_activation(0), "dimension of the sphere"),
        (lambda: singular_exponent(NormalisedReLU()), "limit_kind"),
        (lambda: DeepNTK().fit(np.array([[1.0, 1.0], [0.0, 1.0]]), [0, 1]), "unit vectors"),
        (lambda: DeepNTK("tanh").fit(np.eye(2), [0, 1]), "'relu'"),
        (lambda: DeepNTK().predict(np.eye(2)), "call fit"),
        (lambda: SingularKernelClassifier().fit(np.eye(2), [0, 1]).predict(np.eye(3)), "3 columns"),
        (lambda: log_kernels(NormalisedReLU(), np.zeros(1), -1), "0 or more"),
    ],
)
def test_mistakes_are_named(call, says):
    with value_error(says):
        call()

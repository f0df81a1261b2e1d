from itertools import pairwise

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.graphs.hypergraphs.phenomnn import HypergraphEnergy, PhenomNN, PhenomNNSimple
from ziggurat.testing import example
from ziggurat.testing.examples import example_hyperedges

DOUBLE = torch.float64


def dense(index, nodes=12, weight=None):
    """(A_b, D_b, A_g, D_g) as matrices."""
    b = torch.zeros(nodes, int(index[1].max()) + 1, dtype=DOUBLE).index_put(tuple(index), torch.ones(()).double())
    w = torch.eye(b.shape[1], dtype=DOUBLE) if weight is None else torch.diag(weight)
    found = []
    for inner in (w, w @ torch.diag(1 / b.sum(0))):
        m = b @ inner @ b.T + torch.eye(nodes, dtype=DOUBLE)
        root = m.sum(1) ** -0.5
        a = root[:, None] * m * root
        found += [a, torch.diag(a.sum(1))]
    return found


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("weighed", [False, True])
def test_operators_equal_dense_ones(weighed):
    index, y = example_hyperedges(), random(12, 3)
    weight = torch.rand(6, dtype=DOUBLE) + 0.1 if weighed else None
    energy = HypergraphEnergy(index, 12, 2.0, 5.0, weight, DOUBLE)
    a, d, g, f = dense(index, weight=weight)
    torch.testing.assert_close(energy.clique(y), a @ y)
    torch.testing.assert_close(energy.star(y), g @ y)
    torch.testing.assert_close(energy.diagonal, 1 + 2 * d.diag()[:, None] + 5 * f.diag()[:, None])


@pytest.mark.fact("phenomnn", 1)
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_many_steps_solve_the_linear_system(alpha):
    index, y0 = example_hyperedges(), random(12, 4).relu()
    network = PhenomNNSimple(8, 3, 4, steps=400, clique=2.0, star=5.0, alpha=alpha).double().eval()
    a, d, g, f = dense(index)
    want = torch.linalg.solve(torch.eye(12, dtype=DOUBLE) + 2 * (d - a) + 5 * (f - g), y0)
    torch.testing.assert_close(network.propagate(y0, index)[-1], want, atol=1e-4, rtol=1e-4)


@pytest.mark.fact("phenomnn", 2)
@pytest.mark.parametrize(("alpha", "prox"), [(1.0, False), (0.7, False), (0.0, False), (0.5, True), (0.1, True)])
def test_energy_never_rises(alpha, prox):
    for seed in range(4):
        network = PhenomNNSimple(8, 3, 16, 16, 20.0, 80.0, alpha, prox=prox).double().eval()
        path = network.energies(random(12, 8, seed=seed), example_hyperedges(seed))
        assert len(path) == 17
        assert all(after <= before + 1e-12 * before for before, after in pairwise(path))
        assert path[-1] < path[0]
    a, d, g, f = dense(example_hyperedges())
    eye = torch.eye(12, dtype=DOUBLE)
    m, q = eye + 20 * (d - a) + 80 * (f - g), eye + 20 * d + 80 * f
    assert torch.linalg.eigvalsh(2 * q - m)[0] > 0


@pytest.mark.fact("phenomnn", 3)
def test_the_bracket_is_the_gradient_of_the_general_energy():
    index, y0 = example_hyperedges(), random(12, 5, seed=1)
    energy = HypergraphEnergy(index, 12, 2.0, 5.0, dtype=DOUBLE)
    h0, h1 = random(5, 5, seed=2), random(5, 5, seed=3)
    a, d, g, f = dense(index)

    def written(y):
        def tr(m):
            return torch.trace(m)

        clique = tr(h0.T @ y.T @ d @ y @ h0) + tr(y.T @ d @ y) - 2 * tr(y.T @ a @ y @ h0)
        star = tr(h1.T @ y.T @ f @ y @ h1) + tr(y.T @ g @ y) - 2 * tr(y.T @ g @ y @ h1)
        return (y - y0).square().sum() / 2 + 2 / 2 * clique + 5 / 2 * star

    y = random(12, 5, seed=4).requires_grad_()
    torch.testing.assert_close(energy(y, y0, h0, h1), written(y))
    (gradient,) = torch.autograd.grad(written(y), y)
    want = energy.diagonal * y - gradient
    assert (energy.bracket(y, y0, h0, h1) - want).abs().max() < 1e-8
    (plain,) = torch.autograd.grad(energy(y, y0), y)
    assert (energy.bracket(y, y0) - (energy.diagonal * y - plain)).abs().max() < 1e-8


@pytest.mark.fact("phenomnn", 4)
def test_with_identities_the_clique_term_counts_twice():
    index, y0, y = example_hyperedges(), random(12, 5), random(12, 5, seed=1)
    eye = torch.eye(5, dtype=DOUBLE)
    a, d, g, _ = dense(index)
    general = HypergraphEnergy(index, 12, 2.0, 5.0, dtype=DOUBLE)
    torch.testing.assert_close(general.bracket(y, y0, eye, eye), y0 + 2 * (2 * a @ y - d @ y) + 5 * g @ y)
    twice = HypergraphEnergy(index, 12, 4.0, 5.0, dtype=DOUBLE)
    torch.testing.assert_close(general(y, y0, eye, eye), twice(y, y0))


@pytest.mark.fact("phenomnn", 5)
def test_without_terms_it_is_a_perceptron():
    x, index = example("hypergraph")
    network = PhenomNNSimple(8, 3, 6, steps=1, clique=0.0, star=0.0, alpha=1.0).eval()
    y0 = network.stem(x)
    assert torch.equal(network.forward_features(x, index)[0], y0)
    hidden = network.stem[1](x).relu().relu()
    torch.testing.assert_close(network(x, index), network.head.fc(hidden))


@pytest.mark.fact("phenomnn", 6)
@pytest.mark.parametrize("kind", [PhenomNNSimple, PhenomNN])
def test_renaming_nodes_and_hyperedges_renames_rows(kind):
    x, index = random(12, 8), example_hyperedges()
    network = kind(8, 3, 6, steps=4).double().eval()
    weight = torch.rand(6, dtype=DOUBLE) + 0.1
    nodes, edges = torch.randperm(12), torch.randperm(6)
    shuffled = torch.randperm(index.shape[1])
    renamed = torch.stack([nodes.argsort()[index[0]], edges.argsort()[index[1]]])[:, shuffled]
    torch.testing.assert_close(network(x[nodes], renamed, weight[edges]), network(x, index, weight)[nodes])


def test_matrices_are_shared_by_all_steps_and_start_near_the_identity():
    network = PhenomNN(8, 3, steps=5)
    assert {name for name, _ in network.named_parameters() if name.startswith("h") and name[1] in "01"} == {"h0", "h1"}
    assert (network.h0.detach() - torch.eye(64)).std() == pytest.approx(1 / 64, rel=0.1)
    assert not list(network.stages.parameters())


def test_alpha_of_zero_is_the_safe_step():
    assert PhenomNNSimple(8, 3, clique=20, star=79, alpha=0.0).stages[0].alpha == pytest.approx(0.01)


def test_mistakes_are_named():
    with value_error("alpha between 0 and 1"):
        PhenomNNSimple(8, 3, alpha=1.5)
    with value_error("clique and star must be 0 or more"):
        PhenomNN(8, 3, star=-1.0)
    with value_error("weights of the terms"):
        HypergraphEnergy(example_hyperedges(), 12, -1.0)
    with value_error("names hyperedge 5, but there are 3 weights"):
        PhenomNN(8, 3)(*example("hypergraph"), torch.ones(3))

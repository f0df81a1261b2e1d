import itertools

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from tests.typecheck import value_error
from ziggurat.data.batch import GraphBatch
from ziggurat.graphs.probabilistic.gspn import (
    GSPN,
    CategoricalEmission,
    GaussianEmission,
    GSPNLayer,
    GSPNLearner,
    SupervisedGSPN,
)
from ziggurat.nn.fitting import fit
from ziggurat.testing.examples import example, ring_graph


def graph(nodes=12, seed=0):
    data = ring_graph(nodes, 8, seed)
    return data.x.double(), data.edge_index


def gaussian(depth, states=4):
    return GSPN(GaussianEmission(8, states), depth).double()


def categorical(depth, symbols=5, states=4, features=1):
    return GSPN(CategoricalEmission(symbols, states, features), depth).double()


@pytest.mark.fact("gspn", 1)
def test_one_level_is_sklearns_mixture_and_ignores_the_edges():
    x, edges = graph()
    network = gaussian(1)
    with torch.no_grad():
        torch.nn.init.normal_(network.prior)
        torch.nn.init.normal_(network.emissions[0].raw_scale)
    mean, scale = (t.detach().numpy() for t in network.averaged())
    peer = GaussianMixture(4, covariance_type="diag")
    peer.means_, peer.covariances_, peer.precisions_cholesky_ = mean, scale**2, 1 / scale
    peer.weights_ = network.prior.softmax(0).detach().numpy()
    got = network(x, edges)["log_likelihood"]
    np.testing.assert_allclose(got.detach().numpy(), peer.score_samples(x.numpy()))
    assert torch.equal(got, network(x, edges[:, :0])["log_likelihood"])


@pytest.mark.fact("gspn", 2)
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_weights_and_posteriors_are_distributions(depth):
    x, edges = graph()
    posteriors, weights = gaussian(depth).levels(30 * x, edges)  # far out, where densities underflow
    assert len(posteriors) == depth
    for logs in (*posteriors, weights):
        torch.testing.assert_close(logs.exp().sum(1), torch.ones(12, dtype=torch.float64))


def test_levels_against_a_loop_over_children():
    x, edges = graph()
    network = gaussian(2)
    (first, second), weights = network.levels(x, edges)
    transition = network.layers[0].logits.softmax(1)
    for u in range(12):
        near = [*edges[0][edges[1] == u].tolist(), u]
        want = sum(transition.T @ first[v].exp() for v in near) / len(near)
        torch.testing.assert_close(weights[u].exp(), want)
        own = want * network.emissions[1](x)[u].exp()
        torch.testing.assert_close(second[u].exp(), own / own.sum())


@pytest.mark.fact("gspn", 3)
def test_sums_to_one_over_all_symbols_and_masked_nodes_say_nothing():
    edges = graph()[1]
    x = torch.arange(12)[:, None] % 5
    network = categorical(3)
    _, weights = network.levels(x, edges)
    table, total = network.averaged(), 0
    for symbol in range(5):
        total = (
            total
            + (weights + network.emissions[-1].log_density(torch.full_like(x, symbol), None, table)).logsumexp(1).exp()
        )
    torch.testing.assert_close(total, torch.ones(12, dtype=torch.float64))
    observed = torch.ones(12, 1, dtype=torch.bool)
    observed[3] = False
    out = network(x, edges, observed=observed)
    assert abs(out["log_likelihood"][3].item()) < 1e-12
    torch.testing.assert_close(out["imputed"][3].sum(), torch.tensor(1.0, dtype=torch.float64))
    assert torch.equal(out["imputed"][4], torch.nn.functional.one_hot(x[4, 0], 5).double())
    x[3] = 0
    torch.testing.assert_close(network(x, edges, observed=observed)["log_likelihood"], out["log_likelihood"])


@pytest.mark.fact("gspn", 4)
def test_masked_evaluation_is_the_marginal():
    network = categorical(1, symbols=2, features=2)
    edges = torch.zeros(2, 0, dtype=torch.int64)
    grid = torch.tensor(list(itertools.product((0, 1), repeat=2)))
    whole = network(grid, edges)["log_likelihood"].exp()
    torch.testing.assert_close(whole.sum(), torch.tensor(1.0, dtype=torch.float64))
    for feature in (0, 1):
        observed = torch.zeros(4, 2, dtype=torch.bool)
        observed[:, feature] = True
        marginal = network(grid, edges, observed=observed)["log_likelihood"].exp()
        for row in range(4):
            same = grid[:, feature] == grid[row, feature]
            torch.testing.assert_close(marginal[row], whole[same].sum())
        other = ~observed
        torch.testing.assert_close(network.query(grid, edges, observed, other), (whole / marginal).log())


@pytest.mark.fact("gspn", 5)
def test_isolated_nodes_work_and_the_cost_is_linear_in_edges():
    x, edges = graph()
    network = gaussian(3)
    alone = network(torch.cat([x, x[:1]]), edges)
    assert all(torch.isfinite(v).all() for v in alone.values())
    torch.testing.assert_close(alone["log_likelihood"][:12], network(x, edges)["log_likelihood"])

    def saved(count):
        sizes, big = [], torch.randn(2000, 8, dtype=torch.float64)
        g = torch.Generator().manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            network(big, torch.randint(2000, (2, count), generator=g))
        return sum(sizes), max(sizes)

    (one, _), (two, _), (three, most) = (saved(count) for count in (5000, 10_000, 15_000))
    assert two - one == three - two and most < 2000 * 2000


def test_far_features_do_not_underflow():
    network = GSPN(GaussianEmission(60, 4), 2)
    x, edges = 20 * torch.randn(12, 60), graph()[1]
    out = network(x, edges)
    assert all(torch.isfinite(v).all() for v in out.values())
    (-out["log_likelihood"]).mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_imputes_the_conditional_expectation_of_a_mixture():
    x, edges = graph()
    network = gaussian(1)
    observed = torch.rand(12, 8, generator=torch.Generator().manual_seed(0)) < 0.6
    out = network(torch.where(observed, x, torch.nan), edges, observed=observed)["imputed"]
    mean, scale = network.averaged()
    for u in range(12):
        seen = observed[u]
        logs = network.prior.log_softmax(0) + torch.distributions.Normal(mean, scale).log_prob(x[u])[:, seen].sum(1)
        want = torch.where(seen, x[u], logs.softmax(0) @ mean)
        torch.testing.assert_close(out[u], want)
    with value_error("at once"):
        network.query(x, edges, observed, observed)


def test_training_raises_the_likelihood_and_starts_at_centres():
    x, edges = graph(40)
    x = x.float()
    network = GSPN(GaussianEmission(8, 3), 2)
    network.start_at_centres(x, noise=0.0)
    assert torch.equal(network.emissions[0].mean, network.emissions[1].mean)
    assert (network.emissions[0].mean.mean(0) - x.mean(0)).abs().max() < 0.6
    learner = GSPNLearner(network, lr=0.05)
    batch = GraphBatch((x, edges), torch.zeros(40, dtype=torch.int64), torch.arange(40))
    before = learner.losses(batch)["likelihood"].item()
    fit(learner, [batch], steps=100)
    assert learner.losses(batch)["likelihood"].item() < before - 0.5
    assert learner.represent(x, edges).shape == (40, 6)


def test_graphs_get_class_probabilities_and_mean_embeddings():
    inputs = example("graphs")
    network = SupervisedGSPN(GSPN(GaussianEmission(8, 4), 3), 3, states=5)
    logs = network(*inputs)
    assert logs.shape == (2, 3)
    torch.testing.assert_close(logs.exp().sum(1), torch.ones(2))
    whole = network.gspn(*inputs)["embedding"]
    nodes = network.gspn(*inputs[:2])["embedding"]
    torch.testing.assert_close(whole[0], nodes[inputs[3] == 0].mean(0))
    only = network(inputs[0][inputs[3] == 0], inputs[1][:, (inputs[1] < 12).all(0)])
    torch.testing.assert_close(only[0], logs[0])


def test_mistakes_are_named():
    with value_error("depth"):
        GSPN(GaussianEmission(8, 4), 0)
    with value_error("positive"):
        GaussianEmission(0)
    with value_error("1 or more"):
        CategoricalEmission(0)
    with value_error("state or more"):
        GSPNLayer(0, 3)
    with value_error("num_classes"):
        SupervisedGSPN(GSPN(GaussianEmission(8, 4)), 0)

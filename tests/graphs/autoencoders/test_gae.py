import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from torch_geometric.nn import VGAE as PeerVGAE

from tests.typecheck import value_error
from ziggurat.graphs.autoencoders.gae import GAE, VGAE, all_pairs_loss, gaussian_kl, sampled_loss
from ziggurat.testing.examples import ring_graph


def test_the_loss_of_all_pairs_against_a_loop():
    torch.manual_seed(0)
    graph, z = ring_graph(), torch.randn(12, 4, dtype=torch.float64)
    linked = {tuple(pair) for pair in graph.edge_index.T.tolist()}
    edges, n = len(linked), 12
    total = 0.0
    for i in range(n):
        for j in range(n):
            s = z[i] @ z[j]
            total += (n * n - edges) / edges * softplus(-s) if (i, j) in linked else softplus(s)
    want = n * n / (2 * (n * n - edges)) * total / n**2
    torch.testing.assert_close(all_pairs_loss(z, graph.edge_index), want)
    flat = all_pairs_loss(torch.zeros(12, 4), graph.edge_index)
    assert float(flat) == pytest.approx(torch.log(torch.tensor(2.0)).item())  # a half for links, a half for the rest


def test_the_sampled_loss():
    yes, no = torch.randn(5), torch.randn(7)
    want = binary_cross_entropy_with_logits(yes, torch.ones(5)) + binary_cross_entropy_with_logits(no, torch.zeros(7))
    torch.testing.assert_close(sampled_loss(yes, no), want)


def test_the_divergence_is_the_peers():
    torch.manual_seed(0)
    mean, log_scale = torch.randn(6, 3), torch.randn(6, 3)
    torch.testing.assert_close(gaussian_kl(mean, log_scale), PeerVGAE(torch.nn.Identity()).kl_loss(mean, log_scale))
    normal = torch.distributions.Normal
    exact = torch.distributions.kl_divergence(normal(mean, log_scale.exp()), normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(gaussian_kl(mean, log_scale), exact)
    assert float(gaussian_kl(torch.zeros(4, 2), torch.zeros(4, 2))) == 0


def test_logits_are_inner_products_of_two_convolutions():
    torch.manual_seed(0)
    graph, network = ring_graph(), GAE(8, 6, 4).double()
    x, pairs = graph.x.double(), torch.tensor([[0, 3, 5], [1, 7, 5]])
    a = torch.eye(12, dtype=torch.float64)
    for s, t in graph.edge_index.T.tolist():
        a[t, s] = 1
    s = a / (a.sum(1)[:, None] * a.sum(1)).sqrt()
    first, second = network.encoder.stages[0], network.encoder.head.fc
    hidden = (s @ x @ first.lin.weight.T + first.bias).relu()
    z = s @ hidden @ second.weight.T + second.bias
    torch.testing.assert_close(network.encode(x, graph.edge_index), z)
    torch.testing.assert_close(network(x, graph.edge_index, pairs), (z @ z.T)[pairs[0], pairs[1]])
    torch.testing.assert_close(network(x, graph.edge_index, pairs.flip(0)), network(x, graph.edge_index, pairs))
    torch.testing.assert_close(network.loss(x, graph.edge_index), all_pairs_loss(z, graph.edge_index))


def test_the_variational_one_draws_while_training_only():
    torch.manual_seed(0)
    graph, network = ring_graph(), VGAE(8, 6, 4).eval()
    mean, log_scale = network.distribution(graph.x, graph.edge_index)
    assert mean.shape == log_scale.shape == (12, 4)
    assert torch.equal(network.encode(graph.x, graph.edge_index), mean)
    want = all_pairs_loss(mean, graph.edge_index) + gaussian_kl(mean, log_scale) / 12
    torch.testing.assert_close(network.loss(graph.x, graph.edge_index), want)
    network.train()
    assert not torch.equal(network.encode(graph.x, graph.edge_index), mean)
    draws = torch.stack([network.drawn(mean, log_scale) for _ in range(2000)])
    torch.testing.assert_close(draws.mean(0), mean, atol=0.2, rtol=0)
    torch.testing.assert_close(draws.std(0), log_scale.exp(), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("network", [GAE, VGAE])
def test_autoencoders_learn_the_links(network):
    torch.manual_seed(0)
    graph, model = ring_graph(), network(8, 16, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)

    def loss():
        torch.manual_seed(1)  # the same draws
        return float(torch.stack([model.loss(graph.x, graph.edge_index) for _ in range(10)]).mean())

    first = loss()
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(graph.x, graph.edge_index).backward()
        optimizer.step()
    assert loss() < 0.9 * first


def test_mistakes_of_autoencoders():
    with value_error("dim must be 1 or more"):
        GAE(8, dim=0)
    with value_error("give some links"):
        all_pairs_loss(torch.randn(4, 2), torch.zeros(2, 0, dtype=torch.int64))

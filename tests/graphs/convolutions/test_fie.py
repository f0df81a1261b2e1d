import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.distributions import MultivariateNormal, kl_divergence
from torch_geometric.data import Batch
from torch_geometric.nn import SimpleConv

from tests.typecheck import value_error
from ziggurat.graphs.convolutions.fie import FIEConv, FIENet, FisherEmbedding
from ziggurat.nn.operators.kernel_layer import KernelLayer, inverse_root
from ziggurat.testing.examples import ring_graph

unit = torch.nn.functional.normalize


def graph(nodes=12, features=8, seed=0):
    data = ring_graph(nodes, features, seed)
    return data.x.double(), data.edge_index


@pytest.mark.parametrize("weights", ["softmax", "sum"])
def test_layer_against_a_loop_over_neighbours(weights):
    x, edges = graph()
    conv = FIEConv(8, mixtures=3, heads=2, weights=weights, temperature=0.3).double()
    torch.nn.init.normal_(conv.bias)
    got = conv(x, edges).view(12, 2, 3, 8)
    for v in range(12):
        near = [*edges[0][edges[1] == v].tolist(), v]
        for h in range(2):
            w = conv.anchors[h] / conv.anchors[h].norm(dim=1, keepdim=True)
            a = torch.stack([((w @ (x[u] / x[u].norm()) + conv.bias[h]) / 0.3).softmax(0) for u in near])
            a = a.softmax(0) if weights == "softmax" else a / a.sum(0)
            for j in range(3):
                mean = sum(a[i, j] * x[u] for i, u in enumerate(near))
                torch.testing.assert_close(got[v, h, j], mean - w[j])


@pytest.mark.fact("fie", 1)
@pytest.mark.parametrize("weights", ["softmax", "sum"])
def test_one_mixture_is_the_mean_over_neighbours_minus_the_anchor(weights):
    x, edges = graph()
    conv = FIEConv(8, mixtures=1, weights=weights).double()
    assert (conv.posterior(x) == 1).all() and conv.bias is None
    loops = torch.arange(12).expand(2, -1)
    mean = SimpleConv(aggr="mean")(x, torch.cat([edges, loops], 1))
    torch.testing.assert_close(conv(x, edges), mean - unit(conv.anchors[0], dim=1))


@pytest.mark.fact("fie", 2)
def test_kernel_layer_is_exact_on_its_anchors():
    layer = KernelLayer(8, 5, sigma=0.7, ridge=0.0).double()
    x, anchors = 3 * torch.randn(20, 8, dtype=torch.float64), unit(layer.anchors, dim=1)
    want = x.norm(dim=1, keepdim=True) * ((unit(x, dim=1) @ anchors.T - 1) / 0.49).exp()
    torch.testing.assert_close(layer(x) @ layer(anchors).T, want)
    ridged = KernelLayer(8, 5, sigma=0.7, ridge=1e-3).double()
    ridged.load_state_dict(layer.state_dict())
    off = (ridged(x) @ ridged(anchors).T - want).abs().max()
    assert 0 < off < 0.05


@pytest.mark.fact("fie", 3)
def test_half_the_squared_distance_is_the_divergence_of_the_fitted_gaussians():
    x, edges = graph()
    out = FIEConv(8, mixtures=1, weights="sum").double()(x, edges)
    eye = torch.eye(8, dtype=torch.float64)
    fitted = [x[[*edges[0][edges[1] == v].tolist(), v]].mean(0) for v in range(12)]
    for u, v in ((0, 1), (3, 9), (5, 6)):
        divergence = kl_divergence(MultivariateNormal(fitted[u], eye), MultivariateNormal(fitted[v], eye))
        torch.testing.assert_close((out[u] - out[v]).square().sum() / 2, divergence)


@pytest.mark.fact("fie", 4)
@pytest.mark.parametrize("weights", ["softmax", "sum"])
def test_order_and_duplication_of_the_neighbours_change_nothing(weights):
    x, edges = graph()
    conv = FIEConv(8, 3, weights=weights).double()
    want, loops = conv(x, edges), torch.arange(12).expand(2, -1)
    torch.testing.assert_close(conv(x, edges[:, torch.randperm(edges.shape[1])]), want)
    all_edges = torch.cat([edges, loops], 1)
    torch.testing.assert_close(conv(x, torch.cat([all_edges] * 3, 1)), want)
    torch.testing.assert_close(conv(x, all_edges, torch.full((all_edges.shape[1],), 2.5, dtype=x.dtype)), want)
    once = torch.cat([edges] * 2, 1)  # without their loops, neighbours count double and the node itself once
    assert not torch.allclose(conv(x, once), want)


def test_aggregates_the_features_themselves_and_not_their_directions():
    x, edges = graph()
    conv = FIEConv(8, 3).double()
    torch.testing.assert_close(conv.posterior(5 * x), conv.posterior(x))
    anchors = unit(conv.anchors, dim=-1).flatten()
    torch.testing.assert_close(conv(5 * x, edges) + anchors, 5 * (conv(x, edges) + anchors))


def test_inverse_root_has_a_gradient_where_eigenvalues_coincide():
    a = torch.randn(4, 4, dtype=torch.float64)
    spread = a @ a.T + torch.eye(4)
    symmetric = lambda m: inverse_root((m + m.T) / 2)  # noqa: E731
    assert torch.autograd.gradcheck(symmetric, (spread.requires_grad_(),))
    equal = torch.eye(4, dtype=torch.float64, requires_grad=True)
    inverse_root(equal).sum().backward()
    torch.testing.assert_close(equal.grad, torch.full((4, 4), -0.5, dtype=torch.float64))


def test_anchors_stay_on_the_sphere_and_the_root_is_not_stale():
    x, edges = graph()
    network = FIENet(8, 3, depth=2, width=4).double()
    first = network(x, edges)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.mul_(7.0 if "anchors" in name else 1.0)
    torch.testing.assert_close(network(x, edges), first)


def test_learns_with_labels():
    x, edges = graph(24)
    network = FIENet(8, 3, depth=2, width=16).double()
    optimizer = network.recipe(lr=0.05, weight_decay=0.0).optimizer
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x, edges), torch.arange(24) % 3)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_embedding_of_graphs_is_the_mean_of_their_nodes():
    many = Batch.from_data_list([ring_graph(seed=s) for s in range(3)])
    model = FisherEmbedding(depth=2, width=4, mixtures=2).fit(many)
    assert model.embedding_.shape == (3, 2 * 4 + 2 * 4)
    many.batch = None
    nodes = FisherEmbedding(depth=2, width=4, mixtures=2).fit(many).embedding_
    np.testing.assert_allclose(model.embedding_, nodes.reshape(3, 12, -1).mean(1), atol=1e-6)
    network = FIENet(8, 0, depth=2, width=4)
    batch = torch.arange(36) // 12
    pooled = network(many.x, many.edge_index, None, batch)
    torch.testing.assert_close(pooled, network(many.x, many.edge_index).view(3, 12, -1).mean(1))


def test_embedding_tells_communities_apart_without_labels():
    g = torch.Generator().manual_seed(0)
    data = ring_graph(200, 16)
    y = torch.arange(200) // 100
    near = torch.rand(200, 200, generator=g) < torch.where(y[:, None] == y[None], 0.1, 0.01)
    data.edge_index = near.nonzero().T
    data.x = torch.randn(200, 16, generator=g) + 0.5 * torch.nn.functional.one_hot(y, 16)
    z = FisherEmbedding(depth=2, width=16, mixtures=2).fit(data).embedding_
    half = np.arange(200) % 2 == 0
    scores = [
        LogisticRegression(C=100, max_iter=1000).fit(f[half], y[half]).score(f[~half], y[~half])
        for f in (z, data.x.numpy())
    ]
    assert scores[0] > 0.9 and scores[0] > scores[1] + 0.15


def test_mistakes_are_named():
    with value_error("weights"):
        FIEConv(8, weights="mean")
    with value_error("1 or more"):
        FIEConv(8, mixtures=0)
    with value_error("temperature"):
        FIEConv(8, temperature=0.0)
    with value_error("depth"):
        FIENet(8, 3, depth=0)
    with value_error("sigma"):
        KernelLayer(8, 3, sigma=0.0)
    with value_error("ask for fewer"):
        FisherEmbedding(width=64).fit(ring_graph())
    data = ring_graph()
    data.x[0] = torch.nan
    with value_error("not finite"):
        FisherEmbedding(width=4).fit(data)

import copy

import numpy as np
import pytest
import torch
from torch_geometric.nn import DirGNNConv, GCNConv
from torch_geometric.utils import to_dense_adj

from tests.typecheck import value_error
from ziggurat.data.graphs.collapsing import expanded, weighted_digraph
from ziggurat.graphs.directed.holonets import ComplexFaberConv, FaberConv, FaberNet, holomorphic_filter
from ziggurat.graphs.directed.resolvent import DirResolvNet, ResolventConv, in_laplacian, mass_readout


def cycle(*nodes):
    return torch.tensor([nodes, nodes[1:] + nodes[:1]])


BALANCED = torch.cat([cycle(*range(9)), cycle(0, 2, 4), cycle(1, 5, 3, 7), cycle(0, 6)], 1)


def digraph(nodes=9, edges=25, seed=1):
    pairs = torch.unique(torch.randint(nodes, (2, edges), generator=torch.Generator().manual_seed(seed)), dim=1)
    return pairs[:, pairs[0] != pairs[1]]


def dense(edges, nodes, exponent=0.25):
    a = to_dense_adj(edges, max_num_nodes=nodes)[0].double()
    out, into = (torch.where(d > 0, d.clamp_min(1) ** -exponent, 0) for d in (a.sum(1), a.sum(0)))
    return out[:, None] * a * into


@pytest.mark.fact("holonets", 1)
def test_first_order_is_the_directed_convolution_where_degrees_agree():
    torch.manual_seed(0)
    x = torch.randn(9, 4, dtype=torch.float64)
    ours = FaberConv(4, 3, order=1, alpha=0.3, exponent=0.5, bias=False).double()
    peer = DirGNNConv(GCNConv(4, 3, bias=False), alpha=0.3, root_weight=False).double()
    with torch.no_grad():
        peer.conv_out.lin.weight.copy_(ours.outward[0].T)
        peer.conv_in.lin.weight.copy_(ours.inward[0].T)
    torch.testing.assert_close(ours(x, BALANCED), peer(x, BALANCED))
    assert not torch.allclose(ours(x, digraph()), peer(x, digraph()), atol=1e-3)


@pytest.mark.fact("holonets", 2)
def test_the_contour_integral_is_the_function_of_the_matrix():
    g = torch.Generator().manual_seed(0)
    v = torch.randn(5, 5, dtype=torch.complex128, generator=g)
    values = torch.polar(torch.rand(5, dtype=torch.float64, generator=g), 6 * torch.rand(5, generator=g).double())
    t = v @ torch.diag(values) @ torch.linalg.inv(v)
    got = holomorphic_filter(t, torch.exp, radius=2.0)
    torch.testing.assert_close(got, v @ torch.diag(values.exp()) @ torch.linalg.inv(v))
    torch.testing.assert_close(got, torch.linalg.matrix_exp(t))
    jordan = torch.diag(torch.ones(2, dtype=torch.float64), 1)
    want = torch.eye(3) * 1.0 + 3.0 * jordan + 4.5 * jordan @ jordan  # g(z) = exp(3z): 1, 3, 9
    torch.testing.assert_close(holomorphic_filter(jordan, lambda z: torch.exp(3 * z)), want.to(torch.complex128))
    with value_error("leaves an eigenvalue outside"):
        holomorphic_filter(t, torch.exp, radius=0.1)


@pytest.mark.parametrize(("width", "order"), [(2, 3), (7, 3), (4, 1)])
def test_powers_of_both_operators_against_dense_products(width, order):
    torch.manual_seed(1)
    edges, x = digraph(), torch.randn(9, 4, dtype=torch.float64)
    t = dense(edges, 9)
    for damping, factor in (("exp", lambda k: 2.0 ** (1 - k)), ("lin", lambda k: 1 / k)):
        conv = FaberConv(4, width, order, alpha=0.3, damping=damping, zero_order=True).double()
        want = 0.3 * x @ conv.outward_zero[0] + 0.7 * x @ conv.inward_zero[0] + conv.bias
        for k in range(1, order + 1):
            power, back = torch.linalg.matrix_power(t, k), torch.linalg.matrix_power(t.T, k)
            want = want + factor(k) * (0.3 * power @ x @ conv.outward[k - 1] + 0.7 * back @ x @ conv.inward[k - 1])
        torch.testing.assert_close(conv(x, edges), want)


def test_mixed_powers_are_those_of_the_authors_program():
    torch.manual_seed(1)
    edges, x, t = digraph(), torch.randn(9, 4, dtype=torch.float64), dense(digraph(), 9)
    conv = FaberConv(4, 3, 3, alpha=0.0, mixed=True, bias=False).double()
    w = conv.inward
    want = t.T @ x @ w[0] + t.T @ t @ t @ x @ w[1] / 2 + t.T @ t @ t @ t @ x @ w[2] / 4
    torch.testing.assert_close(conv(x, edges), want)
    pure = copy.deepcopy(conv)
    pure.mixed = False
    assert not torch.allclose(pure(x, edges), want, atol=1e-3)


def test_complex_weights_against_complex_arithmetic():
    torch.manual_seed(2)
    edges, t = digraph(), dense(digraph(), 9).to(torch.complex128)
    z = torch.randn(9, 4, dtype=torch.complex128)
    conv = ComplexFaberConv(4, 3, 2, bias=False).double()
    out, into = (torch.view_as_complex(w.detach().contiguous()) for w in (conv.outward, conv.inward))
    want = (t @ z @ out[0] + t @ t @ z @ out[1] / 2 + t.T @ z @ into[0] + t.T @ t.T @ z @ into[1] / 2) / 2
    got = conv(torch.cat([z.real, z.imag], 1), edges)
    torch.testing.assert_close(got, torch.cat([want.real, want.imag], 1))
    real = ComplexFaberConv(4, 3, 2, bias=False, real_input=True).double()
    real.load_state_dict(conv.state_dict())
    torch.testing.assert_close(real(z.real, edges), conv(torch.cat([z.real, torch.zeros(9, 4)], 1), edges))
    assert FaberConv(4, 3).double()(z, edges).is_complex()


def test_direction_matters_and_one_sided_filters_have_one_set_of_weights():
    torch.manual_seed(0)
    edges, x = digraph(), torch.randn(9, 4)
    one = FaberConv(4, 3, 2, alpha=1.0)
    assert one.inward is None and not torch.allclose(one(x, edges), one(x, edges.flip(0)), atol=1e-3)
    sink = torch.tensor([[0, 1], [2, 2]])  # nodes 0 and 1 are sources, 2 is a sink: no infinite powers of zero
    assert torch.isfinite(FaberConv(4, 3, 3)(x[:3], sink)).all()
    learned = FaberConv(4, 3, learn_alpha=True)
    learned(x, edges).square().sum().backward()
    assert learned.alpha.grad != 0


def test_networks_and_mistakes():
    torch.manual_seed(0)
    edges, x = digraph(), torch.randn(9, 4)
    net = FaberNet(4, 3, width=5, depth=3, weights="complex", jump="max")
    features = net.forward_features(x, edges)
    assert [f.shape[1] for f in features] == [10] * 3 and net.num_features == 10
    norms = features[-1].unflatten(1, (2, 5)).norm(dim=2)
    torch.testing.assert_close(norms, torch.ones(9, 2))
    assert net(x, edges, None, torch.arange(9) // 5).shape == (2, 3)
    with value_error("order must be 1 or more"):
        FaberConv(4, 3, order=0)
    with value_error("jump 'cat', 'max' or 'last'"):
        FaberNet(4, 3, jump="sum")
    with value_error("order must be 1 or more"):
        ResolventConv(4, 3, order=0)


def resolvent(edges, nodes, weight=None):
    """(T + I)^-1 as the layer applies it."""
    layer = ResolventConv(nodes, nodes).double()
    with torch.no_grad():
        layer.weight.copy_(torch.eye(nodes)[None])
        return layer(torch.eye(nodes, dtype=torch.float64), edges, weight)


@pytest.mark.fact("holonets", 3)
def test_resolvent_identity():
    g = torch.Generator().manual_seed(0)
    one, two = digraph(), digraph(seed=2)
    w, v = (torch.rand(e.shape[1], dtype=torch.float64, generator=g) for e in (one, two))
    a, b = in_laplacian(one, w, 9, torch.float64), in_laplacian(two, v, 9, torch.float64)
    torch.testing.assert_close(a.sum(1), torch.zeros(9, dtype=torch.float64))
    r, s = resolvent(one, 9, w), resolvent(two, 9, v)
    torch.testing.assert_close(r @ (a + torch.eye(9)), torch.eye(9, dtype=torch.float64))
    torch.testing.assert_close(r - s, r @ (b - a) @ s)


@pytest.mark.fact("holonets", 4)
def test_a_cluster_on_a_cycle_tends_to_one_node():
    g = torch.Generator().manual_seed(3)
    ring = cycle(*range(5))
    others = torch.tensor([[0, 5, 6, 7, 2, 7, 4], [5, 6, 7, 1, 6, 3, 7]])
    edges, size = torch.cat([ring, others], 1), 8
    rest = torch.rand(7, dtype=torch.float64, generator=g)
    p, j = torch.zeros(4, size, dtype=torch.float64), torch.zeros(size, 4, dtype=torch.float64)
    p[0, :5], j[:5, 0] = 0.2, 1.0
    for i in range(3):
        p[1 + i, 5 + i] = j[5 + i, 1 + i] = 1.0
    bare = in_laplacian(others, rest, size, torch.float64)
    limit = j @ torch.linalg.inv(p @ bare @ j + torch.eye(4)) @ p
    errors = []
    for c in (1.0, 10.0, 100.0, 1000.0):
        weight = torch.cat([torch.full((5,), c, dtype=torch.float64), rest])
        errors.append(float(torch.linalg.matrix_norm(resolvent(edges, size, weight) - limit, 2)))
    assert errors[0] > 0.1 and errors[3] < 1e-3
    assert errors[2] / errors[3] == pytest.approx(10, rel=0.05)  # O(1/c)


def test_a_mass_readout_counts_parts_as_the_whole():
    torch.manual_seed(0)
    net = DirResolvNet(3, 2, width=6).double()
    x, weight = torch.randn(4, 3, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    fine = torch.tensor([[0, 4, 0, 4, 1, 2, 3, 3], [4, 0, 1, 1, 2, 3, 0, 4]])
    tight = torch.tensor([1e6, 1e6], dtype=torch.float64)
    parts = torch.cat([tight, weight[:1] / 4, weight[:1] * 3 / 4, weight[1:3], weight[3:] / 2, weight[3:] * 3 / 2])
    mass = torch.tensor([0.5, 1, 1, 1, 0.5], dtype=torch.float64)
    got = net(torch.cat([x, x[:1]]), fine, parts, None, mass)
    torch.testing.assert_close(got, net(x, edges, weight), atol=1e-5, rtol=1e-4)
    assert mass_readout(x, None, None).shape == (1, 3)


def test_the_expanded_graph_has_the_coarse_one_as_its_mean():
    rng = np.random.default_rng(0)
    edges, weight = weighted_digraph(rng, nodes=6)
    fine, fine_weight = expanded(edges, weight, 6, 7.0, rng, size=3)
    members = torch.tensor([0, 6, 7])
    j = torch.eye(8, 6, dtype=torch.float64).index_fill(0, members, 0)
    j[members, 0] = 1.0
    p = j.T / j.sum(0)[:, None]
    got = p @ in_laplacian(fine, fine_weight, 8, torch.float64) @ j
    torch.testing.assert_close(got, in_laplacian(edges, weight, 6, torch.float64))

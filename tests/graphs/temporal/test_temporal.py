import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.graphs.convolutions.chebnet import ChebConv, scaled_laplacian
from ziggurat.graphs.temporal.dcrnn import DCRNN, DCGRUCell, DiffusionConv, random_walks
from ziggurat.graphs.temporal.signals import over_nodes
from ziggurat.graphs.temporal.stgcn import STGCN, ChebyshevMix, GatedTemporalConv

F64 = torch.float64


def digraph(n=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    edges = ((torch.rand(n, n, generator=g) < 0.4) & ~torch.eye(n, dtype=torch.bool)).nonzero().T
    return edges, torch.rand(edges.shape[1], generator=g, dtype=F64) + 0.2


@pytest.mark.parametrize("order", [1, 2, 3])
def test_diffusion_against_dense_walks(order):
    torch.manual_seed(0)
    edges, weight = digraph()
    w = torch.zeros(7, 7, dtype=F64).index_put((edges[0], edges[1]), weight)
    out, into = (m / m.sum(1, keepdim=True).clamp_min(1e-9) for m in (w, w.T))
    conv, x = DiffusionConv(3, 4, order, bias=0.3).double(), torch.randn(2, 7, 3, dtype=F64)
    theta = conv.linear.weight.T.reshape(2, order, 3, 4)
    for b in range(2):
        want = 0.3
        for k in range(order):
            for side, walk in enumerate((out, into)):
                want = want + torch.linalg.matrix_power(walk, k) @ x[b] @ theta[side, k]
        torch.testing.assert_close(conv(x, random_walks(edges, weight, 7, F64))[b], want)


@pytest.mark.fact("gnn_survey", 4)
def test_without_diffusion_it_is_a_gated_unit_for_every_node():
    torch.manual_seed(0)
    edges, weight = digraph()
    cell = DCGRUCell(3, 5, order=1).double()
    x, h = torch.randn(2, 7, 3, dtype=F64), torch.randn(2, 7, 5, dtype=F64)
    got = cell(x, h, random_walks(edges, weight, 7, F64))
    assert torch.equal(got, cell(x, h, random_walks(edges[:, :2], None, 7, F64)))
    gates, candidate = (
        conv.linear.weight[:, :8] + conv.linear.weight[:, 8:] for conv in (cell.gates, cell.candidate)
    )  # both directions begin with the same power
    for b in range(2):
        for v in range(7):
            both = torch.cat([x[b, v], h[b, v]])
            r, u = (gates @ both + cell.gates.linear.bias).sigmoid().chunk(2)
            c = (candidate @ torch.cat([x[b, v], r * h[b, v]]) + cell.candidate.linear.bias).tanh()
            torch.testing.assert_close(got[b, v], u * h[b, v] + (1 - u) * c)


@pytest.mark.fact("gnn_survey", 4)
def test_with_an_open_reset_gate_it_is_torchs_unit():
    torch.manual_seed(0)
    edges, _ = digraph()
    cell, peer = DCGRUCell(3, 5, order=1).double(), nn.GRUCell(3, 5).double()
    with torch.no_grad():
        cell.gates.linear.bias[:5] = 20
        gates, candidate = (
            conv.linear.weight[:, :8] + conv.linear.weight[:, 8:] for conv in (cell.gates, cell.candidate)
        )
        every = torch.cat([gates, candidate])
        peer.weight_ih.copy_(every[:, :3])
        peer.weight_hh.copy_(every[:, 3:])
        peer.bias_ih.copy_(torch.cat([cell.gates.linear.bias, cell.candidate.linear.bias]))
        peer.bias_hh.zero_()
    x, h = torch.randn(2, 7, 3, dtype=F64), torch.randn(2, 7, 5, dtype=F64)
    want = peer(x.flatten(0, 1), h.flatten(0, 1)).view(2, 7, 5)
    got = cell(x, h, random_walks(edges, None, 7, F64))
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)
    with torch.no_grad():  # a gate that is half open does not commute with the matrix behind it
        cell.gates.linear.bias[:5] = peer.bias_ih[:5] = 0
    want = peer(x.flatten(0, 1), h.flatten(0, 1)).view(2, 7, 5)
    assert not torch.allclose(cell(x, h, random_walks(edges, None, 7, F64)), want, atol=1e-3)


def test_an_encoder_and_a_decoder_that_reads_itself():
    torch.manual_seed(0)
    edges, weight = digraph()
    network = DCRNN(2, horizon=3, width=4).double()
    x = torch.randn(2, 5, 7, 2, dtype=F64)
    walks, h = random_walks(edges, weight, 7, F64), torch.zeros(2, 7, 4, dtype=F64)
    for t in range(5):
        h = network.encoder(x[:, t], h, walks)
    said, want = torch.zeros(2, 7, 2, dtype=F64), []
    for _ in range(3):
        h = network.decoder(said, h, walks)
        said = network.output(h)
        want.append(said)
    torch.testing.assert_close(network(x, edges, weight), torch.stack(want, 1))


def test_direction_counts_and_samples_do_not_meet():
    torch.manual_seed(0)
    edges, weight = digraph()
    for network in (DCRNN(1, 4, 6).double().eval(), STGCN(horizon=4, outer=6, inner=4).double().eval()):
        x = torch.randn(3, 12, 7, 1, dtype=F64)
        whole = network(x, edges, weight)
        assert whole.shape == (3, 4, 7, 1)
        torch.testing.assert_close(network(x[1:2], edges, weight), whole[1:2])
        assert not torch.allclose(network(x, edges.flip(0), weight), whole)
        order = torch.randperm(7)
        torch.testing.assert_close(network(x[:, :, order], order.argsort()[edges], weight), whole[:, :, order])
        whole.square().sum().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in network.parameters())
        assert torch.isfinite(network(x, edges[:, :0])).all()


def test_operators_over_batches():
    torch.manual_seed(0)
    edges, weight = digraph()
    scaled = scaled_laplacian(edges, weight, 7, dtype=F64)
    x = torch.randn(2, 3, 7, 4, dtype=F64)
    want = torch.stack([torch.stack([scaled(x[b, t]) for t in range(3)]) for b in range(2)])
    torch.testing.assert_close(over_nodes(x, scaled), want)
    mix, conv = ChebyshevMix(4, 5, 3).double(), ChebConv(4, 5, 3).double()
    with torch.no_grad():
        conv.weight.copy_(mix.linear.weight.view(3, 5, 4).mT)
        mix.bias.normal_()
        conv.bias.copy_(mix.bias)
    want = torch.stack([torch.stack([conv(x[b, t], edges, weight) for t in range(3)]) for b in range(2)])
    torch.testing.assert_close(mix(x, scaled), want)


def test_gated_convolution_along_time_against_a_loop():
    torch.manual_seed(0)
    conv, x = GatedTemporalConv(2, 3).double(), torch.randn(1, 5, 4, 2, dtype=F64)
    got = conv(x)
    assert got.shape == (1, 3, 4, 3)
    for t in range(3):
        for v in range(4):
            both = conv.conv.bias + sum(conv.conv.weight[:, :, k, 0] @ x[0, t + k, v] for k in range(3))
            torch.testing.assert_close(got[0, t, v], both[:3] * both[3:].sigmoid())


def test_blocks_have_the_channels_of_the_paper():
    network = STGCN()
    shapes = [
        (b.before.conv.out_channels // 2, b.spatial.bias.numel(), b.after.conv.out_channels // 2)
        for b in network.blocks
    ]
    assert shapes == [(64, 16, 64)] * 2 and network.last.conv.kernel_size == (4, 1)


def test_mistakes_of_forecasts():
    edges, _ = digraph()
    with value_error("signals must be"):
        DCRNN()(torch.randn(2, 12, 7), edges)
    with value_error("names node"):
        DCRNN()(torch.randn(2, 12, 3, 1), edges)
    with value_error("history must be 9 steps"):
        STGCN(history=8)
    with value_error("a history of 12 steps, got 10"):
        STGCN()(torch.randn(2, 10, 7, 1), edges)
    with value_error("horizon must be 1 step"):
        DCRNN(horizon=0)
    with value_error("order must be 1 or more"):
        DCRNN(order=0)
    with value_error("order must be 1 or more"):
        STGCN(order=0)

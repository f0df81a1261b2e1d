import math

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.nn import DirGNNConv as PeerDirGNNConv
from torch_geometric.nn import GCNConv
from torch_geometric.utils import to_dense_adj, to_undirected

from tests.typecheck import value_error
from ziggurat import catalogue
from ziggurat.graphs.directed.dippr import DiPPRConv, dippr_norm
from ziggurat.graphs.directed.dir_gnn import DirGNNConv, dir_gnn
from ziggurat.graphs.directed.directed_transformer import DirectedTransformer, magnetic_positions
from ziggurat.graphs.directed.magnet import MagNet, MagNetConv, complex_relu
from ziggurat.graphs.directed.operators import magnetic_laplacian
from ziggurat.graphs.directed.profile import directed_taxonomy, direction_profile
from ziggurat.graphs.propagation import gcn_norm

F64 = torch.float64


def digraph(nodes=9, edges=25, seed=1):
    pairs = torch.unique(torch.randint(nodes, (2, edges), generator=torch.Generator().manual_seed(seed)), dim=1)
    return pairs[:, pairs[0] != pairs[1]]


def dense(edges, weight, nodes):
    return torch.zeros(nodes, nodes, dtype=F64).index_put((edges[1], edges[0]), weight.double(), accumulate=True)


@pytest.mark.fact("directed_survey", 1, 2)
def test_the_magnetic_laplacian():
    edges = digraph()
    for charge in (0.0, 0.1, 0.25):
        lap = magnetic_laplacian(edges, None, 9, charge)
        torch.testing.assert_close(lap, lap.mH)
        values = torch.linalg.eigvalsh(lap)
        assert values.min() > -1e-9 and values.max() < 2 + 1e-9
        back = magnetic_laplacian(edges.flip(0), None, 9, charge)
        torch.testing.assert_close(back, lap.conj())
        torch.testing.assert_close(torch.linalg.eigvalsh(back), values)
    a = to_dense_adj(edges, max_num_nodes=9)[0].double()
    s = (a + a.T) / 2
    scale = s.sum(1) ** -0.5
    want = torch.eye(9, dtype=F64) - scale[:, None] * s * scale
    torch.testing.assert_close(magnetic_laplacian(edges, None, 9, 0.0), want.to(torch.complex128))


@pytest.mark.fact("directed_survey", 3)
def test_a_directed_triangle():
    for q in (0.0, 0.05, 0.17, 0.25):
        h = torch.eye(3) - magnetic_laplacian(torch.tensor([[0, 1, 2], [1, 2, 0]]), None, 3, q)
        want = torch.tensor([math.cos(2 * math.pi * (q + k / 3)) for k in range(3)], dtype=F64).sort().values
        torch.testing.assert_close(torch.linalg.eigvalsh(h), want)


@pytest.mark.fact("directed_survey", 4)
def test_on_undirected_graphs_it_is_the_ordinary_convolution():
    torch.manual_seed(0)
    edges, x = to_undirected(digraph()), torch.randn(9, 4, dtype=F64)
    ours, peer = DirGNNConv(4, 3, root=False).double(), GCNConv(4, 3, add_self_loops=False, bias=False).double()
    with torch.no_grad():
        for linear in (ours.outward, ours.inward):
            linear.weight.copy_(peer.lin.weight)
    torch.testing.assert_close(ours(x, edges), peer(x, edges))
    one_way = digraph()
    assert not torch.allclose(ours(x, one_way), ours(x, one_way.flip(0)) + 1e-3)


def test_where_degrees_agree_it_is_the_peer():
    torch.manual_seed(0)
    around = [(0, 1, 2, 3, 4, 5), (0, 2, 4), (1, 5)]
    edges = torch.cat([torch.tensor([c, c[1:] + c[:1]]) for c in around], 1)
    x = torch.randn(6, 4, dtype=F64)
    ours, peer = DirGNNConv(4, 5, alpha=0.2).double(), PeerDirGNNConv(GCNConv(4, 5, bias=False), alpha=0.2).double()
    with torch.no_grad():
        for mine, theirs in ((ours.outward, peer.conv_out.lin), (ours.inward, peer.conv_in.lin)):
            theirs.weight.copy_(mine.weight)
        peer.lin.load_state_dict(ours.root.state_dict())
    torch.testing.assert_close(ours(x, edges), peer(x, edges))


def test_the_network_is_made_of_this_convolution():
    torch.manual_seed(0)
    edges, x = digraph(), torch.randn(9, 4, dtype=F64)
    ours, network = DirGNNConv(4, 5, alpha=0.3, root=False).double(), dir_gnn(4, 3, 5, alpha=0.3).double()
    faber = network.stages[0].conv
    with torch.no_grad():
        faber.outward.copy_(ours.outward.weight.T[None])
        faber.inward.copy_(ours.inward.weight.T[None])
    torch.testing.assert_close(faber(x, edges), ours(x, edges))


@pytest.mark.fact("directed_survey", 5)
def test_the_frameworks_and_their_members():
    table = directed_taxonomy()
    assert list(table) == ["message-passing", "eigenpolynomial", "sequence-based"]
    for path in (path for members in table.values() for path in members):
        assert isinstance(catalogue.symbol(path), type)


def test_magnetic_convolution_against_dense_polynomials():
    torch.manual_seed(0)
    edges, z = digraph(), torch.randn(9, 4, dtype=torch.complex128)
    conv = MagNetConv(4, 3, order=3, charge=0.15).double()
    torch.nn.init.normal_(conv.bias)
    shifted = magnetic_laplacian(edges, None, 9, 0.15) - torch.eye(9)
    terms = [z, shifted @ z]
    for _ in range(2):
        terms.append(2 * shifted @ terms[-1] - terms[-2])
    want = sum(t @ w.to(torch.complex128) for t, w in zip(terms, conv.weight, strict=True))
    real, imaginary = conv((z.real, z.imag), edges)
    torch.testing.assert_close(real, want.real + conv.bias)
    torch.testing.assert_close(imaginary, want.imag + conv.bias)
    kept = complex_relu(torch.tensor([1.0, -1.0]), torch.tensor([-2.0, 3.0]))
    assert kept[0].tolist() == [1, 0] and kept[1].tolist() == [-2, 0]
    blind = MagNet(4, 3, charge=0.0).double().eval()
    x = torch.randn(9, 4, dtype=F64)
    torch.testing.assert_close(blind(x, edges), blind(x, edges.flip(0)))


def test_the_pagerank_operator():
    edges = digraph()
    s = dense(*dippr_norm(edges, None, 9, steps=300, dtype=F64), 9)
    torch.testing.assert_close(s, s.T)
    assert torch.linalg.eigvalsh(s).abs().max() < 1.1
    walk = to_dense_adj(edges, max_num_nodes=9)[0].double() + torch.eye(9)
    walk = walk / walk.sum(1, keepdim=True)
    values, vectors = torch.linalg.eig((0.9 * walk + 0.1 / 9).T)
    rank = vectors[:, values.real.argmax()].real.abs().sqrt()
    half = rank[:, None] * walk / rank
    torch.testing.assert_close(s, (half + half.T) / 2)
    both = to_undirected(torch.cat([edges, torch.tensor([range(8), range(1, 9)])], 1))  # connected
    s = dense(*dippr_norm(both, None, 9, teleport=0.0, steps=500, dtype=F64), 9)
    torch.testing.assert_close(s, dense(*gcn_norm(both, None, 9, dtype=F64), 9))  # π is proportional to degree


def test_positions_follow_renaming_and_direction():
    torch.manual_seed(0)
    edges = digraph()
    codes = magnetic_positions(edges, None, 9, 3)
    order = torch.randperm(9)
    torch.testing.assert_close(magnetic_positions(order.argsort()[edges], None, 9, 3), codes[order])
    assert magnetic_positions(edges[:, :0], None, 2, 3).shape == (2, 6)
    back = magnetic_positions(edges.flip(0), None, 9, 3)
    torch.testing.assert_close(back[:, ::2], codes[:, ::2])  # the conjugate
    torch.testing.assert_close(back[:, 1::2], -codes[:, 1::2])
    net, x = DirectedTransformer(4, 3, width=8).double(), torch.randn(9, 4, dtype=F64)
    torch.testing.assert_close(net(x, edges).mean(0)[None], net(x, edges, None, torch.zeros(9, dtype=torch.int64)))
    assert not torch.allclose(net(x, edges), net(x, edges.flip(0)), atol=1e-3)


def test_profile_against_dense_matrices():
    edges, y = digraph(12, 50), torch.arange(12) % 3
    found = direction_profile(Data(edge_index=edges, y=y, num_nodes=12))
    a = to_dense_adj(edges, max_num_nodes=12)[0].double().numpy()
    u = np.maximum(a, a.T)
    same = y[:, None].numpy() == y[None].numpy()
    matrices = {
        "A": a,
        "Aᵀ": a.T,
        "A Aᵀ": a @ a.T,
        "Aᵀ A": a.T @ a,
        "A A": a @ a,
        "Aᵀ Aᵀ": a.T @ a.T,
        "U": u,
        "U U": u @ u,
    }
    for name, matrix in matrices.items():
        s = matrix * (1 - np.eye(12))
        rows = s.sum(1) > 0
        want = ((s * same).sum(1)[rows] / s.sum(1)[rows]).mean()
        assert found.homophily[name] == pytest.approx(want)
        assert 0 <= found.informativeness[name] <= 1
    assert found.reciprocity == pytest.approx((a * a.T).sum() / a.sum())


def test_profile_of_directed_classes_advises_directions():
    y = torch.arange(60) % 3
    g = torch.Generator().manual_seed(0)
    ahead = ((y[None] - y[:, None]) % 3 == 1) & (torch.rand(60, 60, generator=g) < 0.4)
    data = Data(edge_index=ahead.nonzero().T, y=y, num_nodes=60)
    found = direction_profile(data)
    assert found.homophily["A"] == 0 and found.homophily["A Aᵀ"] == 1 and found.informativeness["A"] == pytest.approx(1)
    assert found.advice == "keep directions"
    data.edge_index = to_undirected((y[:, None] == y[None]).fill_diagonal_(False).nonzero().T)
    assert direction_profile(data, torch.arange(60) < 30).advice == "make it undirected"
    with value_error("no two nodes with known classes are joined"):
        direction_profile(data, torch.arange(60) < 1)


def test_mistakes():
    with value_error("alpha must be between 0 and 1"):
        DirGNNConv(4, 3, alpha=2.0)
    with value_error("charge between 0 and 1/4"):
        MagNetConv(4, 3, charge=0.5)
    with value_error("teleport must be between 0 and 1"):
        DiPPRConv(4, 3, teleport=1.5)
    with value_error("width a multiple of heads"):
        DirectedTransformer(4, 3, width=10)

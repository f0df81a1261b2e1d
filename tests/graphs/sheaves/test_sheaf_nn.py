import math

import pytest
import torch
from torch_geometric.nn import GCNConv
from torch_geometric.utils import to_dense_adj

from tests.typecheck import value_error
from ziggurat.graphs.sheaves.sheaf_nn import (
    SheafConv,
    SheafLaplacian,
    SheafNN,
    constant_sheaf,
    relation_sheaf,
    rotations,
    signed_sheaf,
)

RING = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 1], [1, 2, 3, 4, 5, 0, 3, 4]])  # each edge once, two chords
TWO = torch.tensor([[0, 1, 2, 4, 5], [1, 2, 3, 5, 6]])  # a path of four and a path of three
F64 = torch.float64


def random_maps(edges, k=3, d=2, seed=0):
    return torch.randn(edges.shape[1], 2, k, d, dtype=F64, generator=torch.Generator().manual_seed(seed))


def nullity(laplacian):
    return int((torch.linalg.eigvalsh(laplacian.matrix().to_dense()) < 1e-9).sum())


@pytest.mark.fact("sheaf_nn", 1)
def test_the_constant_sheaf_is_the_graph():
    a = to_dense_adj(torch.cat([RING, RING.flip(0)], 1))[0].double()
    degree = a.sum(1)
    laplacian = SheafLaplacian(RING, constant_sheaf(RING, dtype=F64), 6)
    torch.testing.assert_close(laplacian.matrix().to_dense(), torch.diag(degree) - a)
    eye = torch.eye(6, dtype=F64)
    want = degree[:, None] ** -0.5 * a * degree**-0.5
    torch.testing.assert_close(laplacian.diffuse(eye[:, None])[:, 0], want)
    torch.testing.assert_close(eye - laplacian.matrix(normalized=True).to_dense(), want)
    looped = torch.cat([RING, torch.tensor([[2], [2]])], 1)
    again = SheafLaplacian(looped, constant_sheaf(looped, dtype=F64), 6)
    torch.testing.assert_close(again.matrix().to_dense(), laplacian.matrix().to_dense())
    torch.testing.assert_close(again.diagonal(), laplacian.diagonal())
    x, peer = torch.randn(6, 4, dtype=F64), GCNConv(4, 3, bias=False).double()
    ours = SheafConv(4, 3, act="none", loops=1.0).double()
    with torch.no_grad():
        peer.lin.weight.copy_(ours.channels.T)
    torch.testing.assert_close(ours(x, RING), peer(x, torch.cat([RING, RING.flip(0)], 1)))


@pytest.mark.fact("sheaf_nn", 2)
def test_its_form_is_the_sum_of_disagreements():
    edges = torch.cat([RING, torch.tensor([[2, 4], [2, 4]])], 1)  # loops whose two maps differ count too
    maps, x = random_maps(edges), torch.randn(6, 2, 3, dtype=F64)
    laplacian = SheafLaplacian(edges, maps, 6)
    dense = laplacian.matrix().to_dense()
    torch.testing.assert_close(dense, dense.T)
    assert torch.linalg.eigvalsh(dense).min() > -1e-9
    want = sum((maps[e, 1] @ x[v] - maps[e, 0] @ x[u]).square().sum() for e, (u, v) in enumerate(edges.T.tolist()))
    torch.testing.assert_close(laplacian.energy(x), want)
    flat = x.flatten(0, 1)
    torch.testing.assert_close(torch.trace(flat.T @ dense @ flat), want)
    torch.testing.assert_close(laplacian(x).flatten(0, 1), dense @ flat)


@pytest.mark.fact("sheaf_nn", 3)
def test_kernels_count_components_and_balance():
    assert nullity(SheafLaplacian(TWO, constant_sheaf(TWO, 3, F64), 7)) == 2 * 3
    side = torch.tensor([1, -1, 1, 1, -1, -1], dtype=F64)
    balanced = side[RING[0]] * side[RING[1]]
    laplacian = SheafLaplacian(RING, signed_sheaf(balanced), 6)
    assert nullity(laplacian) == 1
    torch.testing.assert_close(laplacian.energy(side[:, None, None]), torch.zeros((), dtype=F64))
    wrong = balanced * torch.tensor([-1.0] + [1.0] * 7)
    assert nullity(SheafLaplacian(RING, signed_sheaf(wrong), 6)) == 0


@pytest.mark.fact("sheaf_nn", 4)
def test_orthogonal_changes_of_coordinates_change_no_energy():
    maps, x = random_maps(RING), torch.randn(6, 2, 3, dtype=F64)
    turn = rotations(torch.randn(6, dtype=F64))
    moved = maps @ turn[RING.T].mT
    for name in ("energy", "diffuse"):
        before, after = getattr(SheafLaplacian(RING, maps, 6), name), getattr(SheafLaplacian(RING, moved, 6), name)
        want = before(x) if name == "energy" else turn @ before(x)
        torch.testing.assert_close(after(turn @ x), want)


@pytest.mark.fact("sheaf_nn", 5)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_eigenvalues_lie_between_0_and_2(k):
    for seed in range(5):
        dense = SheafLaplacian(TWO, random_maps(TWO, k, 2, seed), 8).matrix(normalized=True).to_dense()
        values = torch.linalg.eigvalsh(dense)
        assert values.min() > -1e-8 and values.max() < 2 + 1e-8


def test_relations_run_from_the_first_end_to_the_second():
    edges, quarter = torch.tensor([[0], [1]]), rotations(torch.tensor([math.pi / 2], dtype=F64))
    laplacian = SheafLaplacian(edges, relation_sheaf(quarter), 2)
    x = torch.tensor([[[1.0], [0.0]], [[0.0], [1.0]]], dtype=F64)  # node 1 is node 0 turned by 90 degrees
    assert laplacian.energy(x) < 1e-20 < laplacian.energy(x.flip(0))
    y = laplacian.diffuse(x.index_fill(0, torch.tensor([1]), 0))
    torch.testing.assert_close(y[1], x[1])  # what node 0 sends arrives turned


def test_weights_layouts_and_mistakes():
    torch.manual_seed(0)
    conv, x, maps = SheafConv(3, 5, stalk=2).double(), torch.randn(6, 2, 3, dtype=F64), random_maps(RING)
    weight = torch.rand(8, dtype=F64)
    torch.testing.assert_close(conv(x.flatten(1), RING, weight, maps), conv(x, RING, weight, maps).flatten(1))
    doubled = torch.cat([RING, RING.flip(0)], 1)
    torch.testing.assert_close(conv(x, doubled), conv(x, RING))  # the constant sheaf does not mind both directions
    assert SheafNN(6, 4, stalk=2).eval()(x.flatten(1).float(), RING, maps=maps.float()).shape == (6, 4)
    with value_error("one map for each end of each edge"):
        SheafLaplacian(RING, maps[:3], 6)
    with value_error("a multiple of stalk"):
        SheafNN(5, 4, stalk=2)
    with value_error("act must be one of"):
        SheafConv(3, 5, act="gelu")

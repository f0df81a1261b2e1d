import pytest
import torch
from torch_geometric.data import Data

from tests.graphs.complexes.test_hodge import SQUARE, TETRAHEDRON, torus
from tests.typecheck import value_error
from ziggurat.data.graphs.complexes import (
    CWComplex,
    batch_complexes,
    boundary,
    from_graph,
    from_polygons,
    from_simplices,
)
from ziggurat.graphs.complexes.cwan import CWAN, CWAttention, sharing
from ziggurat.graphs.complexes.cwcnn import CWCNN, CWConv, bound, readout
from ziggurat.graphs.complexes.hodge import betti, hodge
from ziggurat.testing.examples import example_complex

CIRCLE, DISC = from_polygons(4, SQUARE, []).skeleton(1), from_polygons(4, SQUARE, [[0, 1, 2, 3]])
SPHERE = from_simplices(TETRAHEDRON, 4)[0]


def dense(cells, k):
    """D_k out of the boundary matrices, in float64."""
    n, matrix = cells.sizes[k], torch.zeros(cells.sizes[k], cells.sizes[k], dtype=torch.float64)
    if k > 0:
        b = boundary(cells, k).to_dense().double()
        matrix = matrix + b.T @ b
    if k < len(cells.faces):
        b = boundary(cells, k + 1).to_dense().double()
        matrix = matrix + b @ b.T
    assert matrix.shape == (n, n)
    return matrix


def flow(cells, width=1, seed=0):
    """The complex with random features of float64 on its edges and polygons, and none on its nodes."""
    g = torch.Generator().manual_seed(seed)
    x = [torch.randn(n, width, generator=g, dtype=torch.float64) for n in cells.sizes]
    return cells._replace(x=(0 * x[0], *x[1:]))


def turned(cells: CWComplex, k: int, cell: int) -> CWComplex:
    """The same complex with one cell's orientation turned over, its features with it."""
    x = list(cells.x)
    x[k] = x[k].clone()
    x[k][cell] = -x[k][cell]
    signs = list(cells.signs)
    signs[k - 1] = torch.where(cells.faces[k - 1][1] == cell, -signs[k - 1], signs[k - 1])
    if k < len(signs):
        signs[k] = torch.where(cells.faces[k][0] == cell, -signs[k], signs[k])
    return cells._replace(x=tuple(x), signs=tuple(signs))


@pytest.mark.fact("cw_networks", 1)
def test_the_laplacians_and_the_betti_numbers():
    for cells, numbers in ((CIRCLE, (1, 1)), (DISC, (1, 0, 0)), (SPHERE, (1, 0, 1)), (torus(), (1, 2, 1))):
        assert betti(cells) == numbers
        for k in range(1, len(cells.faces)):
            assert not (boundary(cells, k).to_dense() @ boundary(cells, k + 1).to_dense()).any()
        for k in range(len(cells.x)):
            values = torch.linalg.eigvalsh(dense(cells, k))
            assert torch.equal(dense(cells, k), dense(cells, k).T) and values.min() > -1e-9
            assert int((values < 1e-9).sum()) == numbers[k]
            assert values.max() <= bound(cells, k).max() + 1e-5


@pytest.mark.fact("cw_networks", 2)
def test_on_nodes_it_is_the_graph_laplacian():
    adjacency = torch.zeros(4, 4, dtype=torch.float64)
    for a, b in SQUARE:
        adjacency[a, b] = adjacency[b, a] = 1
    assert torch.equal(dense(CIRCLE, 0), torch.diag(adjacency.sum(0)) - adjacency)


@pytest.mark.fact("cw_networks", 3)
@pytest.mark.parametrize("layer", [CWConv(2, 3), CWConv(2, 3, separate=True, bounded=True), CWAttention(2, 4, heads=2)])
@pytest.mark.parametrize("cells", [torus(3), SPHERE, example_complex()], ids=["torus", "sphere", "example"])
def test_a_cell_that_is_turned_over_turns_its_own_output_only(layer, cells):
    layer, cells = layer.double(), flow(cells, 2)
    want = layer(cells)
    for k, cell in ((1, 3), (2, 1)):
        got = layer(turned(cells, k, cell))
        for dimension, (a, b) in enumerate(zip(got, want, strict=True)):
            factor = torch.ones(len(b), 1, dtype=torch.float64)
            if dimension == k:
                factor[cell] = -1
            torch.testing.assert_close(a, factor * b, atol=1e-12, rtol=0)


@pytest.mark.fact("cw_networks", 3)
@pytest.mark.parametrize("network", [CWCNN(2, 3, width=8), CWAN(2, 3, width=8)], ids=["cwcnn", "cwan"])
def test_signed_networks_do_not_see_the_orientation(network):
    network, cells = network.double(), flow(example_complex(), 2)
    want = network(cells)
    for k, cell in ((1, 2), (2, 0)):
        torch.testing.assert_close(network(turned(cells, k, cell)), want, atol=1e-12, rtol=0)


def test_unsigned_networks_do_see_it():
    network, cells = CWCNN(2, 3, width=8, signed=False).double(), flow(example_complex(), 2)
    assert (network(turned(cells, 1, 2)) - network(cells)).abs().max() > 1e-6


@pytest.mark.fact("cw_networks", 4)
def test_gradients_curls_and_harmonic_flows_stay_apart():
    cells = torus()
    b1, b2, lap = boundary(cells, 1).to_dense().double(), boundary(cells, 2).to_dense().double(), dense(cells, 1)
    values, vectors = torch.linalg.eigh(lap)
    parts = [b1.T, b2, vectors[:, values < 1e-9]]
    spaces = [torch.linalg.svd(p, full_matrices=False) for p in parts]
    spaces = [u[:, s > 1e-9] for u, s, _ in spaces]
    assert sum(u.shape[1] for u in spaces) == cells.sizes[1]
    for i, a in enumerate(spaces):
        for b in spaces[:i]:
            assert (a.T @ b).abs().max() < 1e-9
    layer = CWConv(1, 4, across=False).double()
    for u in spaces:
        x = u @ torch.randn(u.shape[1], 1, dtype=torch.float64)
        z = layer.linear(cells._replace(x=(cells.x[0].double(), x, cells.x[2].double())), 1)
        torch.testing.assert_close(u @ (u.T @ z), z, atol=1e-9, rtol=0)


@pytest.mark.fact("cw_networks", 5)
def test_benzene():
    ring = torch.stack([torch.arange(6), (torch.arange(6) + 1) % 6])
    cells = from_graph(Data(edge_index=torch.cat([ring, ring.flip(0)], 1), num_nodes=6))
    assert cells.sizes == (6, 6, 1) and betti(cells) == (1, 0, 0) and betti(cells.skeleton(1)) == (1, 1)
    assert from_graph(Data(edge_index=ring, num_nodes=6), max_ring=5).sizes == (6, 6, 0)


def test_features_of_edges_come_with_the_first_of_their_two_directions():
    edges = torch.tensor([[1, 0, 2, 1, 2, 2], [0, 1, 1, 2, 2, 0]])
    data = Data(x=torch.randn(3, 4), edge_index=edges, edge_attr=torch.arange(6.0))
    cells = from_graph(data)
    assert cells.x[1].flatten().tolist() == [0, 5, 2] and torch.equal(cells.x[0], data.x) and cells.sizes == (3, 3, 1)


def test_the_convolution_equals_a_loop_over_matrices():
    cells, layer = flow(torus(3), 2), CWConv(2, 3).double()
    b1, b2 = boundary(cells, 1).to_dense(), boundary(cells, 2).to_dense()
    z0, z1, z2 = cells.x
    want = dense(cells, 1) @ z1 @ layer.laplacian[1].weight.T + z1 @ layer.own[1].weight.T
    want = want + b1.T @ z0 @ layer.from_faces[0].weight.T + b2 @ z2 @ layer.from_cofaces[1].weight.T
    torch.testing.assert_close(layer(cells)[1], want.tanh())


@pytest.mark.parametrize("k", [0, 1, 2])
def test_cells_attend_to_those_they_share_something_with(k):
    cells = flow(torus(), 2)
    pairs, sign = sharing(cells, k)
    want = dense(cells, k)
    touching = dense(cells.unsigned(), k) + torch.eye(cells.sizes[k])
    got = torch.full_like(want, torch.nan).index_put((pairs[0], pairs[1]), sign)
    assert torch.equal(~got.isnan(), touching > 0)
    torch.testing.assert_close(got.nan_to_num(), want.sign())


def test_the_attention_equals_a_loop():
    cells, layer = flow(torus(3), 2), CWAttention(2, 4, heads=1).double()
    h, o = cells.x[1], dense(cells, 1).sign()
    near = dense(cells.unsigned(), 1) > 0
    q, k, v = (part[1](h) for part in (layer.query, layer.key, layer.value))
    for i in (0, 7):
        js = near[i].nonzero().flatten()
        weight = torch.stack([o[i, j] * (q[i] @ k[j]) / 2 for j in js]).softmax(0)
        want = sum(w * o[i, j] * v[j] for w, j in zip(weight, js, strict=True))
        torch.testing.assert_close(layer(cells)[1][i], want)


def test_in_a_filled_triangle_the_two_terms_cancel():
    triangle = from_simplices([(0, 1, 2)], 3)[0]
    pairs, sign = sharing(triangle, 1)
    assert pairs.shape[1] == 9 and torch.equal(sign, (pairs[0] == pairs[1]).float())


def test_readouts_of_complexes_without_polygons_are_zero():
    cells = batch_complexes([from_polygons(4, SQUARE, []), DISC])
    assert readout(cells, cells.x, squared=True).tolist() == [[1, 1, 0], [1, 1, 1]]
    for signed in (True, False):
        for network in (CWCNN(1, 2, 8, signed=signed, bounded=True), CWAN(1, 2, 8, signed=signed)):
            assert torch.isfinite(network(cells)).all() and torch.isfinite(network(from_polygons(2, [], []))).all()


def test_hodge_terms_of_a_flow_have_its_type():
    assert hodge(flow(DISC), 1, flow(DISC).x[1])[0].dtype == torch.float64


def test_mistakes():
    with value_error("take its skeleton"):
        CWConv(1, 2)(CIRCLE)
    with value_error("need 3 widths, got 2"):
        CWConv((1, 1), 2)
    with value_error("multiple of heads"):
        CWAttention(1, 6, heads=4)
    with value_error("depth must be 1 or more"):
        CWCNN(1, 2, depth=0)


def test_an_atom_without_bonds_is_a_complex_of_one_node():
    lonely = Data(x=torch.ones(1, 5), edge_index=torch.zeros(2, 0, dtype=torch.long), edge_attr=torch.zeros(0, 6))
    cells = from_graph(lonely)
    assert cells.sizes[:2] == (1, 0) and cells.x[1].shape == (0, 6)

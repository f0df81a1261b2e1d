import math

import torch
from torch_geometric.utils import get_laplacian, to_dense_adj

from tests.typecheck import value_error
from ziggurat.graphs.directed.operators import dir_norm, magnetic_laplacian
from ziggurat.graphs.propagation import propagate

CYCLE = torch.tensor([[0, 1, 2], [1, 2, 0]])


def digraph(nodes=9, edges=25):
    g = torch.Generator().manual_seed(1)
    pairs = torch.unique(torch.randint(nodes, (2, edges), generator=g), dim=1)
    return pairs[:, pairs[0] != pairs[1]]


def test_both_degrees_normalise():
    edges = digraph()
    a = to_dense_adj(edges, max_num_nodes=9)[0].double()
    out, into = a.sum(1).clamp_min(1) ** -0.25, a.sum(0).clamp_min(1) ** -0.25
    x = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    want = (out[:, None] * a * into).T @ x
    torch.testing.assert_close(propagate(x, *dir_norm(edges, None, 9, 0.25, torch.float64)), want)


def test_the_magnetic_laplacian_is_hermitian_with_eigenvalues_from_0_to_2():
    for charge in (0.0, 0.1, 0.25):
        lap = magnetic_laplacian(digraph(), None, 9, charge)
        torch.testing.assert_close(lap, lap.conj().T)
        values = torch.linalg.eigvalsh(lap)
        assert values.min() > -1e-9 and values.max() < 2 + 1e-9
        torch.testing.assert_close(magnetic_laplacian(digraph().flip(0), None, 9, charge), lap.conj())


def test_without_charge_it_is_the_laplacian_of_the_symmetric_graph():
    edges, weights = digraph(), torch.ones(digraph().shape[1], dtype=torch.float64)
    both = torch.cat([edges, edges.flip(0)], 1)
    index, value = get_laplacian(both, torch.cat([weights, weights]) / 2, "sym", num_nodes=9)
    want = to_dense_adj(index, edge_attr=value, max_num_nodes=9)[0]
    torch.testing.assert_close(magnetic_laplacian(edges, None, 9, 0.0).real, want)


def test_a_directed_triangle():
    q = 0.13
    values = 1 - torch.linalg.eigvalsh(magnetic_laplacian(CYCLE, None, 3, q))
    want = torch.tensor([math.cos(2 * math.pi * (q + k / 3)) for k in range(3)], dtype=torch.float64)
    torch.testing.assert_close(values.sort().values, want.sort().values)
    with value_error("charge must be between 0 and 1/4"):
        magnetic_laplacian(CYCLE, None, 3, 0.3)

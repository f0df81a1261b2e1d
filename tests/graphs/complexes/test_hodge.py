import torch

from tests.typecheck import value_error
from ziggurat.data.graphs.complexes import (
    batch_complexes,
    boundary,
    check_complex,
    from_polygons,
    from_simplices,
    rings,
)
from ziggurat.graphs.complexes.hodge import betti, hodge

SQUARE = [(0, 1), (1, 2), (2, 3), (3, 0)]
TETRAHEDRON = [(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)]


def torus(side=4):
    """A square grid that closes in both directions."""
    at = lambda i, j: (i % side) * side + j % side  # noqa: E731
    cells = [(i, j) for i in range(side) for j in range(side)]
    edges = [(at(i, j), at(i + a, j + b)) for i, j in cells for a, b in ((1, 0), (0, 1))]
    squares = [[at(i, j), at(i + 1, j), at(i + 1, j + 1), at(i, j + 1)] for i, j in cells]
    return from_polygons(side * side, edges, squares)


def test_betti_numbers_of_known_spaces():
    assert betti(from_polygons(4, SQUARE, []).skeleton(1)) == (1, 1)
    assert betti(from_polygons(4, SQUARE, [[0, 1, 2, 3]])) == (1, 0, 0)
    assert betti(from_simplices(TETRAHEDRON, 4)[0]) == (1, 0, 1)
    assert betti(torus()) == (1, 2, 1)
    assert betti(from_simplices([(0, 1), (2, 3)], 5, top=1)[0]) == (3, 0)


def test_the_boundary_of_a_boundary_is_zero():
    for cells in (torus(), from_simplices([(0, 1, 2, 3), (2, 3, 4)], 5, top=3)[0]):
        for k in range(1, len(cells.faces)):
            assert not (boundary(cells, k).to_dense() @ boundary(cells, k + 1).to_dense()).any()


def test_hodge_terms_are_those_of_the_matrices():
    cells = torus()
    b1, b2 = boundary(cells, 1).to_dense(), boundary(cells, 2).to_dense()
    z = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
    down, up = hodge(cells, 1, z)
    torch.testing.assert_close(down, b1.T @ b1 @ z)
    torch.testing.assert_close(up, b2 @ b2.T @ z)
    assert not hodge(cells, 0, z[:16])[0].any() and not hodge(cells, 2, z[:16])[1].any()


def test_simplices_bring_their_faces():
    cells, names = from_simplices([(3, 1, 2), (1, 2)], 4)
    assert cells.sizes == (4, 3, 1) and names[1] == [(1, 2), (1, 3), (2, 3)] and names[2] == [(1, 2, 3)]
    assert cells.faces[1].tolist() == [[2, 1, 0], [0, 0, 0]] and cells.signs[1].tolist() == [1, -1, 1]


def test_rings_do_not_depend_on_the_order_of_edges():
    fused = torch.tensor([[0, 1, 2, 3, 4, 5, 5, 6, 7, 8], [1, 2, 3, 4, 5, 0, 6, 7, 8, 4]])  # a hexagon and a pentagon
    want = [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8]]
    assert rings(fused) == want and rings(fused.flip(0).flip(1)) == want and rings(fused, longest=5) == want[1:]


def test_batches_shift_both_ends():
    a, b = from_polygons(4, SQUARE, [[0, 1, 2, 3]]), from_simplices(TETRAHEDRON, 4)[0]
    both = batch_complexes([a, b])
    check_complex(both)
    assert both.sizes == (8, 10, 5) and both.batch[2].tolist() == [0, 1, 1, 1, 1]
    assert betti(both) == (2, 0, 1)


def test_mistakes():
    with value_error("polygon 0 runs from 0 to 2, which is no edge"):
        from_polygons(4, SQUARE, [[0, 2, 3]])
    cells = from_polygons(4, SQUARE, [[0, 1, 2, 3]])
    with value_error("B_1 B_2 is not zero"):
        check_complex(cells._replace(signs=(cells.signs[0], cells.signs[1].abs().mul(torch.tensor([-1.0, 1, 1, 1])))))
    with value_error("name cell 3 of dimension 0, but there are 3"):
        check_complex(cells._replace(x=(cells.x[0][:3], *cells.x[1:])))
    with value_error("complexes of one dimension can be batched"):
        batch_complexes([cells, cells.skeleton(1)])

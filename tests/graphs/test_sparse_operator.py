import torch

from ziggurat.graphs.propagation import propagate
from ziggurat.graphs.sparse_operator import sparse_operator

EDGES = torch.tensor([[0, 1, 2, 2, 3, 0, 0], [1, 2, 0, 3, 3, 1, 4]])  # a loop and a repeated edge


def test_it_is_propagate_with_its_gradients():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, dtype=torch.float64, generator=g, requires_grad=True)
    w = torch.rand(7, dtype=torch.float64, generator=g, requires_grad=True)
    up = torch.randn(6, 3, dtype=torch.float64, generator=g)
    operator = sparse_operator(EDGES, w, 6)
    for there, edges in ((operator, EDGES), (operator.transposed, EDGES.flip(0))):
        got, want = there(there(x)), propagate(propagate(x, edges, w), edges, w)
        torch.testing.assert_close(got, want)
        for a, b in zip(
            torch.autograd.grad((got * up).sum(), (x, w)), torch.autograd.grad((want * up).sum(), (x, w)), strict=True
        ):
            torch.testing.assert_close(a, b)


def test_other_types_are_propagated():
    w = torch.rand(7)
    x = torch.complex(torch.randn(6, 2), torch.randn(6, 2))
    torch.testing.assert_close(sparse_operator(EDGES, w, 6)(x).imag, propagate(x.imag, EDGES, w))
    assert sparse_operator(EDGES, w.bfloat16(), 6).matrix is None
    assert not sparse_operator(EDGES[:, :0], w[:0], 6)(torch.ones(6, 2)).any()

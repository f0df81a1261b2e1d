import pytest
import torch

from ziggurat.graphs.hypergraphs.incidence import to_hyperedges, to_nodes
from ziggurat.graphs.hypergraphs.incidence_product import IncidenceProduct

INDEX = torch.tensor([[0, 1, 2, 1, 3, 0, 1, 1], [0, 0, 0, 1, 1, 2, 2, 2]])
"""{0, 1, 2}, {1, 3}, {0, 1} with node 1 twice; node 4 is in none, hyperedge 3 empty."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("weighed", [False, True])
def test_equals_the_sums_and_their_gradients(dtype, weighed):
    value = torch.rand(8).to(dtype) if weighed else None
    product = IncidenceProduct(INDEX, 5, 4, value, dtype)
    assert (product.matrices is None) == (dtype == torch.bfloat16)
    x, z = torch.randn(5, 3).to(dtype), torch.randn(4, 3).to(dtype)
    for given, ours, theirs in (
        (x, product.to_hyperedges, lambda t: to_hyperedges(t, INDEX, 4, "sum", value)),
        (z, product.to_nodes, lambda t: to_nodes(t, INDEX, 5, "sum", value)),
    ):
        one, two = given.clone().requires_grad_(), given.clone().requires_grad_()
        torch.testing.assert_close(ours(one), theirs(two))
        weight = torch.randn_like(ours(one).detach())
        (ours(one) * weight).sum().backward()
        (theirs(two) * weight).sum().backward()
        torch.testing.assert_close(one.grad, two.grad)


def test_values_with_a_gradient_get_it():
    value = torch.ones(8, requires_grad=True)
    IncidenceProduct(INDEX, 5, 4, value).to_nodes(torch.arange(4.0).unsqueeze(1)).sum().backward()
    assert value.grad.tolist() == INDEX[1].tolist()


def test_no_memberships_give_zeros():
    product = IncidenceProduct(INDEX[:, :0], 3, 2)
    assert product.to_nodes(torch.ones(2, 1)).tolist() == [[0]] * 3
    assert product.to_hyperedges(torch.ones(3, 1)).tolist() == [[0]] * 2

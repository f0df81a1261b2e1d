import torch

from tests.typecheck import value_error
from ziggurat.data.graphs.complexes import boundary, from_simplices
from ziggurat.graphs.complexes.cwcnn import CWCNN
from ziggurat.graphs.complexes.imputing import Imputer, masked, normalised
from ziggurat.graphs.complexes.scrawl import SCRaWl
from ziggurat.nn import count_parameters


def test_a_hidden_value_reaches_nobody():
    cells, _ = from_simplices([(0, 1, 2), (1, 2, 3)], 4, 2)
    values = [torch.rand(n) for n in cells.sizes]
    known = [torch.ones(n, dtype=torch.bool) for n in cells.sizes]
    known[1][2] = False
    changed = [values[0], values[1].clone(), values[2]]
    changed[1][2] += 5
    for network in (CWCNN(2, 0, 6, signed=False), SCRaWl(2, 0, 6, 2, window=1, length=5)):
        torch.manual_seed(0)
        model = Imputer(network).eval()
        one, other = (model(masked(cells, given, known), 3) for given in (values, changed))
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True)) and [len(a) for a in one] == [4, 5, 2]
        known_again = [torch.ones_like(k) for k in known]
        assert not torch.equal(model(masked(cells, changed, known_again), 3)[1], one[1])
        assert model.size() == count_parameters(model) - count_parameters(network.head)
    with value_error("the complex has 3 dimensions"):
        masked(cells, values[:2], known)


def test_normalised_boundaries_have_singular_values_of_at_most_one():
    cells, _ = from_simplices([(0, 1, 2), (1, 2, 3), (3, 4)], 6, 2)
    made = normalised(cells)
    for k in (1, 2):
        matrix, plain = boundary(made, k).to_dense(), boundary(cells.unsigned(), k).to_dense()
        scale = (plain.sum(1, keepdim=True) * plain.sum(0)).clamp_min(1).sqrt()
        torch.testing.assert_close(matrix, plain / scale)
        assert float(torch.linalg.matrix_norm(matrix, 2)) <= 1 + 1e-5

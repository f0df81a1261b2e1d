import math

import networkx as nx
import torch

from tests.typecheck import value_error
from ziggurat.data.graphs.readers import Simplices
from ziggurat.data.graphs.simplicial_samples import cycle_pairs, meetings


def test_pairs_of_cycles_have_the_same_nodes_and_not_the_same_components():
    cells, kinds = cycle_pairs(4, 3, seed=1)
    assert kinds.tolist() == [0, 1] * 3 and cells.sizes == (48, 48) and (cells.signs[0] == 1).all()
    graph = nx.Graph(cells.faces[0][0].view(-1, 2).tolist())
    assert all(degree == 2 for _, degree in graph.degree)
    parts = [sum(cells.batch[0][min(part)] == g for part in nx.connected_components(graph)) for g in range(6)]
    assert [int(p) for p in parts] == [2, 1] * 3
    other, _ = cycle_pairs(4, 3, seed=2)
    assert not torch.equal(other.faces[0], cells.faces[0])
    with value_error("a cycle needs 3 nodes"):
        cycle_pairs(2, 1)


def test_meetings_count_the_records_that_contain_a_simplex():
    groups = [(0, 1, 2), (0, 1), (0, 1), (2, 3), (0, 1, 2, 3)]
    pointer = torch.tensor([0, *torch.tensor([len(g) for g in groups]).cumsum(0).tolist()])
    records = Simplices(pointer, torch.tensor([v for g in groups for v in g]), torch.arange(5), 4)
    cells, values = meetings(records)
    assert cells.sizes == (4, 6, 4)  # the faces of the group of four
    assert torch.allclose(values[1][0], torch.tensor(math.log(1 + 4)))  # 01
    assert torch.allclose(values[2][0], torch.tensor(math.log(1 + 2)))  # 012
    assert torch.allclose(values[0][3], torch.tensor(math.log(1 + 2)))  # 3

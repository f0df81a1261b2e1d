import itertools

import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, SAGEConv
from torch_geometric.utils import to_dense_adj
from torch_geometric.utils.influence import total_influence as peer_total_influence

from tests.typecheck import value_error
from ziggurat.data.graphs.roads import road_like
from ziggurat.explain.influence import influence_receptive_field, jacobian_influence, total_influence
from ziggurat.graphs.baselines import GCN
from ziggurat.graphs.convolutions.sgc import SGConv
from ziggurat.graphs.propagation import gcn_norm


def grid(side=7, width=3, seed=0):
    roads = road_like(side, seed=seed)
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(int(roads.num_nodes), width, generator=g, dtype=torch.float64)
    return Data(x=x, edge_index=torch.cat([roads.edge_index, roads.edge_index.flip(0)], 1))


class Stack(nn.Module):
    """Layers of torch_geometric with tanh and dropout."""

    def __init__(self, conv, depth, width=3, out=2):
        super().__init__()
        sizes = [width] + [5] * (depth - 1) + [out]
        self.layers = nn.ModuleList(conv(a, b) for a, b in itertools.pairwise(sizes))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x, edge_index):
        for layer in self.layers:
            x = self.dropout(layer(x, edge_index)).tanh()
        return x


class NoEdges(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

    def forward(self, x, edge_index):
        return self.net(x)


@pytest.mark.fact("city_networks", 1)
@pytest.mark.parametrize("conv", [GCNConv, SAGEConv])
def test_total_influence_is_the_peers(conv):
    torch.manual_seed(0)
    data, model = grid(), Stack(conv, 2)
    data.x = data.x.float()  # the peer's hops are
    want, radius = peer_total_influence(model.eval(), data, max_hops=3)
    got, ours = total_influence(model.train(), data, 3)
    torch.testing.assert_close(got, want)
    assert ours == pytest.approx(radius)
    assert model.training and model.dropout.training and all(p.grad is None for p in model.parameters())


@pytest.mark.fact("city_networks", 1)
def test_with_a_ball_of_as_many_hops_as_layers_only_the_peer_sees_other_degrees():
    torch.manual_seed(0)
    data, model = grid(), Stack(GCNConv, 2).eval()
    data.x = data.x.float()
    exact = total_influence(model, data, 3)[0][:3]
    torch.testing.assert_close(total_influence(model, data, 2)[0], exact)
    assert not torch.allclose(peer_total_influence(model, data, max_hops=2)[0], exact, rtol=1e-3)


def test_against_the_jacobian_of_the_whole_graph():
    torch.manual_seed(0)
    data, model = grid(), Stack(GCNConv, 3).double().eval()
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x, data.edge_index), data.x)
    want = jacobian.abs().sum((1, 3))
    roots = torch.tensor([0, 5, 11, 11, *range(20, 40)])
    found = jacobian_influence(model, data, roots, 3)
    torch.testing.assert_close(found.values, want[roots])
    a = to_dense_adj(data.edge_index, max_num_nodes=len(data.x))[0].double()
    reach, distance = torch.eye(len(a), dtype=torch.float64), torch.full(a.shape, -1)
    for h in range(4):
        distance = torch.where((reach > 0) & (distance < 0), h, distance)
        reach = reach @ a
    assert torch.equal(found.hops, distance[roots])
    by_hop = found.by_hop(3)
    for s, v in enumerate(roots.tolist()):
        for h in range(4):
            torch.testing.assert_close(by_hop[s, h], want[v][distance[v] == h].sum())


@pytest.mark.fact("city_networks", 2)
def test_without_edges_nothing_comes_from_others():
    torch.manual_seed(0)
    total, radius = total_influence(NoEdges().double(), grid(), 4)
    assert total.tolist() == [1, 0, 0, 0, 0] and radius == 0


@pytest.mark.fact("city_networks", 2)
@pytest.mark.parametrize("depth", [1, 2])
def test_messages_travel_a_hop_a_layer(depth):
    torch.manual_seed(0)
    total, radius = total_influence(Stack(SAGEConv, depth).double(), grid(), 4)
    assert bool((total[: depth + 1] > 0).all()) and not total[depth + 1 :].any()
    assert 0 < radius < depth


@pytest.mark.fact("city_networks", 3)
@pytest.mark.parametrize("hops", [1, 3])
def test_weights_of_a_linear_network_cancel(hops):
    torch.manual_seed(0)
    data = grid()
    n = len(data.x)
    edges, weight = gcn_norm(data.edge_index, None, n, dtype=torch.float64)
    s = torch.zeros(n, n, dtype=torch.float64).index_put((edges[1], edges[0]), weight, accumulate=True)
    power = torch.linalg.matrix_power(s, hops)
    got, _ = total_influence(SGConv(3, 4, hops).double(), data, hops)
    distance = jacobian_influence(SGConv(3, 4, hops).double(), data, torch.arange(n), hops).hops
    at = torch.stack([(power * (distance == h)).sum(1).mean() for h in range(hops + 1)])
    torch.testing.assert_close(got, at / at[0])


@pytest.mark.fact("city_networks", 4)
@pytest.mark.parametrize("d", [2, 4])
def test_one_layer_on_a_regular_graph(d):
    torch.manual_seed(0)
    steps = torch.tensor([1, -1, 3, -3][:d])
    here = torch.arange(11)
    edges = torch.stack([here.repeat(d), (here + steps[:, None]).flatten() % 11])
    total, radius = total_influence(GCNConv(3, 2).double(), Data(x=torch.randn(11, 3).double(), edge_index=edges), 1)
    assert float(total[1]) == pytest.approx(d) and radius == pytest.approx(d / (d + 1))


def test_direction_and_weights_of_edges_count():
    torch.manual_seed(0)
    data = Data(
        x=torch.randn(4, 3), edge_index=torch.tensor([[0, 1, 2], [1, 2, 3]]), edge_weight=torch.tensor([1.0, 2.0, 3.0])
    )
    model = GCN(3, 2, dropout=0.0)
    found = jacobian_influence(model, data, torch.tensor([0, 2]), 2)
    assert found.hops.tolist() == [[0, -1, -1, -1], [2, 1, 0, -1]]
    plain = jacobian_influence(model, Data(x=data.x, edge_index=data.edge_index), torch.tensor([0, 2]), 2)
    assert torch.allclose(plain.values[0], found.values[0]) and not torch.allclose(plain.values[1], found.values[1])


def test_samples_and_the_receptive_field():
    torch.manual_seed(0)
    data, model = grid(), Stack(SAGEConv, 2).double()
    assert torch.equal(total_influence(model, data, 2, 5, seed=1)[0], total_influence(model, data, 2, 5, seed=1)[0])
    assert not torch.equal(total_influence(model, data, 2, 5, seed=1)[0], total_influence(model, data, 2, 5, seed=2)[0])
    assert influence_receptive_field(torch.tensor([[1.0, 1.0], [1.0, 3.0], [0.0, 0.0]])) == pytest.approx(1.25 / 3)
    assert len(jacobian_influence(model, data, torch.zeros(0, dtype=torch.int64), 2).values) == 0


def test_mistakes_of_influence():
    data, model = grid(), Stack(SAGEConv, 2).double()
    with value_error("max_hops must be 0 or more"):
        jacobian_influence(model, data, torch.tensor([0]), -1)
    with value_error("roots must be nodes from 0"):
        jacobian_influence(model, data, torch.tensor([1000]), 1)
    with value_error("num_samples must be between 1"):
        total_influence(model, data, 1, 0)
    with value_error("do not depend on the nodes' own features"):
        total_influence(SGConv(3, 2, 0).double().requires_grad_(False).apply(_zero), data, 1)


def _zero(part):
    for parameter in part.parameters(recurse=False):
        parameter.data.zero_()

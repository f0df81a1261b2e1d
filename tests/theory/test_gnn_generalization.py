import math

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.nn import APPNP as PeerAPPNP
from torch_geometric.nn import GCN2Conv, GCNConv

from tests.typecheck import value_error
from ziggurat.testing.examples import ring_graph
from ziggurat.theory.gnn_generalization import (
    FilteredLinear,
    FilteredMLP,
    InitialResidualGCN,
    TwoLayerGCN,
    filter_norm,
    generalization_report,
    lipschitz_factor,
    operator,
    pagerank_coefficients,
    sampling_factor,
    transductive_gap,
)

ONE_HOP = torch.tensor([0.0, 1.0], dtype=torch.float64)
GRAPH = ring_graph()
GRAPH.x = GRAPH.x.double()
MODELS = {
    "mlp": lambda f, c: FilteredMLP(f, c, torch.ones(1)),
    "sgc": lambda f, c: FilteredLinear(f, c, 3),
    "gcn": lambda f, c: TwoLayerGCN(f, c),
    "gcn_row": lambda f, c: TwoLayerGCN(f, c, kind="row"),
    "gcn_sum": lambda f, c: TwoLayerGCN(f, c, kind="sum"),
    "appnp": lambda f, c: FilteredMLP(f, c, pagerank_coefficients(6, 0.2)),
    "gpr": lambda f, c: FilteredMLP(f, c, torch.tensor([0.5, -0.4, 0.3, 0.6]), learned=True),
    "gcnii": lambda f, c: InitialResidualGCN(f, c, 5),
    "gcnii_sum": lambda f, c: InitialResidualGCN(f, c, 3, kind="sum"),
}


def star(leaves):
    hub = torch.zeros(leaves, dtype=torch.int64)
    edges = torch.stack([hub, torch.arange(1, leaves + 1)])
    return Data(x=torch.eye(leaves + 1, dtype=torch.float64), edge_index=torch.cat([edges, edges.flip(0)], 1))


def dense(data, kind="symmetric"):
    return operator(data, kind)(torch.eye(len(data.x), dtype=torch.float64))


@pytest.mark.fact("gnn_generalization", 1)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_no_gradient_of_a_node_exceeds_the_factor(name, scale):
    torch.manual_seed(1)
    tightest = 0.0
    for _ in range(3):
        model = MODELS[name](8, 3).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(scale * torch.randn_like(parameter))
        logits = model(GRAPH.x, operator(GRAPH, model.kind))
        factor = lipschitz_factor(model, GRAPH)
        learned = [p for p in model.parameters() if p.requires_grad]
        for node in range(12):
            for label in range(3):
                loss = torch.nn.functional.cross_entropy(logits[node], torch.tensor(label))
                grads = torch.autograd.grad(loss, learned, retain_graph=True)
                norm = math.sqrt(sum(float(g.square().sum()) for g in grads))
                assert norm <= factor * (1 + 1e-9)
                tightest = max(tightest, norm / factor)
    assert tightest > 1e-4  # a bound, not a number that is merely large


@pytest.mark.fact("gnn_generalization", 2)
def test_spectral_norm_is_one_and_infinity_norm_is_not():
    for data in (GRAPH, star(5), star(9)):
        s = dense(data)
        assert abs(float(torch.linalg.matrix_norm(s, 2)) - 1) < 1e-9
        norm = filter_norm(operator(data), ONE_HOP, len(data.x))
        assert norm >= 1 and abs(norm - float(torch.linalg.matrix_norm(s, torch.inf))) < 1e-12
    ring = torch.stack([torch.arange(6), (torch.arange(6) + 1) % 6])
    regular = Data(x=torch.eye(6, dtype=torch.float64), edge_index=torch.cat([ring, ring.flip(0)], 1))
    assert abs(filter_norm(operator(regular), ONE_HOP, 6) - 1) < 1e-12
    for leaves in (5, 9):
        expected = 1 / (leaves + 1) + leaves / math.sqrt(2 * (leaves + 1))
        assert abs(filter_norm(operator(star(leaves)), ONE_HOP, leaves + 1) - expected) < 1e-12
    assert round(filter_norm(operator(star(5)), ONE_HOP, 6), 3) == 1.610


@pytest.mark.fact("gnn_generalization", 3)
def test_row_normalisation_has_the_smaller_factor():
    for data in (GRAPH, star(5)):
        assert abs(filter_norm(operator(data, "row"), ONE_HOP, len(data.x)) - 1) < 1e-12
        torch.manual_seed(0)
        row, symmetric = (TwoLayerGCN(data.x.shape[1], 3, kind=kind).double() for kind in ("row", "symmetric"))
        symmetric.load_state_dict(row.state_dict())
        assert lipschitz_factor(row, data) < lipschitz_factor(symmetric, data)


@pytest.mark.fact("gnn_generalization", 4)
@pytest.mark.parametrize("hops", [0, 1, 4, 10])
def test_pagerank_coefficients_sum_to_one_and_their_filter_has_norm_one(hops):
    a = pagerank_coefficients(hops, 0.15)
    assert len(a) == hops + 1 and abs(float(a.sum()) - 1) < 1e-12
    assert abs(filter_norm(operator(GRAPH, "row"), a, 12) - 1) < 1e-12
    torch.manual_seed(0)
    filtered = FilteredMLP(8, 3, a, kind="row").double()
    plain = FilteredMLP(8, 3, torch.ones(1, dtype=torch.float64), kind="row").double()
    plain.first, plain.second = filtered.first, filtered.second
    assert abs(lipschitz_factor(filtered, GRAPH) / lipschitz_factor(plain, GRAPH) - 1) < 1e-6


@pytest.mark.fact("gnn_generalization", 5)
def test_the_sampling_factor_is_smallest_at_equal_halves():
    values = [sampling_factor(m, 100 - m) for m in range(1, 100)]
    assert 1 + int(np.argmin(values)) == 50 and abs(values[49] - 100**1.5 / 2500) < 1e-12
    with value_error("labelled and unlabelled"):
        sampling_factor(0, 5)


def test_networks_equal_the_peers_without_biases():
    step, x = operator(GRAPH), GRAPH.x
    gcn = TwoLayerGCN(8, 3).double()
    one, two = GCNConv(8, 16, bias=False).double(), GCNConv(16, 3, bias=False).double()
    one.lin.weight, two.lin.weight = gcn.first.weight, gcn.second.weight
    torch.testing.assert_close(gcn(x, step), two(one(x, GRAPH.edge_index).relu(), GRAPH.edge_index))
    appnp = FilteredMLP(8, 3, pagerank_coefficients(4, 0.2)).double()
    z = appnp.second(appnp.first(x).relu())
    torch.testing.assert_close(appnp(x, step), PeerAPPNP(4, 0.2)(z, GRAPH.edge_index), atol=1e-6, rtol=1e-5)
    deep = InitialResidualGCN(8, 3, 2).double()
    h = start = deep.first(x).relu()
    for i, layer in enumerate(deep.layers, 1):
        peer = GCN2Conv(16, alpha=0.1, theta=0.5, layer=i).double()
        with torch.no_grad():
            peer.weight1.copy_(layer.weight.T)
        h = peer(h, start, GRAPH.edge_index).relu()
    torch.testing.assert_close(deep(x, step), deep.last(h))


def test_descent_is_plain_and_seeded_and_stops_at_the_target():
    gap = transductive_gap(MODELS["mlp"], GRAPH, 0.5, (0, 1), 200, rate=1.0, target=0.8)
    again = transductive_gap(MODELS["mlp"], GRAPH, 0.5, (0, 1), 200, rate=1.0, target=0.8)
    for i in range(2):
        assert np.array_equal(gap["loss"][i], again["loss"][i])
        assert gap["reached"][i] and gap["loss"][i][-1] <= 0.8 < gap["loss"][i][:-1].min()
        assert len(gap["loss"][i]) == len(gap["loss_gap"][i]) == len(gap["acc_gap"][i])
    assert not transductive_gap(MODELS["sgc"], GRAPH, 0.5, steps=2, target=0.1)["reached"][0]
    with value_error("m_fraction must be"):
        transductive_gap(MODELS["sgc"], GRAPH, 1.0)


def test_the_report_has_a_row_for_each_architecture_at_one_loss():
    rows = generalization_report(GRAPH, {n: MODELS[n] for n in ("mlp", "sgc")}, 0.5, (0,), 300, (3.0, 1.0), 0.6)
    assert [row["model"] for row in rows] == ["mlp", "sgc"]
    assert [row["parameters"] for row in rows] == [8 * 16 + 16 * 3, 8 * 3]
    for row in rows:
        assert row["reached"] == 1 and row["steps"] < 300 and row["factor"] > 0 and row["rate"] in (1.0, 3.0)


def test_mistakes_are_named():
    with value_error("kind must be"):
        operator(GRAPH, "mean")

import pytest
import torch

from tests.typecheck import value_error
from ziggurat import catalogue
from ziggurat.graphs import baselines
from ziggurat.graphs.taxonomy import EdgeLevel, gnn_taxonomy, make_gnn
from ziggurat.testing.examples import ring_graph

STATIC = ("recurrent", "spectral convolutional", "spatial convolutional")
MEMBERS = [(c, cls.__name__) for c, members in gnn_taxonomy().items() for cls in members]


def test_the_table_names_what_the_catalogue_has():
    table = gnn_taxonomy()
    assert list(table) == [*STATIC, "autoencoders", "spatial-temporal"] and len(set(MEMBERS)) == 10
    own = {path.rpartition(".")[2]: path for path in catalogue.row("gnn_survey")["symbols"]}
    for cls in (cls for members in table.values() for cls in members):
        assert cls is baselines.GCN or catalogue.symbol(own[cls.__name__]) is cls


@pytest.mark.parametrize(("category", "member"), [m for m in MEMBERS if m[0] in STATIC])
def test_heads_for_nodes_pairs_and_graphs(category, member):
    torch.manual_seed(0)
    graph = ring_graph()
    node = make_gnn(category, "node", 8, 3, member, 4).eval()
    assert type(node).__name__ == member and node(graph.x, graph.edge_index).shape == (12, 3)
    pairs = torch.tensor([[0, 2], [1, 2]])
    edge = make_gnn(category, "edge", 8, 2, member, 4).eval()
    got = edge(graph.x, graph.edge_index, pairs)
    h = edge.encoder(graph.x, graph.edge_index)
    assert h.shape == (12, edge.encoder.num_features)
    torch.testing.assert_close(got, edge.linear(h[pairs[0]] * h[pairs[1]]))
    torch.testing.assert_close(edge(graph.x, graph.edge_index, pairs.flip(0)), got)
    whole = make_gnn(category, "graph", 8, 3, member, 4).eval()
    alone = whole(graph.x, graph.edge_index)
    both = torch.cat([graph.x, graph.x]), torch.cat([graph.edge_index, graph.edge_index + 12], 1)
    rows = whole(*both, None, torch.tensor([0] * 12 + [1] * 12))
    assert alone.shape == (1, 3)
    torch.testing.assert_close(rows, alone.expand(2, -1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("member", ["GAE", "VGAE"])
def test_autoencoders_score_pairs(member):
    graph = ring_graph()
    logits = make_gnn("autoencoders", "edge", 8, member=member).eval()(graph.x, graph.edge_index, graph.edge_index)
    assert logits.shape == (graph.edge_index.shape[1],)


@pytest.mark.parametrize("member", ["DCRNN", "STGCN"])
def test_temporal_networks_forecast_nodes(member):
    forecast = make_gnn("spatial-temporal", "node", 2, 5, member, 4)(torch.randn(3, 12, 12, 2), ring_graph().edge_index)
    assert forecast.shape == (3, 5, 12, 2)


def test_the_first_member_is_the_default():
    assert type(make_gnn("spectral convolutional", "node", 8, 3)).__name__ == "GCN"
    assert isinstance(make_gnn("recurrent", "edge", 8).encoder, gnn_taxonomy()["recurrent"][0])
    assert isinstance(make_gnn("spatial convolutional", "edge", 8), EdgeLevel)


def test_mistakes_of_the_factory():
    with value_error("there is no category 'convolutional'; take one of recurrent"):
        make_gnn("convolutional", "node", 8)
    with value_error("task must be 'node'"):
        make_gnn("recurrent", "link", 8)
    with value_error("recurrent has no member 'GCN'; it has GatedGNN, FixedPointGNN"):
        make_gnn("recurrent", "node", 8, member="GCN")
    with value_error("have the task 'edge' only"):
        make_gnn("autoencoders", "node", 8)
    with value_error("have the task 'node' only"):
        make_gnn("spatial-temporal", "graph", 8)
    with value_error("one output"):
        make_gnn("autoencoders", "edge", 8, 3)
    with value_error("outputs must be 1 or more"):
        make_gnn("recurrent", "node", 8, 0)

import pytest
import torch
from torch_geometric.nn import GATConv

from tests.typecheck import value_error
from ziggurat.graphs.baselines import GCN
from ziggurat.graphs.convolutions.citation_gat import CitationGAT
from ziggurat.nn import count_parameters
from ziggurat.testing.examples import ring_graph


@pytest.mark.fact("gnn_survey", 1)
def test_parameters_of_gcn_and_gat_on_cora():
    with torch.device("meta"):
        gcn, gat = GCN(1433, 7), CitationGAT(1433, 7)
    assert count_parameters(gcn) == 1433 * 16 + 16 + 16 * 7 + 7 == 23_063
    assert count_parameters(gat) == (1433 * 64 + 64 + 2 * 64) + (64 * 7 + 7 + 2 * 7) == 92_373


def test_the_network_against_loops():
    torch.manual_seed(0)
    graph, network = ring_graph(), CitationGAT(8, 3, width=4, heads=2).double().eval()
    edges = [*graph.edge_index.T.tolist(), *([v, v] for v in range(12))]

    def attend(x, conv, heads, width):
        h = conv.lin(x).view(12, heads, width)
        out = torch.zeros_like(h)
        for v in range(12):
            near = [s for s, t in edges if t == v]
            for k in range(heads):
                score = [(h[u, k] * conv.att_src[0, k]).sum() + (h[v, k] * conv.att_dst[0, k]).sum() for u in near]
                share = torch.nn.functional.leaky_relu(torch.stack(score), 0.2).softmax(0)
                out[v, k] = sum(a * h[u, k] for a, u in zip(share, near, strict=True))
        return out.flatten(1) + conv.bias

    x = graph.x.double()
    hidden = torch.nn.functional.elu(attend(x, network.stages[0], 2, 4))
    torch.testing.assert_close(network(x, graph.edge_index), attend(hidden, network.head.conv, 1, 3))


def test_attention_is_dropped_out_in_both_layers():
    network = CitationGAT(8, 3)
    convs = [m for m in network.modules() if isinstance(m, GATConv)]
    assert [conv.dropout for conv in convs] == [0.6, 0.6] and [conv.heads for conv in convs] == [8, 1]
    assert network.recipe().optimizer.param_groups[0]["lr"] == 0.005


def test_graphs_and_mistakes_of_attention():
    torch.manual_seed(0)
    graph, network = ring_graph(), CitationGAT(8, 3).eval()
    batch = torch.tensor([0] * 12 + [1] * 12)
    both, edges = torch.cat([graph.x, graph.x]), torch.cat([graph.edge_index, graph.edge_index + 12], 1)
    rows = network(both, edges, None, batch)
    torch.testing.assert_close(rows, network(graph.x, graph.edge_index).mean(0).expand(2, -1))
    with value_error("the very list"):
        network.forward_head([graph.x])
    with value_error("num_classes must be 0"):
        network.reset_classifier(-1)

import torch
from torch_geometric.nn import SAGEConv as PeerSAGEConv

from ziggurat.graphs.convolutions.graphsage import GraphSAGE, SAGEConv
from ziggurat.testing.examples import ring_graph


def matched(peer, own):
    with torch.no_grad():
        peer.lin_l.weight.copy_(own.neighbours.weight)
        peer.lin_l.bias.copy_(own.own.bias)
        peer.lin_r.weight.copy_(own.own.weight)
    return peer


def test_the_layer_is_the_peers_and_a_loop():
    torch.manual_seed(0)
    graph = ring_graph()
    x = graph.x.double()
    for width in (3, 11):  # averaged behind the weights, and in front of them
        conv = SAGEConv(8, width).double()
        torch.testing.assert_close(
            conv(x, graph.edge_index), matched(PeerSAGEConv(8, width).double(), conv)(x, graph.edge_index)
        )
        want = torch.zeros(12, width, dtype=torch.float64)
        for v in range(12):
            around = [x[s] for s, t in graph.edge_index.T.tolist() if t == v]
            want[v] = conv.own(x[v]) + conv.neighbours(sum(around) / len(around))
        torch.testing.assert_close(conv(x, graph.edge_index), want)


def test_edge_weights_weigh_the_mean():
    torch.manual_seed(0)
    conv = SAGEConv(4, 4).double()
    x, edges = torch.randn(3, 4, dtype=torch.float64), torch.tensor([[0, 1], [2, 2]])
    got = conv(x, edges, torch.tensor([1.0, 3.0], dtype=torch.float64))
    torch.testing.assert_close(got[2], conv.own(x[2]) + conv.neighbours((x[0] + 3 * x[1]) / 4))
    torch.testing.assert_close(got[0], conv.own(x[0]))  # nobody points to it


def test_the_classifier_has_the_weights_of_the_second_layer():
    torch.manual_seed(0)
    graph, network = ring_graph(), GraphSAGE(8, 3, 6).double().eval()
    second = SAGEConv(6, 3).double()
    with torch.no_grad():
        second.own.weight.copy_(network.head.fc.weight[:, :6])
        second.own.bias.copy_(network.head.fc.bias)
        second.neighbours.weight.copy_(network.head.fc.weight[:, 6:])
    x = graph.x.double()
    hidden = network.stages[0](x, graph.edge_index).relu()
    torch.testing.assert_close(network(x, graph.edge_index), second(hidden, graph.edge_index))

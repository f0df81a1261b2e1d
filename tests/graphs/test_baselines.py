import pytest
import torch
from torch_geometric.nn import GATConv, GINConv, global_mean_pool

from ziggurat.graphs import GAT, GCN, GIN
from ziggurat.testing import ring_graph


@pytest.mark.parametrize("network", [GCN, GAT, GIN])
def test_a_batch_of_graphs_is_averaged_by_graph(network):
    torch.manual_seed(0)
    graph = ring_graph()
    model = network(8, 3).eval()
    owner = torch.tensor([0] * 6 + [1] * 6)
    nodes = model.forward_features(graph.x, graph.edge_index)[-1]
    expected = model.head.fc(global_mean_pool(nodes, owner))
    torch.testing.assert_close(model(graph.x, graph.edge_index, batch=owner), expected)


@pytest.mark.parametrize(("network", "layer"), [(GAT, GATConv), (GIN, GINConv)])
def test_layers_are_the_peers(network, layer):
    assert all(isinstance(stage, layer) for stage in network(8, 3).stages)


def test_edge_weights_count_in_a_gcn_and_default_to_one():
    graph = ring_graph()
    torch.manual_seed(0)
    model = GCN(8, 3).eval()
    plain = model(graph.x, graph.edge_index)
    ones = torch.ones(graph.edge_index.shape[1])
    torch.testing.assert_close(model(graph.x, graph.edge_index, ones), plain)
    assert not torch.allclose(model(graph.x, graph.edge_index, 5 * ones), plain)
    model.recipe(0.5).optimizer.zero_grad()
    assert model.recipe(0.5).optimizer.param_groups[0]["lr"] == 0.5

import networkx as nx
import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.loading import load


def given(name, split=None):
    try:
        return load(name, split)
    except FileNotFoundError as error:
        pytest.skip(f"data: {error}")


def test_filtered_graphs_keep_their_direction():
    graph = given("squirrel_filtered", 3)
    assert graph.x.shape == (2223, 2089) and graph.edge_index.shape == (2, 65718)
    assert not graph.is_undirected() and not (graph.train_mask & graph.test_mask).any()
    assert not torch.equal(graph.train_mask, given("squirrel_filtered", 4).train_mask)


def test_hypergraphs():
    graph = given("cora_cocitation", 1)
    assert graph.x.shape == (2708, 1433) and graph.hyperedge_index.shape == (2, 4786)
    assert int(graph.train_mask.sum()) == 140 and int(graph.test_mask.sum()) == 2568
    alone = 2708 - len(graph.hyperedge_index[0].unique())
    assert alone / 2708 == pytest.approx(0.47, abs=0.005)
    assert "x" not in given("pubmed_cocitation") and "could not be had" in given("pubmed_cocitation").note
    with value_error("'ten' is none of them"):
        load("cora_cocitation", "ten")


def test_typed_graphs():
    acm = given("heco_acm")
    assert (acm["paper"].num_nodes, acm["author"].num_nodes, acm["subject"].num_nodes) == (4019, 7167, 60)
    assert torch.bincount(acm["paper"].y).tolist() == [1993, 965, 1061] and len(acm["paper"].train_20) == 60
    dblp = given("heco_dblp")
    assert {kind: dblp[kind].num_nodes for kind in dblp.node_types} == {
        "author": 4057, "paper": 14328, "term": 7723, "conference": 20,
    }  # fmt: skip
    free = given("heco_freebase")
    assert free["movie"].num_nodes == 3492 and free["actor"].num_nodes == 33401 and "x" not in free["movie"]


def test_groups_are_in_order_of_time_and_bring_the_counted_faces():
    contacts = given("contacts_primary")
    assert contacts.num_nodes == 242 and bool((contacts.times.diff() >= 0).all())
    groups = contacts.groups()
    assert len(groups) == 106879 and groups == [tuple(sorted(set(g))) for g in groups]
    from ziggurat.data.graphs.complexes import from_simplices

    cells, _ = from_simplices(list(set(groups)), 242)
    assert cells.sizes == (242, 8317, 5139)
    seen = set(groups)
    assert (sum(len(g) == 2 for g in seen), sum(len(g) == 3 for g in seen)) == (7748, 4600)


def test_messages():
    stream = given("collegemsg")
    assert len(stream.t) == 59835 and stream.num_people == 1899 == len(torch.cat([stream.src, stream.dst]).unique())
    assert int(stream.t[0]) == 0 and bool((stream.t.diff() >= 0).all())


def test_roads():
    city = given("roads_helsinki")
    graph = nx.Graph(city.edge_index.T.tolist())
    largest = max(nx.connected_components(graph), key=len)
    assert city.pos.shape == (6338, 2) and city.edge_index.shape == (2, 7688) and len(largest) == 6193
    assert graph.subgraph(largest).number_of_edges() == 7472 and sum(graph.degree(v) == 2 for v in largest) == 3831
    assert float(city.length.sum()) == pytest.approx(101_000, rel=0.01) and city.highway_names[0] == "motorway"

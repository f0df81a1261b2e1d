import networkx as nx
import pytest
import torch
from torch_geometric.utils import from_networkx

from tests.typecheck import value_error
from ziggurat.graphs.links import Neighbours, random_non_edges, split_links, undirected_pairs, without_links
from ziggurat.metrics.links import hits_at_k, mean_reciprocal_rank


@pytest.fixture(scope="module")
def karate():
    graph = nx.karate_club_graph()
    return graph, from_networkx(graph).edge_index


def codes(pairs, n=34):
    return set((pairs.min(0).values * n + pairs.max(0).values).tolist())


def test_parts_are_disjoint_and_negatives_are_no_edges(karate):
    _, edges = karate
    split = split_links(edges, 34, 0.1, 0.2, seed=3)
    assert [p.positive.shape[1] for p in split[1:]] == [54, 8, 16]
    assert [p.negative.shape[1] for p in split[1:]] == [54, 8, 16]
    everything = [codes(pairs) for part in split[1:] for pairs in part]
    assert len(set().union(*everything)) == sum(map(len, everything)) == 2 * 78
    assert set().union(*everything[::2]) == codes(edges)
    assert codes(split.edge_index) == codes(split.train.positive) and split.edge_index.shape[1] == 2 * 54
    again, other = split_links(edges, 34, 0.1, 0.2, seed=3), split_links(edges, 34, 0.1, 0.2, seed=4)
    assert torch.equal(again.test.positive, split.test.positive) and torch.equal(
        again.test.negative, split.test.negative
    )
    assert not torch.equal(other.test.positive, split.test.positive)


def test_no_component_falls_apart_when_asked(karate):
    _, edges = karate
    split = split_links(edges, 34, 0.1, 0.47, connected=True)
    seen = nx.Graph(split.edge_index.T.tolist())
    assert nx.is_connected(seen) and seen.number_of_nodes() == 34
    with value_error("only 45 links can be hidden"):
        split_links(edges, 34, 0.2, 0.4, connected=True)


def test_unlinked_pairs_are_all_found_when_all_are_asked_for(karate):
    graph, edges = karate
    pairs = random_non_edges(edges, 34, 34 * 33 // 2 - 78)
    assert codes(pairs) == {min(a, b) * 34 + max(a, b) for a, b in nx.non_edges(graph)}
    assert bool((pairs[0] < pairs[1]).all())
    with value_error("484 unlinked pairs were asked for, but 34 nodes leave 483"):
        random_non_edges(edges, 34, 484)
    with value_error("leave a part empty"):
        split_links(edges, 34, 0.001, 0.2)


def test_common_neighbours_are_those_of_networkx(karate):
    graph, edges = karate
    pairs = torch.combinations(torch.arange(34)).T
    repeated = torch.cat([edges, edges[:, :5]], 1)
    pair, node = Neighbours(edges, 34).common(pairs)
    degree = torch.bincount(edges[0], minlength=34).double()
    score = torch.zeros(pairs.shape[1], dtype=torch.float64).index_add(0, pair, 1 / degree[node].log())
    known = {(a, b): s for a, b, s in nx.adamic_adar_index(graph, [tuple(p) for p in pairs.T.tolist()])}
    torch.testing.assert_close(score, torch.tensor([known[tuple(p)] for p in pairs.T.tolist()], dtype=torch.float64))
    assert len(Neighbours(repeated, 34).common(pairs)[0]) == len(pair)
    (first, a), (second, b) = Neighbours(edges, 34).only(torch.tensor([[0], [33]]))
    assert set(a.tolist()) == set(graph[0]) - set(graph[33]) and set(b.tolist()) == set(graph[33]) - set(graph[0])
    assert first.unique().tolist() == second.unique().tolist() == [0]


def test_target_links_are_taken_out_in_both_directions(karate):
    _, edges = karate
    targets = undirected_pairs(edges, 34)[:, ::10]
    left, weight = without_links(edges, torch.arange(156.0), targets.flip(0), 34)
    assert codes(left) == codes(edges) - codes(targets) and left.shape[1] == 156 - 16 == len(weight)


def test_hits_and_ranks():
    positive, negative = torch.tensor([0.9, 0.5, 0.2]), torch.tensor([0.8, 0.5, 0.1, 0.0])
    assert hits_at_k(positive, negative, 1) == pytest.approx(1 / 3)
    assert hits_at_k(positive, negative, 2) == pytest.approx(1 / 3)  # a tie is no hit
    assert hits_at_k(positive, negative, 3) == 1 and hits_at_k(positive, negative, 5) == 1
    ranks = mean_reciprocal_rank(torch.tensor([0.9, 0.5]), negative.expand(2, -1))
    assert ranks == pytest.approx((1 + 1 / 2.5) / 2)
    with value_error("k must be 1 or more"):
        hits_at_k(positive, negative, 0)

import networkx as nx
import pytest
import torch
from torch_geometric.utils import from_networkx

from tests.typecheck import value_error
from ziggurat.graphs.link_prediction.fitting import fit_links, score_pairs
from ziggurat.graphs.link_prediction.ncn import GAE, NCN, NCNC, pooled
from ziggurat.graphs.links import Neighbours, split_links

KARATE = nx.karate_club_graph()
EDGES = from_networkx(KARATE).edge_index
PAIRS = torch.combinations(torch.arange(34)).T
CYCLE = from_networkx(nx.cycle_graph(6)).edge_index


def features(nodes=34, width=5):
    return torch.randn(nodes, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.fact("ncn", 1)
def test_the_pooled_term_contains_the_known_heuristics():
    degree = torch.bincount(EDGES[0], minlength=34).double()
    found, ebunch = Neighbours(EDGES, 34).common(PAIRS), [tuple(p) for p in PAIRS.T.tolist()]
    known = {
        "count": [float(len(list(nx.common_neighbors(KARATE, a, b)))) for a, b in ebunch],
        "adamic-adar": [s for *_, s in nx.adamic_adar_index(KARATE, ebunch)],
        "resource allocation": [s for *_, s in nx.resource_allocation_index(KARATE, ebunch)],
    }
    for name, h in (
        ("count", torch.ones_like(degree)),
        ("adamic-adar", 1 / degree.log()),
        ("resource allocation", 1 / degree),
    ):
        torch.testing.assert_close(
            pooled(h[:, None], found, PAIRS.shape[1])[:, 0], torch.tensor(known[name], dtype=torch.float64)
        )


@pytest.mark.fact("ncn", 2)
def test_a_cycle_with_equal_features_needs_common_neighbours():
    torch.manual_seed(0)
    x, pairs = torch.ones(6, 5, dtype=torch.float64), torch.tensor([[0, 0], [2, 3]])
    near, far = GAE(5, 16, 2).double()(x, CYCLE, pairs)
    torch.testing.assert_close(near, far)
    near, far = NCN(5, 16, 2).double()(x, CYCLE, pairs)
    assert abs(float((near - far).detach())) > 1e-3


@pytest.mark.fact("ncn", 3)
def test_without_completion_it_is_the_plain_network():
    torch.manual_seed(0)
    plain, x = NCN(5, 16).double(), features()
    want = plain(x, EDGES, PAIRS)
    for options in ({"alpha": 0.0}, {"rounds": 0}):
        other = NCNC(5, 16, **options).double()
        other.load_state_dict(plain.state_dict())
        assert torch.equal(other(x, EDGES, PAIRS), want)
    full = NCNC(5, 16, offset=0.0).double()
    full.load_state_dict(plain.state_dict())
    assert not torch.allclose(full(x, EDGES, PAIRS), want, atol=1e-3)


@pytest.mark.fact("ncn", 4)
@pytest.mark.parametrize("kind", [NCN, NCNC])
def test_scores_are_symmetric(kind):
    torch.manual_seed(0)
    network = kind(5, 16).double().eval()
    torch.testing.assert_close(network(features(), EDGES, PAIRS), network(features(), EDGES, PAIRS.flip(0)))


def test_completion_against_a_naive_loop():
    torch.manual_seed(0)
    network, x = NCNC(5, 16, rounds=1, offset=0.0).double().eval(), features()
    h = network.encoder(x, EDGES)
    nodes, neighbours = h + network.node(h), Neighbours(EDGES, 34)

    def plain(a, b):
        return NCN.score(network, h, nodes, neighbours, torch.tensor([[a], [b]]))[0]

    for i, j in ((0, 33), (4, 10), (0, 1)):
        c = torch.zeros(16, dtype=torch.float64)
        for u in set(KARATE[i]) | set(KARATE[j]):
            if u in KARATE[i] and u in KARATE[j]:
                c = c + nodes[u]
            elif u not in (i, j):
                q = torch.sigmoid(5 * plain(u, j if u in KARATE[i] else i))
                c = c + 0.5 * q / (0.5 * q + 1 - q) * nodes[u]
        pair = torch.tensor([[i], [j]])
        torch.testing.assert_close(network(x, EDGES, pair), network.join(h, c[None], pair))


def test_samples_are_random_while_training_and_as_many_as_asked_for():
    torch.manual_seed(0)
    network = NCNC(5, 16, samples=2, eval_samples=3)
    found, pairs = Neighbours(EDGES, 34).only(torch.tensor([[0, 33], [9, 12]]))[0], torch.tensor([9, 12])
    for mode, most in ((True, 2), (False, 3)):
        pair, _ = network.train(mode).sampled(found, pairs)
        assert torch.bincount(pair).tolist() == [most, most]
    draws = {tuple(network.train().sampled(found, pairs)[1].tolist()) for _ in range(10)}
    assert len(draws) > 1
    logit = torch.tensor([3.0], requires_grad=True)
    torch.testing.assert_close(network.probability(logit), torch.tensor([1 / 3]))  # q = 1/2, prior 1/2


def test_it_learns_links_that_it_does_not_see():
    graph = from_networkx(nx.powerlaw_cluster_graph(80, 4, 0.9, seed=0)).edge_index
    split = split_links(graph, 80, 0.05, 0.2)
    x = torch.cat([torch.ones(80, 1), torch.bincount(split.edge_index[0], minlength=80)[:, None] / 10.0], 1)
    torch.manual_seed(0)
    network = fit_links(NCN(2, 16), x, split.edge_index, epochs=15, batch_size=64)
    yes, no = (score_pairs(network, x, split.edge_index, pairs, 7) for pairs in split.test)
    assert float((yes[:, None] > no).double().mean()) > 0.7  # AUC
    assert not network.training


def test_mistakes():
    with value_error("rounds must be 0 or more"):
        NCNC(5, rounds=-1)
    with value_error("depth must be 0 or more"):
        NCN(5, depth=-1)
    with value_error("no links to learn from"):
        fit_links(NCN(5, 4), torch.ones(3, 5), torch.zeros(2, 0, dtype=torch.int64))
    with value_error("node 9"):
        NCN(5, 4)(torch.ones(6, 5), CYCLE, torch.tensor([[9], [0]]))

"""Training of hypergraph networks without labels."""

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from tests.typecheck import value_error
from ziggurat.data.batch import GraphBatch
from ziggurat.data.feeds import GraphLoader
from ziggurat.graphs.hypergraphs.network import HypergraphNetwork
from ziggurat.learning.probes import linear_probe
from ziggurat.learning.selfsup.hypergraph import HyperedgeFilling, HypergraphContrast, hide_members
from ziggurat.nn.fitting import fit
from ziggurat.nn.losses.info_nce import info_nce


def planted(nodes=60, hyperedges=90, seed=0):
    """Three groups of nodes, hyperedges of four inside a group, features that say little of it."""
    g = torch.Generator().manual_seed(seed)
    group = torch.arange(nodes) % 3
    own = torch.randint(3, (hyperedges,), generator=g)
    members = torch.stack([torch.randperm(nodes // 3, generator=g)[:4] * 3 + k for k in own.tolist()])
    index = torch.stack([members.flatten(), torch.arange(hyperedges).repeat_interleave(4)])
    x = torch.randn(nodes, 12, generator=g) + 0.5 * torch.nn.functional.one_hot(group, 12)
    return GraphBatch((x, index, None), group, torch.arange(nodes)), group


def network():
    torch.manual_seed(0)
    return HypergraphNetwork(12, 3, "unigcn", width=16, dropout=0.0)


def test_info_nce_is_the_mean_of_two_cross_entropies():
    g = torch.Generator().manual_seed(0)
    one, two = torch.randn(5, 4, generator=g), torch.randn(5, 4, generator=g)
    scores = normalize(one, dim=1) @ normalize(two, dim=1).T / 0.3
    want = (cross_entropy(scores, torch.arange(5)) + cross_entropy(scores.T, torch.arange(5))) / 2
    torch.testing.assert_close(info_nce(one, two, 0.3).mean(), want)


def test_one_member_of_each_hyperedge_of_two_or_more_is_hidden_each_as_often():
    index = torch.tensor([[0, 1, 2, 3, 4, 2, 5], [0, 0, 0, 1, 1, 2, 0]])
    counts = torch.zeros(6)
    for seed in range(2000):
        torch.manual_seed(seed)
        left, edges, hidden = hide_members(index, 3)
        assert sorted(edges.tolist()) == [0, 1] and int(left.sum()) == 5 and bool(left[5])
        gone = index[:, ~left]
        assert {tuple(p) for p in gone.T.tolist()} == set(zip(hidden.tolist(), edges.tolist(), strict=True))
        counts[hidden] += 1
    assert counts[[0, 1, 2, 5]].tolist() == pytest.approx([500] * 4, abs=100)
    assert counts[[3, 4]].tolist() == pytest.approx([1000] * 2, abs=110)


@pytest.mark.parametrize("make", [HypergraphContrast, HyperedgeFilling])
def test_training_without_labels_finds_the_groups(make):
    batch, group = planted()
    learner = make(network(), lr=0.01)
    untrained = learner.eval().represent(*batch.inputs).detach()
    fit(learner, GraphLoader(batch), steps=60)
    vectors, train = learner.represent(*batch.inputs).detach(), torch.arange(60) < 15
    scores = [
        linear_probe().fit(v[train].numpy(), group[train].numpy()).score(v[~train].numpy(), group[~train].numpy())
        for v in (untrained, vectors)
    ]
    assert scores[1] > 0.9 and scores[1] >= scores[0]


def test_the_terms_are_those_asked_for_and_finite():
    batch, _ = planted()
    terms = HypergraphContrast(network()).losses(batch)
    assert set(terms) == {"nodes", "groups", "memberships"} and all(t.isfinite() and t > 0 for t in terms.values())
    assert set(HypergraphContrast(network(), groups=0, memberships=0).losses(batch)) == {"nodes"}


def test_mistakes_are_named():
    with value_error("must be in"):
        HypergraphContrast(network(), drop_features=1.0)
    with value_error("temperature must be above 0"):
        HypergraphContrast(network(), temperature=0.0)
    with value_error("negatives must be 1 or more"):
        HyperedgeFilling(network(), negatives=0)
    alone = GraphBatch((torch.ones(3, 12), torch.tensor([[0, 1, 2], [0, 1, 2]]), None), torch.zeros(3), torch.arange(3))
    with value_error("none can be filled"):
        HyperedgeFilling(network()).losses(alone)

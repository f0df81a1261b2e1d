import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, SimpleConv

from tests.typecheck import value_error
from ziggurat.data.graphs.attacks import dice
from ziggurat.data.graphs.generators import planted, stochastic_blocks
from ziggurat.graphs.propagation import gcn_norm
from ziggurat.graphs.sparse_operator import sparse_operator
from ziggurat.learning.robust.stable import (
    STABLE,
    AdvancedGCNConv,
    Contrast,
    StructureRefiner,
    advanced_norm,
    feature_jaccard,
    refine,
    restored,
)
from ziggurat.testing.examples import ring_graph


def dense(edges, weights, nodes):
    return torch.zeros(nodes, nodes, dtype=weights.dtype).index_put((edges[1], edges[0]), weights, accumulate=True)


def blocks(seed=0):
    """Three classes with words of their own, and masks."""
    edges, y = stochastic_blocks([40] * 3, planted(0.12, 0.004, 3), seed)
    g = torch.Generator().manual_seed(seed)
    own = torch.nn.functional.one_hot(y, 3).repeat_interleave(20, 1) > 0
    x = (torch.rand(120, 60, generator=g) < torch.where(own, 0.35, 0.05)).float()
    part = torch.arange(120) % 10
    return Data(x=x, edge_index=edges, y=y, train_mask=part == 0, val_mask=part == 1, test_mask=part > 1)


@pytest.mark.fact("stable", 1)
@pytest.mark.parametrize("exponent", [0.0, 0.3, 0.6, 2.0])
def test_rows_of_the_propagation_sum_to_one(exponent):
    edges = ring_graph().edge_index
    p = dense(*advanced_norm(edges, None, 12, exponent, torch.float64), 12)
    torch.testing.assert_close(p.sum(1), torch.ones(12, dtype=torch.float64))
    a = dense(edges, torch.ones(edges.shape[1], dtype=torch.float64), 12) + torch.eye(12)
    d = a.sum(1)
    raw = (d[:, None] * d) ** exponent * a
    torch.testing.assert_close(p, raw / raw.sum(1, keepdim=True))


@pytest.mark.fact("stable", 1)
def test_special_exponents_are_the_mean_and_gcn():
    data = ring_graph()
    x, edges = data.x.double(), data.edge_index
    mean, gcn, peer = AdvancedGCNConv(8, 3, 0.0).double(), AdvancedGCNConv(8, 3, -0.5).double(), GCNConv(8, 3).double()
    loops = torch.arange(12).expand(2, -1)
    average = SimpleConv(aggr="mean")(mean.linear(x), torch.cat([edges, loops], 1))
    torch.testing.assert_close(mean(x, edges), average + mean.bias)
    peer.lin.load_state_dict(gcn.linear.state_dict())
    torch.testing.assert_close(gcn(x, edges), peer(x, edges), atol=1e-5, rtol=0)


@pytest.mark.fact(
    "stable",
    2,
    corrected="the values of both summaries are added before the loss, so it is DGI's loss of twice the value",
)
def test_without_restoring_the_views_are_the_clean_graph_and_the_loss_is_that_of_dgi():
    data = ring_graph()
    x, edges = data.x, data.edge_index
    kept, removed = edges[:, 4:], edges[:, :4]
    assert torch.equal(restored(kept, removed, 12, 0.0, seed=0), kept)
    clean = sparse_operator(*gcn_norm(kept, None, 12), 12)
    model, order = Contrast(8, 6), torch.randperm(12)
    h, shuffled = model(x, clean), model(x[order], clean)
    summary = h.mean(0).sigmoid()
    values = torch.cat([h @ model.bilinear @ summary, shuffled @ model.bilinear @ summary])
    one = torch.cat(model.logits(x, clean, (clean,), order))
    torch.testing.assert_close(one, values)
    want = binary_cross_entropy_with_logits(2 * values, (torch.arange(24) < 12).float())
    torch.testing.assert_close(model.loss(x, clean, (clean, clean), order), want)


@pytest.mark.fact("stable", 3)
def test_without_pruning_and_neighbours_the_graph_stays():
    edges = ring_graph().edge_index
    assert torch.equal(refine(torch.randn(12, 5), edges, -1.0, 0), edges)
    data = blocks()
    refiner = StructureRefiner(width=8, threshold=-1.0, neighbours=0, steps=5).fit(data)
    assert torch.equal(refiner.edge_index_, data.edge_index)


@pytest.mark.fact("stable", 4)
@pytest.mark.parametrize("neighbours", [0, 1, 3])
def test_pruning_only_removes_and_neighbours_only_add_a_few(neighbours):
    data = blocks()
    h = torch.randn(120, 6)
    unit = torch.nn.functional.normalize(h, dim=1)
    before = {tuple(e) for e in data.edge_index.T.tolist()}
    pruned = {tuple(e) for e in refine(h, data.edge_index, 0.2, 0).T.tolist()}
    assert pruned < before and all(float(unit[u] @ unit[v]) > 0.2 for u, v in pruned)
    refined = refine(h, data.edge_index, 0.2, neighbours, block=50)
    after = {tuple(e) for e in refined.T.tolist()}
    assert len(after) == refined.shape[1] and pruned <= after  # nothing twice
    new = after - pruned
    assert all(u != v and (v, u) in new for u, v in new) and len(new) <= 2 * neighbours * 120
    degree = torch.bincount(torch.tensor(sorted(pruned))[:, 1], minlength=120)
    assert all(degree[u] > 1 or degree[v] > 1 for u, v in new)
    assert torch.equal(refine(h, data.edge_index, 0.2, neighbours), refined)  # whatever the blocks are


def test_jaccard_of_features():
    x = torch.tensor([[1.0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [2, 3, 0, 0]])
    got = feature_jaccard(x, torch.tensor([[0, 0, 2, 0, 2], [1, 3, 0, 0, 2]]))
    torch.testing.assert_close(got, torch.tensor([1 / 3, 1.0, 0.0, 1.0, 0.0]))


def test_restores_a_share_of_the_pairs_in_both_directions():
    pairs = torch.stack([torch.arange(10), torch.arange(10) + 10])
    removed = torch.cat([pairs, pairs.flip(0)], 1)
    back = restored(torch.zeros(2, 0, dtype=torch.int64), removed, 20, 0.2, seed=1)
    assert back.shape == (2, 4) and {tuple(e) for e in back.T.tolist()} == {tuple(e) for e in back.flip(0).T.tolist()}
    assert not torch.equal(back, restored(back[:, :0], removed, 20, 0.2, seed=2))


def test_repairs_a_poisoned_graph():
    data = blocks()
    clean = data.edge_index.shape[1]
    data.edge_index = dice(data.edge_index, data.y, 0, clean // 4)
    model = STABLE(width=32, threshold=0.3, neighbours=3, contrast_steps=60, steps=60).fit(data)
    edges, h = StructureRefiner(width=32, threshold=0.3, neighbours=3, steps=60).fit_transform(data.x, data.edge_index)
    assert torch.equal(edges, model.refiner_.edge_index_) and h.shape == (120, 32)
    pruned = refine(h, data.edge_index, 0.3, 0)
    gone = ~torch.isin(data.edge_index[0] * 120 + data.edge_index[1], pruned[0] * 120 + pruned[1])
    assert gone[clean:].float().mean() > 2 * gone[:clean].float().mean()
    assert (model.predict(data) == data.y.numpy())[data.test_mask].mean() > 0.75


def test_labels_outside_the_masks_are_not_read():
    data, other = blocks(), blocks()
    other.y = torch.where(other.test_mask, (other.y + 1) % 3, other.y)
    options = {"width": 8, "contrast_steps": 5, "steps": 10}
    assert (STABLE(**options).fit(data).predict_proba() == STABLE(**options).fit(other).predict_proba()).all()


def test_mistakes_are_named():
    data = blocks()
    with value_error("restore must"):
        StructureRefiner(restore=2.0).fit(data)
    with value_error("fit it again"):
        STABLE(width=8, contrast_steps=2, steps=2).fit(data).predict(ring_graph())
    data.x[0] = torch.inf
    with value_error("not finite"):
        StructureRefiner().fit(data)

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from tests.graphs.heterogeneous.test_metapaths import library
from tests.typecheck import value_error
from ziggurat.data.batch import GraphBatch
from ziggurat.data.feeds import GraphLoader
from ziggurat.graphs.heterogeneous.metapaths import meta_graph
from ziggurat.learning.selfsup.meow import (
    MEOW,
    AdaMEOW,
    MetaPathViews,
    clusterings,
    hard_weights,
    prototype_loss,
    weighted_info_nce,
)
from ziggurat.nn.fitting import fit

PATHS = [("paper", "author", "paper"), ("paper", "venue", "paper")]


def unit(rows=8, width=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, width, generator=g, dtype=torch.float64), dim=1)


def batch():
    graph = meta_graph(library(), PATHS)
    return GraphBatch((graph,), torch.zeros(12, dtype=torch.int64), torch.arange(12))


def network(**options):
    torch.manual_seed(0)
    return MetaPathViews(5, [[4], [-3]], 8, **options)


@pytest.mark.fact("meow", 1)
def test_equal_weights_are_info_nce():
    f, c = unit(), unit(seed=1)
    got = weighted_info_nce(f, c, torch.ones(8, 8).double(), 0.3)
    torch.testing.assert_close(got.mean(), cross_entropy(f @ c.T / 0.3, torch.arange(8)))


@pytest.mark.fact("meow", 2)
def test_the_gradient_of_a_negative_follows_its_weight():
    g = torch.Generator().manual_seed(0)
    w = torch.rand(8, 8, generator=g, dtype=torch.float64).masked_fill(torch.rand(8, 8, generator=g) < 0.4, 0)
    w = w.index_put((torch.arange(8), (torch.arange(8) + 1) % 8), torch.ones((), dtype=torch.float64))
    # f = I makes the scores of row i the logits themselves: s_ij = c_ji
    logits = torch.randn(8, 8, generator=g, dtype=torch.float64).requires_grad_()
    loss = weighted_info_nce(torch.eye(8, dtype=torch.float64), logits.T, w, 1.0)
    gradient = torch.autograd.grad(loss.sum(), logits)[0]
    full = w.clone().fill_diagonal_(1)
    want = full * logits.exp() / (full * logits.exp()).sum(1, keepdim=True) - torch.eye(8)
    torch.testing.assert_close(gradient, want.detach())
    off = ~torch.eye(8, dtype=torch.bool)
    assert not gradient[(w == 0) & off].any()


@pytest.mark.fact("meow", 3)
def test_limits_of_the_hard_weights():
    f, c = unit(), unit(seed=1)
    assert torch.equal(hard_weights(clusterings(f, [8])), 1 - torch.eye(8))
    one = hard_weights(clusterings(f, [1]))
    assert not one.any()
    with value_error("more clusters than one"):
        weighted_info_nce(f, c, one.double())


@pytest.mark.fact("meow", 5)
def test_the_official_form_can_be_negative():
    f = torch.eye(4, dtype=torch.float64)
    w = torch.ones(4, 4, dtype=torch.float64)
    assert (weighted_info_nce(f, f, w, 0.1, keep_positive=False) < 0).all()
    for seed in range(5):
        assert (weighted_info_nce(unit(seed=seed), unit(seed=seed + 9), torch.rand(8, 8).double() + 0.1) >= 0).all()


def test_the_loss_of_prototypes_against_a_loop():
    c, f, labels = unit(), unit(seed=1), torch.tensor([0, 0, 1, 1, 1, 2, 2, 2])
    centres = torch.stack([normalize(f[labels == k].mean(0), dim=0) for k in range(3)])
    phi = []
    for k in range(3):
        own = f[labels == k]
        phi.append(float((own - centres[k]).norm(dim=1).sum()) / (len(own) * math.log(len(own) + 10)))
    phi = 0.5 * torch.tensor(phi, dtype=torch.float64) / (sum(phi) / 3)
    want = cross_entropy(c @ centres.T / phi, labels, reduction="none")
    torch.testing.assert_close(prototype_loss(c, f, labels, 0.5), want)


@pytest.mark.parametrize("kind", ["meow", "ada", "plain"])
def test_learns(kind):
    net = network()
    if kind == "ada":
        learner = AdaMEOW(net, 8)
    else:
        learner = MEOW(net, 8, (3, 5)) if kind == "meow" else MEOW(net, 8, (), 0.0)
    one = batch()
    terms = learner.losses(one)
    assert set(terms) == ({"info", "proto"} if kind == "meow" else {"info"})
    learner.total(terms, one).backward()
    dead = [name for name, p in learner.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not dead
    before = float(learner.eval().total(learner.losses(one), one).detach())
    fit(learner, GraphLoader(one), steps=30)
    assert float(learner.total(learner.losses(one), one).detach()) < before
    with torch.no_grad():
        assert torch.equal(learner.represent(*one.inputs), learner.represent(*one.inputs))
        assert learner.represent(*one.inputs).shape == (12, 8)


def test_weights_of_the_adaptive_form():
    learner, f, c = AdaMEOW(network(), 5).double(), unit(), unit(seed=1)
    w = learner.weights(f, c)
    torch.testing.assert_close(w.mean(1), torch.ones(8, dtype=torch.float64))
    learner.normalize_weights = False
    alone = learner.last(learner.first(f[2] + c[3]).tanh()).sigmoid()
    torch.testing.assert_close(learner.weights(f, c)[2, 3], alone[0])


def test_without_contexts_the_nodes_on_the_way_do_not_matter():
    (graph,) = batch().inputs
    changed = graph._replace(contexts=tuple(tuple(c._replace(mean=0 * c.mean) for c in p) for p in graph.contexts))
    with torch.no_grad():
        net = network(use_contexts=False).eval()
        assert torch.equal(net.fine(graph), net.fine(changed))
        net = network().eval()
        assert not torch.equal(net.fine(graph), net.fine(changed))


def test_mistakes():
    with value_error("prototypes need some"):
        MEOW(network(), 8, ())
    with value_error("clusters must be 2 or more"):
        MEOW(network(), 8, (1,))

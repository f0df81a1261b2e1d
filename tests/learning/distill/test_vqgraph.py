import math

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from tests.typecheck import value_error
from ziggurat.data.feeds import feed
from ziggurat.learning.distill.vqgraph import (
    GraphTokenizer,
    TokenizerTraining,
    VQGraph,
    edge_loss,
    similarities,
)
from ziggurat.nn.fitting import fit
from ziggurat.nn.mlp import MLP
from ziggurat.nn.operators.vector_quantizer import VectorQuantizer
from ziggurat.testing import ring_graph


def unit(x):
    return nn.functional.normalize(x, dim=-1)


def kl(p, q):
    return (p * (p.log() - q.log())).sum(1)


def pair():
    torch.manual_seed(0)
    return MLP(8, 3, (16,)), GraphTokenizer(8, 3, dim=12, codes=10)


@pytest.mark.fact("vqgraph", 1)
def test_gradients_pass_straight_through_and_only_averages_move_the_codebook():
    torch.manual_seed(0)
    quantizer, x = VectorQuantizer(4, 6), torch.randn(9, 4, requires_grad=True)
    found = quantizer(x)
    torch.testing.assert_close(found.values, quantizer.codebook[found.codes])
    assert torch.equal(found.codes, torch.stack([unit(row) @ quantizer.codebook.T for row in x]).argmax(1))
    given = torch.randn(9, 4)
    assert torch.equal(torch.autograd.grad(found.values, x, given)[0], given)
    assert not list(quantizer.parameters()) and not quantizer.codebook.requires_grad
    before = quantizer.codebook.clone()
    quantizer(x).commitment.backward()
    assert torch.equal(quantizer.codebook, before)
    quantizer.update(x.detach())
    assert not torch.equal(quantizer.codebook, before)


@pytest.mark.fact("vqgraph", 2)
@pytest.mark.parametrize("decay", [0.0, 0.8])
def test_the_moving_average_of_the_codebook(decay):
    torch.manual_seed(0)
    quantizer, x = VectorQuantizer(3, 8, decay).double(), torch.randn(6, 3).double()
    old, codes = quantizer.codebook.clone(), quantizer(x).codes
    quantizer.update(x)
    assert len(codes.unique()) < 8
    for k in range(8):
        members = unit(x[codes == k])
        want = unit(decay * old[k] + (1 - decay) * unit(members.mean(0))) if len(members) else old[k]
        torch.testing.assert_close(quantizer.codebook[k], want)
        assert decay or not len(members) or torch.allclose(quantizer.codebook[k], unit(members.mean(0)))


@pytest.mark.fact("vqgraph", 3)
def test_limits_of_the_temperature():
    torch.manual_seed(0)
    teacher = GraphTokenizer(8, 3, dim=12, codes=10, dropout=0).double()
    graph = ring_graph()
    hidden = teacher.encode(graph.x.double(), graph.edge_index).detach()
    for kind in ("cosine", "euclidean"):
        soft = teacher.assignments(hidden, 4.0, kind)
        torch.testing.assert_close(soft.sum(1), torch.ones(12).double())
        assert (soft > 0).all()
        flat = teacher.assignments(hidden, 1e9, kind)
        torch.testing.assert_close(flat, torch.full((12, 10), 0.1).double())
        other = teacher.assignments(torch.randn(12, 12).double(), 1e9, kind)
        assert kl(flat, other).abs().max() < 1e-12
    hard = teacher.assignments(hidden, 1e-6)
    torch.testing.assert_close(hard, nn.functional.one_hot(teacher.quantizer.codes_of(hidden), 10).double())


@pytest.mark.fact("vqgraph", 4)
def test_the_cosine_alone_is_nearly_uniform():
    assert math.exp(0.5) == pytest.approx(1.65, abs=0.005)
    book = unit(torch.randn(50, 4))
    book = torch.cat([book, -book])
    for scale, most in ((1.0, math.exp(0.5)), (10.0, math.exp(5.0))):
        soft = (similarities(book, book, scale=scale) / 4).softmax(1)
        ratio = soft.max(1).values / soft.min(1).values
        torch.testing.assert_close(ratio, torch.full((100,), most), rtol=1e-4, atol=0.0)


@pytest.mark.fact("vqgraph", 5)
def test_equal_surroundings_have_equal_codes():
    """Nodes 0 and 4 have one neighbour of degree two; that neighbour's other neighbour is another one, two hops away."""
    torch.manual_seed(0)
    teacher = GraphTokenizer(3, 2, dim=6, codes=30, dropout=0).double()
    edges = torch.tensor([[0, 1, 1, 2, 4, 5, 5, 6], [1, 0, 2, 1, 5, 4, 6, 5]])
    x = torch.randn(7, 3).double()
    x[4], x[5] = x[0], x[1]
    tokens = teacher.tokenize(x, edges)
    torch.testing.assert_close(tokens.hidden[4], tokens.hidden[0])
    assert tokens.quantized.codes[4] == tokens.quantized.codes[0]
    assert not torch.allclose(tokens.hidden[5], tokens.hidden[1])


def test_losses_of_the_student_by_hand():
    student, teacher = pair()
    graph = ring_graph()
    learner = VQGraph(student, teacher, weight=0.5).eval()
    batch = learner.feed.prepare(graph)
    terms = learner.losses(batch)
    logits = teacher.eval()(graph.x, graph.edge_index)
    torch.testing.assert_close(terms["soft"], kl(logits.softmax(1), student(graph.x).softmax(1)).mean())
    book, hidden = teacher.quantizer.codebook, teacher.encode(graph.x, graph.edge_index)
    seen = learner.to_codes(student.forward_features(graph.x)[-1])
    high, low = ((10 * unit(v) @ book.T / 4).softmax(1) for v in (hidden, seen))
    torch.testing.assert_close(terms["codes"], 0.5 * 16 * kl(high, low).mean())
    assert set(VQGraph(student, teacher, weight=0.0).losses(batch)) == {"label", "soft"}, "GLNN"


def test_links_are_reconstructed_between_the_drawn_nodes():
    graph, e = ring_graph(), torch.randn(12, 5)
    nodes = torch.tensor([3, 7, 0, 11, 4])
    linked = torch.zeros(12, 12)
    linked[tuple(graph.edge_index)] = 1
    products = (e @ e.T)[nodes][:, nodes]
    scaled = (products - products.min()) / (products.max() - products.min())
    want = ((scaled - linked[nodes][:, nodes]) ** 2).mean().sqrt()
    torch.testing.assert_close(edge_loss(e, graph.edge_index, nodes), want)


def test_the_student_needs_no_graph_and_leaves_the_codebook():
    student, teacher = pair()
    graph = ring_graph()
    training = TokenizerTraining(teacher)
    fit(training, feed(graph, training.feed), steps=30)
    assert bool(teacher.quantizer.started)
    book = teacher.quantizer.codebook.clone()
    learner = VQGraph(student, teacher)
    fit(learner, feed(graph, learner.feed), steps=30)
    assert torch.equal(teacher.quantizer.codebook, book)
    torch.testing.assert_close(learner.predict(graph.x[:3]), student(graph.x)[:3])


def test_the_codebook_starts_where_the_vectors_are():
    quantizer, x = VectorQuantizer(3, 10), torch.randn(4, 3)
    quantizer.start(x)
    cosine = quantizer.codebook @ unit(x).T
    torch.testing.assert_close(cosine.max(1).values, torch.ones(10))
    assert (cosine.argmax(1).bincount() >= 2).all()


def test_width_of_the_official_code_and_several_graphs():
    assert GraphTokenizer(8, 3, dim=None).num_features == 8
    _, teacher = pair()
    graph = ring_graph()
    want = teacher.eval()(graph.x, graph.edge_index).mean(0, keepdim=True)
    both = Data(x=graph.x, edge_index=graph.edge_index)
    found = teacher(both.x, both.edge_index, None, torch.zeros(12, dtype=torch.int64))
    torch.testing.assert_close(found, want)


def test_mistakes_are_named():
    student, teacher = pair()
    with value_error("dim and codes"):
        VectorQuantizer(4, 0)
    with value_error("decay must be"):
        VectorQuantizer(4, 2, 1.0)
    with value_error("weight must not be negative"):
        VQGraph(student, teacher, weight=-1.0)
    with value_error("block must be 1"):
        TokenizerTraining(teacher, block=0)
    with value_error("'cosine' or 'euclidean'"):
        similarities(torch.ones(2, 3), torch.ones(2, 3), "dot")

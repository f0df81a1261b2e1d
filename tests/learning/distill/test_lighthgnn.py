import pytest
import torch
from torch.nn.functional import kl_div

from tests.typecheck import value_error
from ziggurat.data.feeds import feed
from ziggurat.graphs.hypergraphs.from_graph import graph_hyperedges
from ziggurat.graphs.hypergraphs.hgnn import HGNN
from ziggurat.learning.distill.lighthgnn import LightHGNN, LightHGNNPlus, entropy, reliability, topology_score
from ziggurat.learning.distill.soft_targets import SoftTargets, kl_to_soft, soft_labels
from ziggurat.nn.fitting import fit
from ziggurat.nn.mlp import MLP
from ziggurat.testing import ring_graph
from ziggurat.testing.examples import example_hyperedges


def hypergraph():
    data = ring_graph()
    data.hyperedge_index = example_hyperedges()
    return data


def learner(kind=LightHGNN, lam=0.5):
    torch.manual_seed(0)
    return kind(MLP(8, 3, (16,)), HGNN(8, 3), lam)


@pytest.mark.fact("lighthgnn", 1)
def test_the_prediction_knows_no_hypergraph():
    light, data = learner(LightHGNNPlus), hypergraph()
    fit(light, feed(data, light.feed), steps=5)
    before = light.predict(data.x)
    assert torch.equal(before, light.network(data.x))
    data.hyperedge_index = data.hyperedge_index[:, :3]
    assert torch.equal(light.predict(data.x), before)
    torch.testing.assert_close(light.predict(data.x[4:6]), before[4:6])


@pytest.mark.fact("lighthgnn", 2)
def test_reliability_of_hyperedges():
    index = example_hyperedges()
    before, after = torch.rand(12), torch.rand(12)
    rho = reliability(before, after, index)
    delta = torch.stack([(after - before)[index[0, index[1] == e]].mean().abs() for e in range(6)])
    torch.testing.assert_close(rho, 1 - delta / delta.max())
    assert rho.min() == 0 and rho.max() <= 1
    assert reliability(before, before, index).tolist() == [1] * 6
    batch = learner().feed.prepare(hypergraph())
    assert batch.reliability.min() == 0 and batch.reliability.max() <= 1


@pytest.mark.fact("lighthgnn", 3)
def test_singletons_give_the_loss_of_their_nodes():
    light = learner(LightHGNNPlus, lam=0.0)
    batch = light.feed.prepare(hypergraph())
    nodes = torch.tensor([3, 7, 8])
    batch.hyperedge_index, batch.reliability = torch.stack([nodes, torch.arange(3)]), torch.ones(3)
    logits = light.network(*batch.inputs)
    want = kl_to_soft(batch.soft[nodes], logits[nodes].log_softmax(1)).mean()
    torch.testing.assert_close(light.terms(logits, batch)["hyperedge"], want)


@pytest.mark.fact("lighthgnn", 4)
def test_the_optimum_is_the_teacher():
    soft = torch.randn(6, 3, dtype=torch.float64).softmax(1)
    logits = soft.log().requires_grad_()
    loss = kl_to_soft(soft, logits.log_softmax(1)).mean()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert abs(float(loss.detach())) < 1e-12 and gradient.abs().max() < 1e-12
    official = kl_div(logits.log_softmax(1), soft, reduction="batchmean", log_target=True)
    (wrong,) = torch.autograd.grad(official, logits)
    assert abs(float(official.detach())) > 0.1 and wrong.abs().max() > 0.01
    zeros = torch.tensor([[1.0, 0, 0]])
    torch.testing.assert_close(kl_to_soft(zeros, torch.zeros(1, 3).log_softmax(1)), torch.tensor([3.0]).log())


def test_losses_and_their_weights():
    data = hypergraph()
    for lam, names in ((0.0, {"soft", "hyperedge"}), (0.3, {"label", "soft", "hyperedge"})):
        light = learner(LightHGNNPlus, lam)
        assert set(light.losses(light.feed.prepare(data))) == names
    light = learner(lam=1.0)
    terms = light.losses(light.feed.prepare(data))
    assert set(terms) == {"label", "soft"} and terms["soft"] == 0


@pytest.mark.parametrize("kind", [LightHGNN, LightHGNNPlus])
def test_the_student_comes_to_agree_with_the_teacher(kind):
    light, data = learner(kind, lam=0.0), hypergraph()
    batch = light.feed.prepare(data)
    before = {name: value.clone() for name, value in light.teacher.state_dict().items()}
    fit(light, feed(data, light.feed), steps=300)
    gap = kl_to_soft(batch.soft, light.predict(data.x).log_softmax(1)).mean()
    assert gap < 0.01
    assert all(torch.equal(before[name], value) for name, value in light.teacher.state_dict().items())


def test_soft_labels_leave_the_teacher_as_it_was():
    teacher, data = HGNN(8, 3).train(), hypergraph()
    soft = soft_labels(teacher, (data.x, data.hyperedge_index), temperature=4.0)
    assert teacher.training and torch.allclose(soft.sum(1), torch.ones(12)) and not soft.requires_grad
    assert (entropy(soft) <= torch.tensor(3.0).log() + 1e-6).all()
    with value_error("need a teacher"):
        SoftTargets().prepare(data)


def test_topology_score():
    index = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1]])
    x = torch.tensor([[0.0, 0], [6, 8], [1, 1], [1, 1]])
    assert float(topology_score(x, index)) == 2.5
    assert float(topology_score(torch.ones(4, 2), index)) == 0


def test_a_graph_is_its_edges_and_neighbourhoods():
    edges = torch.tensor([[0, 1, 1, 1], [1, 0, 2, 1]])
    index = graph_hyperedges(edges, 4)
    sets = [set(index[0, index[1] == e].tolist()) for e in range(int(index[1].max()) + 1)]
    assert sets == [{0, 1}, {1, 2}, {0, 1}, {0, 1, 2}, {1, 2}, {3}]


def test_mistakes_are_named():
    with value_error("lam must be between"):
        learner(lam=1.5)

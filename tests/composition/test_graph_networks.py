"""Every Staged network of graphs of the catalogue, in its tiny form: supervised, as a teacher, and with a rule without backpropagation."""

import pytest
import torch
from torch_geometric.data import Data

from tests.composition.test_backbones import lowered, short
from ziggurat import catalogue
from ziggurat.data.batch import Batch
from ziggurat.data.feeds import feed
from ziggurat.learning.distill.soft_label_distillation import SoftLabelDistillation
from ziggurat.learning.supervised import Supervised
from ziggurat.nn.mlp import MLP
from ziggurat.rules.stagewise import StagewiseMonoForward
from ziggurat.testing.examples import FEATURES, example, example_hyperedges, ring_graph

NODES, MANY = ("graph", "hops", "hypergraph"), ("graphs", "complex")
NETWORKS = {
    path: catalogue.contract(path)["input"]
    for row in (*catalogue.rows().values(), *catalogue.baselines().values())
    for path in row["symbols"]
    if catalogue.contract(path)["contract"] == "staged" and catalogue.contract(path)["input"] in (*NODES, *MANY)
}
OF_NODES = [path for path, kind in NETWORKS.items() if kind in NODES]
LOCAL = [path for path, kind in NETWORKS.items() if kind != "complex"]


def network(path):
    torch.manual_seed(0)
    return catalogue.tiny(path)


def graph(path):
    ring = ring_graph()
    if NETWORKS[path] != "hypergraph":
        return ring
    return Data(x=ring.x, hyperedge_index=example_hyperedges(), y=ring.y, train_mask=ring.train_mask)


def batch_for(path, learner):
    if NETWORKS[path] in NODES:
        return feed(graph(path), learner.feed).one
    return Batch(example(NETWORKS[path], batch=4), torch.arange(4) % 3, torch.arange(4))


@pytest.mark.parametrize("path", NETWORKS, ids=short)
def test_a_supervised_step_lowers_the_loss(path):
    learner = Supervised(network(path)).train()
    assert lowered(learner, batch_for(path, learner))


@pytest.mark.parametrize("path", OF_NODES, ids=short)
def test_a_perceptron_learns_from_it(path):
    torch.manual_seed(0)
    learner = SoftLabelDistillation(MLP(FEATURES, 3, (16,), 0.0), network(path), lam=0.3).train()
    batch = feed(graph(path), learner.feed).one
    assert batch.soft.shape == (12, 3) and lowered(learner, batch)
    assert all(p.grad is None for p in learner.teacher.parameters())


@pytest.mark.parametrize("path", LOCAL, ids=short)
def test_its_stages_learn_alone(path):
    learner = StagewiseMonoForward(network(path), 3).train()
    assert lowered(learner, batch_for(path, learner))

"""Hidden links of a graph as a task: what is hidden, and how an embedding or a network of pairs is trained and judged."""

from __future__ import annotations

import copy
import math
import time
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch_geometric.data import Data

from ziggurat.data.transforms import row_normalize
from ziggurat.graphs.embeddings.node2vec import edge_features
from ziggurat.graphs.link_prediction.fitting import fit_links, score_pairs
from ziggurat.graphs.links import LinkSplit, split_links
from ziggurat.learning.probes import linear_probe
from ziggurat.metrics.links import hits_at_k
from ziggurat.nn.profile import count_parameters
from ziggurat.workflows.budget import Budget
from ziggurat.workflows.methods import Method, Shape, make_embedding, make_network
from ziggurat.workflows.outcome import LINKED, Outcome, Prepared, peak_memory_mb

LINKS, HITS = 1024, 50
"""Links a step; and of how many wrong pairs a right one must be ahead."""


def prepare_links(data: Any, name: str) -> Prepared:
    """A graph with a tenth of its links hidden to choose by and a fifth to measure on, and as many unlinked pairs beside each."""
    if getattr(data, "kind", None) != "graph":
        raise ValueError(f"{name} is no graph, so it has no links to predict.")
    split = split_links(data.edge_index, data.num_nodes, 0.1, 0.2, seed=0)
    hidden = split.valid.positive.shape[1] + split.test.positive.shape[1]
    notes = [f"{data.num_nodes:,} nodes, {split.train.positive.shape[1]:,} links to learn from, {hidden:,} hidden"]
    if data.x is None:
        degree = torch.bincount(split.edge_index[0], minlength=data.num_nodes).float()
        data.x = torch.stack([torch.ones_like(degree), degree.log1p()], 1)
        notes.append("the nodes have no features: they got a constant and the logarithm of their degree")
    elif float(data.x.min()) >= 0:
        data = row_normalize(data)
        notes.append("features are not negative: their rows were made to sum to one")
    shape = Shape("links", (), features=data.x.shape[1])
    return Prepared(data.name, shape, graph=data, links=split, notes=tuple(notes), measures=LINKED)


def train_links(method: Method, data: Prepared, budget: Budget, seed: int) -> Outcome:
    """Fits a method to the links in sight; `accuracy` is the AUC on the hidden ones, `macro_f1` their HR@50."""
    assert data.links is not None
    split, outcome, start = data.links, Outcome(method.text, seed), time.perf_counter()
    if method.contract == "embedding":
        seen = Data(edge_index=split.edge_index, x=data.graph.x, num_nodes=data.graph.num_nodes)
        vectors = np.asarray(make_embedding(method, seed).fit(seen).embedding_, dtype=np.float32)
        outcome.score = "linear_probe"
        scores = probed_pairs(vectors, split, seed)
    else:
        torch.manual_seed(seed)
        network = make_network(method, data.shape)
        inputs = (data.graph.x, split.edge_index)
        epochs, outcome.steps = link_epochs(budget, network, inputs, seed)
        fit_links(network, *inputs, epochs=epochs, batch_size=LINKS, seed=seed)
        outcome.parameters = count_parameters(network)
        scores = [(score_pairs(network, *inputs, yes), score_pairs(network, *inputs, no)) for yes, no in split[2:]]
    outcome.train_seconds = time.perf_counter() - start
    outcome.valid_accuracy, outcome.accuracy = (auc(*pair) for pair in scores)
    outcome.macro_f1 = hits_at_k(*scores[1], HITS)
    outcome.peak_memory_mb = peak_memory_mb()
    return outcome


def auc(yes: Tensor, no: Tensor) -> float:
    """Area under the ROC curve of scores of links and of pairs that are none."""
    truth = torch.cat([torch.ones(len(yes)), torch.zeros(len(no))])
    return float(roc_auc_score(truth, torch.cat([yes, no])))


def probed_pairs(vectors: np.ndarray, split: LinkSplit, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Scores of the validation and test pairs by a logistic regression on products of vectors, its penalty chosen on the former."""
    products = [[edge_features(vectors, pairs.numpy()) for pairs in part] for part in split[1:]]
    x, y = np.concatenate(products[0]), np.repeat([1, 0], [len(part) for part in products[0]])
    best: tuple[float, list[tuple[Tensor, Tensor]]] = (-1.0, [])
    for strength in (0.01, 0.1, 1.0):
        probe = linear_probe(strength, seed).fit(x, y)
        valid, test = (
            (torch.from_numpy(probe.decision_function(yes)), torch.from_numpy(probe.decision_function(no)))
            for yes, no in products[1:]
        )
        if auc(*valid) > best[0]:
            best = auc(*valid), [valid, test]
    return best[1]


def link_epochs(budget: Budget, network: torch.nn.Module, inputs: tuple[Tensor, Tensor], seed: int) -> tuple[int, int]:
    """The budget as epochs of this network over the links in sight, and as steps."""
    steps = math.ceil(inputs[1].shape[1] / 2 / LINKS)
    if budget.unit == "epochs":
        epochs = int(budget.amount)
    elif budget.unit == "steps":
        epochs = max(1, round(budget.amount / steps))
    else:
        trial = copy.deepcopy(network)
        fit_links(trial, *inputs, epochs=1, batch_size=LINKS, seed=seed)
        start = time.perf_counter()
        fit_links(trial, *inputs, epochs=1, batch_size=LINKS, seed=seed)
        epochs = max(1, int(budget.amount / (time.perf_counter() - start)))
    return epochs, epochs * steps

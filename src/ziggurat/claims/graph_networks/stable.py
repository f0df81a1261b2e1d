"""STABLE: embeddings that were taught not to mind suspicious edges repair a poisoned graph better than the features do.

Measured on the largest component of Cora, a random 10/10/80% split. The attack inserts pairs of different
classes, 0, 20 and 40% of the number of edges; it knows all classes, as an attacker may. STABLE (128 units, the contrast at most 100 steps,
k = 5) takes t of 0.1, 0.3 or 0.5, whichever does best on the validation nodes; at 40% so do two arms without one of its parts: the
features in place of the embedding, and a plain GCN in place of the last stage. Against it: GCN on the poisoned graph, and GCN without
the edges of small Jaccard similarity (below 0.01, 0.05 or 0.1, chosen likewise). All classifiers have 16 hidden units, dropout 0.5, weight
decay 5e-4 and 200 full-batch steps of Adam at 0.01, and end in the best step on the validation nodes. Of STABLE's pruning at 40% the
shares of inserted and of true edges that went are counted.

The attack stands in for Mettack, whose poisoned graphs cannot be had; its gradients need all pairs of nodes. With 500 words and 100
steps, as it was first measured, GCN reached 72 to 79 on the clean graph and missed its floor: it was trained too little to compare with.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import normalize
from torch_geometric.data import Data
from torch_geometric.utils import subgraph

from ziggurat.claims.choosing import best_on_validation
from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.graphs.attacks import dice
from ziggurat.data.seeds import generator
from ziggurat.graphs.links import undirected_pairs
from ziggurat.graphs.propagation import components
from ziggurat.learning.robust.stable import AdvancedGCN, StructureRefiner, feature_jaccard, refine, train_classifier
from ziggurat.metrics.finding import Finding, at_least, floor

WIDTH, CONTRAST, STEPS, RATES = 128, 100, 200, (0.0, 0.2, 0.4)
THRESHOLDS, NEIGHBOURS, JACCARDS, EXPONENT = (0.1, 0.3, 0.5), 5, (0.01, 0.05, 0.1), 0.6

published: dict[int, str] = {}
notes = Notes(
    scope="One citation graph and an attack that inserts edges; the paper has four graphs under Mettack, Nettack and random attacks.",
    methodology="One classifier, split, attack and choice on validation nodes for all arms.",
    origin="5, 1 and 1.5 points and the factor of 2 are the specification's.",
    easy="The stages: each one is a function of the one before.",
    hard="The neighbours are looked for in blocks of rows, so that no matrix of all pairs is held.",
)


def largest_component(graph: Data, seed: int) -> Data:
    """The largest component with a random split."""
    part = components(graph.edge_index, len(graph.x))
    nodes = (part == part.bincount().argmax()).nonzero().flatten()
    edges, _ = subgraph(nodes, graph.edge_index, relabel_nodes=True, num_nodes=len(graph.x))
    own = torch.rand(len(nodes), generator=generator(seed, "split"))
    return Data(
        x=graph.x[nodes], edge_index=edges, y=graph.y[nodes],
        train_mask=own < 0.1, val_mask=(own >= 0.1) & (own < 0.2), test_mask=own >= 0.2,
    )  # fmt: skip


def classified(graph: Data, x: torch.Tensor, edges: torch.Tensor, exponent: float, seed: int) -> tuple[float, float]:
    """Accuracy on validation and test nodes in per cent."""
    torch.manual_seed(seed)
    network = AdvancedGCN(x.shape[1], int(graph.y.max()) + 1, exponent=exponent)
    train_classifier(network, x, edges, graph.y, graph, STEPS, seed)
    with torch.no_grad():
        hit = (network(x, edges).argmax(1) == graph.y).double()
    return 100 * float(hit[graph.val_mask].mean()), 100 * float(hit[graph.test_mask].mean())


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Test accuracies by arm and rate, and shares of removed edges."""
    clean = largest_component(run.data("cora"), seed)
    count, true = undirected_pairs(clean.edge_index, len(clean.x)).shape[1], clean.edge_index.shape[1]
    values: dict[str, float] = {}
    for rate in RATES:
        graph, percent = clean.clone(), f"{100 * rate:.0f}"
        graph.edge_index = dice(clean.edge_index, clean.y, 0, round(rate * count), seed)
        x = normalize(graph.x, p=1, dim=1)
        h = torch.from_numpy(StructureRefiner(WIDTH, steps=CONTRAST, random_state=seed).fit(graph).embedding_)
        values[f"gcn_{percent}"] = classified(graph, x, graph.edge_index, -0.5, seed)[1]
        alike = feature_jaccard(graph.x, graph.edge_index)
        jaccard = [classified(graph, x, graph.edge_index[:, alike >= least], -0.5, seed) for least in JACCARDS]
        values[f"jaccard_{percent}"] = best_on_validation(jaccard)[1]
        arms = {"stable": (h, EXPONENT)}
        if rate == max(RATES):
            arms |= {"features": (x, EXPONENT), "plain": (h, -0.5)}
        for arm, (seen, exponent) in arms.items():
            tries = []
            for t in THRESHOLDS:
                refined = refine(seen, graph.edge_index, t, NEIGHBOURS)
                tries.append((*classified(graph, seen, refined, exponent, seed), t))
            best = max(tries, key=lambda row: row[0])
            values[f"{arm}_{percent}"], values[f"threshold_{arm}_{percent}"] = best[1:]
        if rate == max(RATES):
            unit, (source, target) = normalize(h, dim=1), graph.edge_index
            gone = ((unit[source] * unit[target]).sum(1) <= values[f"threshold_stable_{percent}"]).double()
            values["true_removed"], values["inserted_removed"] = float(gone[:true].mean()), float(gone[true:].mean())
    return values


def measure(run: Run) -> Finding:
    """Points of test accuracy, and how many times more of the inserted edges than of the true ones go."""
    rows = run.each_seed(one_seed)
    ratio = rows["inserted_removed"] / np.maximum(rows["true_removed"], 1e-3)
    return Finding(
        clauses=(
            at_least("40% inserted: STABLE − GCN", rows["stable_40"] - rows["gcn_40"], 5.0, "points"),
            at_least("40% inserted: STABLE − GCN-Jaccard", rows["stable_40"] - rows["jaccard_40"], 1.0, "points"),
            at_least("clean: STABLE − GCN", rows["stable_0"] - rows["gcn_0"], -1.5, "points"),
            at_least("share of inserted edges removed / of true ones", ratio, 2.0),
        ),
        floors=(floor("GCN on the clean graph", rows["gcn_0"], 78.0),),
        measurements=rows,
    )

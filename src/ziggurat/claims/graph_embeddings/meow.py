"""MEOW: nodes of a heterogeneous graph are represented better with what lies on meta-paths and with negatives weighted by clusters.

ACM: papers by way of authors (PAP) and of subjects (PSP). Kept are the 40 labelled training papers of each class, the first 200 validation
and the first 500 test papers of HeCo's splits, and the authors and subjects of these. MEOW (k-means with 10 and 30 clusters, prototypes
0.1), AdaMEOW, the same with all weights 1 and no prototypes (plain InfoNCE), and MEOW without contexts: 60 full-batch steps of Adam at
3e-3, width 64, temperature 0.5. Then logistic regression on the frozen vectors with 20 and with 40 labels a class, its penalty chosen on
the validation papers. GCN on the mean of the meta-paths, 64 units, Adam at 0.01, 60 steps, the step chosen in the same way, is trained
on the same labels. Cut for time: the rest of the 4,019 papers (a step works on matrices of all pairs of papers), and DBLP.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from ziggurat.claims.choosing import best_on_validation
from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.batch import GraphBatch
from ziggurat.data.feeds import GraphLoader
from ziggurat.graphs.heterogeneous.metapaths import MetaGraph, meta_graph
from ziggurat.learning.selfsup.meow import MEOW, AdaMEOW, MetaPathViews
from ziggurat.metrics.finding import Finding, at_least, floor
from ziggurat.nn.fitting import fit

PATHS = (("paper", "author", "paper"), ("paper", "subject", "paper"))
VALID, TEST, STEPS, WIDTH, RATES = 200, 500, 60, 64, (20, 40)
RATE, PENALTIES = 3e-3, (0.01, 0.1, 1.0, 10.0)

published: dict[int, str] = {}
notes = Notes(
    scope="A fifth of one of the paper's four graphs, at two of its three label rates.",
    methodology="The same views, width, steps and rate for all arms that learn without labels; the probe's penalty from validation papers.",
    origin="0.5 points and 1 point are the specification's.",
    easy="Papers of one subject are mostly of one class, so that every arm starts high.",
    hard="Small differences on one small graph: half a point is two or three test papers.",
)


def part(run: Run) -> tuple[HeteroData, dict[str, Tensor]]:
    """The papers that are kept with all that they are joined to, and the places of the splits among them."""
    data = run.data("heco_acm")
    paper = data["paper"]
    groups = {"train_20": paper.train_20, "train_40": paper.train_40}
    groups |= {"valid": paper.val_40[:VALID], "test": paper.test_40[:TEST]}
    kept = torch.unique(torch.cat(list(groups.values())))
    small = data.subgraph({"paper": kept})
    for kind in ("author", "subject"):
        used = torch.unique(small["paper", "to", kind].edge_index[1])
        small = small.subgraph({kind: used})
    return small, {name: torch.searchsorted(kept, nodes) for name, nodes in groups.items()}


def macro_f1(truth: Tensor, guess: np.ndarray) -> float:
    """In percent."""
    return 100 * float(f1_score(truth.numpy(), guess, average="macro"))


def probe(vectors: Tensor, y: Tensor, groups: dict[str, Tensor]) -> list[float]:
    """Test macro-F1 of logistic regression on frozen vectors, for each number of labels."""
    found = []
    for rate in RATES:
        train = groups[f"train_{rate}"]
        x = StandardScaler().fit(vectors[train].numpy()).transform(vectors.numpy())
        scores = []
        for penalty in PENALTIES:
            model = LogisticRegression(C=penalty, max_iter=1000).fit(x[train], y[train].numpy())
            guess = {name: model.predict(x[groups[name]]) for name in ("valid", "test")}
            scores.append(tuple(macro_f1(y[groups[name]], guess[name]) for name in ("valid", "test")))
        found.append(best_on_validation(scores)[1])
    return found


class MeanGCN(nn.Module):
    """Two convolutions over the mean of the meta-paths."""

    def __init__(self, in_features: int, classes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(in_features, WIDTH), nn.Linear(WIDTH, classes)
        self.drop = nn.Dropout(0.5)

    def forward(self, graph: MetaGraph) -> Tensor:
        return graph.coarse @ self.second(self.drop((graph.coarse @ self.first(graph.x)).relu()))


def supervised(graph: MetaGraph, y: Tensor, groups: dict[str, Tensor], seed: int) -> list[float]:
    """Test macro-F1 of the GCN at the step that does best on the validation papers, for each number of labels."""
    found = []
    for rate in RATES:
        torch.manual_seed(seed)
        network, train = MeanGCN(graph.x.shape[1], int(y.max()) + 1), groups[f"train_{rate}"]
        optimizer, best = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=5e-4), (-1.0, 0.0)
        for step in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network.train()(graph)[train], y[train]).backward()
            optimizer.step()
            if step % 4 == 3:
                with torch.inference_mode():
                    guess = network.eval()(graph).argmax(1)
                scored = tuple(macro_f1(y[groups[n]], guess[groups[n]].numpy()) for n in ("valid", "test"))
                best = best_on_validation((best, scored))
        found.append(best[1])
    return found


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Macro-F1 of every arm at each number of labels."""
    data, groups = part(run)
    graph, y = meta_graph(data, PATHS), data["paper"].y
    batch = GraphBatch((graph,), y, torch.arange(len(y)))
    kinds = [[c.mean.shape[1] * -1 if c.x is None else c.x.shape[1] for c in path] for path in graph.contexts]
    values = {}
    for arm in run.progress(("meow", "adameow", "plain", "no_contexts"), "arms"):
        torch.manual_seed(seed)
        network = MetaPathViews(graph.x.shape[1], kinds, WIDTH, use_contexts=arm != "no_contexts")
        if arm == "adameow":
            learner: MEOW = AdaMEOW(network, WIDTH, lr=RATE)
        else:
            learner = MEOW(network, WIDTH, (), 0.0, lr=RATE) if arm == "plain" else MEOW(network, WIDTH, lr=RATE)
        fit(learner, GraphLoader(batch), steps=STEPS, seed=seed)
        with torch.no_grad():
            scores = probe(learner.represent(graph), y, groups)
        values |= {f"{arm}_{rate}": score for rate, score in zip(RATES, scores, strict=True)}
    scores = supervised(graph, y, groups, seed)
    return values | {f"gcn_{rate}": score for rate, score in zip(RATES, scores, strict=True)}


def measure(run: Run) -> Finding:
    """Differences of macro-F1 in points, as means over the numbers of labels."""
    rows = run.each_seed(one_seed)

    def mean(arm: str) -> np.ndarray:
        return np.mean([rows[f"{arm}_{rate}"] for rate in RATES], axis=0)

    ours, few = np.maximum(mean("meow"), mean("adameow")), np.maximum(rows["meow_20"], rows["adameow_20"])
    return Finding(
        clauses=(
            at_least("better MEOW − plain InfoNCE", ours - mean("plain"), 0.5, "points"),
            at_least("better MEOW − without contexts", ours - mean("no_contexts"), 0.5, "points"),
            at_least("better MEOW − GCN, 20 labels a class", few - rows["gcn_20"], -1.0, "points"),
        ),
        floors=(floor("plain InfoNCE", mean("plain"), 60.0), floor("GCN, 20 labels", rows["gcn_20"], 60.0)),
        measurements=rows,
    )

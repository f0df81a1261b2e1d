"""MIS by dynamic programming: a comparator that learns from its own rollouts finds larger and larger independent sets.

Measured on Erdős–Rényi graphs of 60 vertices (probability 0.1), Barabási–Albert graphs of 60 (3 links) and greedy traps (three gadgets of
m = 4 … 6), 60 to train and 40 to test of each, with exact optima. Arms: the comparator untrained; trained in ten rounds; and trained on
the pairs of the first round alone, as many steps of Adam (no self-training); one rollout each, and the min-degree greedy and networkx's
approximation. Traps are trained with mixed rollouts: an estimate is at least what the greedy finds. The value is the mean of size /
optimum.

Changed from the specification: a round rolls out 8 roots instead of 40 and keeps 8 steps (16 graphs) and 64 pairs of each, because three
families have to be trained in ten minutes. With 40 updates a round both trained arms were still learning and no different (−0.01 to 0.001
on seed 100), with 160 the comparator's own labels were worth 0.012 and 0.004 on seeds 100 and 101. The first-round arm keeps on learning,
so that only the labels differ, not the steps. Both keep the round whose rollouts of the training graphs leave the most vertices, since
rounds differ by much; no optimum is looked at for it.
"""

from __future__ import annotations

import copy

import networkx as nx
import numpy as np
import torch

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.graphs.greedy_traps import greedy_traps
from ziggurat.data.seeds import derive, generator
from ziggurat.graphs.combinatorial.comparator import MISComparator
from ziggurat.graphs.combinatorial.dense import (
    DenseGraphs,
    dense_graphs,
    greedy_completion,
    largest_independent_set,
)
from ziggurat.graphs.combinatorial.mis_dp import self_train_mis
from ziggurat.graphs.combinatorial.rollouts import by_score, rollout
from ziggurat.metrics.finding import Finding, at_least, floor

TRAIN, TEST, NODES = 60, 40, 60
ROUNDS, ROOTS, STEPS, PAIRS, UPDATES = 10, 8, 8, 64, 160
KINDS = ("er", "ba", "traps")

published: dict[int, str] = {}
notes = Notes(
    scope="Random graphs of 60 vertices and traps of 27 to 39; the paper has social networks and hard instances, 300 epochs on a GPU.",
    methodology="One network and recipe, as many steps and the same choice of the round for both trained arms; one rollout, not completed.",
    origin="0.05, 0.01, 0.05 and 0.93 are the specification's.",
    easy="The recursion: with an exact oracle it finds the optimum of every graph of up to seven vertices.",
    hard="Rounds differ by more than the arms, and no optimum may be looked at to choose among them.",
    why=(
        "chance",
        "All means lie where they should. On Erdős–Rényi graphs seeds differ by twice what is asked for: untrained rollouts already name "
        "the larger of two different optima in most pairs (support), so that labels of later rounds are hardly better than the first ones, "
        "and which round is kept decides.",
    ),
)


def drawn(kind: str, count: int, seed: int, part: str) -> list:
    """Graphs of a family."""
    seeds = [derive(seed, kind, part, i) % 2**31 for i in range(count)]
    if kind == "er":
        return [nx.gnp_random_graph(NODES, 0.1, seed=s) for s in seeds]
    if kind == "ba":
        return [nx.barabasi_albert_graph(NODES, 3, seed=s) for s in seeds]
    return [greedy_traps(4 + i % 3, seed=s) for i, s in enumerate(seeds)]


def undirected(graphs: DenseGraphs) -> list[nx.Graph]:
    """The same graphs for networkx."""
    return [nx.from_numpy_array(a[p][:, p].numpy()) for a, p in zip(*graphs, strict=True)]


def family(kind: str, seed: int) -> dict[str, float]:
    """Mean ratio of each arm to the optimum on one family."""
    train, test = (dense_graphs(drawn(kind, n, seed, part)) for n, part in ((TRAIN, "train"), (TEST, "test")))
    best = np.array([largest_independent_set(a[p][:, p]) for a, p in zip(*test, strict=True)])

    def ratio(comparator: MISComparator) -> float:
        found = rollout(test, by_score(comparator), generator(seed, kind, "test"))
        return float(np.mean(found.sum(1).numpy() / best))

    def trained(rolling: int) -> float:
        made = self_train_mis(
            copy.deepcopy(start), train, ROUNDS, ROOTS, steps=STEPS, pairs=PAIRS, updates=UPDATES,
            mixed=kind == "traps", seed=derive(seed, kind), rolling=rolling,
        )  # fmt: skip
        return ratio(made.eval())

    torch.manual_seed(derive(seed, "comparator"))
    start = MISComparator()
    values = {"random": ratio(start), "first": trained(1), "trained": trained(ROUNDS)}
    values["greedy"] = float(np.mean(greedy_completion(test).sum(1).numpy() / best))
    approximated = [len(nx.approximation.maximum_independent_set(g)) for g in undirected(test)]
    values["networkx"] = float(np.mean(np.array(approximated) / best))
    return {f"{name}_{kind}": value for name, value in values.items()}


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Ratios of all arms on the three families."""
    return {name: value for kind in KINDS for name, value in family(kind, seed).items()}


def measure(run: Run) -> Finding:
    """Differences of ratios to the optimum."""
    rows = run.each_seed(one_seed)
    clauses = []
    for kind, title in (("er", "Erdős–Rényi"), ("ba", "Barabási–Albert")):
        trained = rows[f"trained_{kind}"]
        clauses.append(at_least(f"{title}: trained − untrained", trained - rows[f"random_{kind}"], 0.05))
        clauses.append(at_least(f"{title}: trained − first round alone", trained - rows[f"first_{kind}"], 0.01))
    clauses.append(at_least("traps: trained − greedy", rows["trained_traps"] - rows["greedy_traps"], 0.05))
    overall = np.mean([rows[f"trained_{kind}"] for kind in KINDS], 0)
    clauses.append(at_least("trained, mean of the three families", overall, 0.93))
    return Finding(
        clauses=tuple(clauses),
        floors=(
            floor("greedy, Erdős–Rényi", rows["greedy_er"], 0.9),
            floor("greedy, Barabási–Albert", rows["greedy_ba"], 0.9),
        ),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """Share of pairs of different optima whose label names the larger one, by rollouts of the untrained and of a trained comparator."""
    from ziggurat.graphs.combinatorial.mis_dp import labelled_pairs

    train = dense_graphs(drawn("er", TRAIN, 100, "train"))
    torch.manual_seed(derive(100, "comparator"))
    start, found = MISComparator(), dict[str, float]()
    made = self_train_mis(
        copy.deepcopy(start), train, ROUNDS, ROOTS, steps=STEPS, pairs=PAIRS, updates=UPDATES, seed=derive(100, "er")
    )
    for name, comparator in (("untrained", start), ("trained", made)):
        some = DenseGraphs(train.adjacency[:ROOTS], train.present[:ROOTS])
        draws = generator(100, "support")
        pairs = labelled_pairs(some, by_score(comparator.eval()), 5, STEPS, PAIRS, False, draws)
        right = []
        for root, first, second, label in run.progress(list(zip(*pairs, strict=True)), name):
            one, two = (largest_independent_set(some.adjacency[root][p][:, p]) for p in (first, second))
            if one != two and label[0] != label[1]:
                right.append((one > two) == bool(label[0] > label[1]))
        found[f"right_labels_{name}"] = float(np.mean(right))
    return found

"""Infinitely wide and deep networks are majority votes, nearest neighbours or singular kernels; with α = d they are Bayes-consistent.

Measured on points uniform on the positive orthant of S^d (d = 2, 3), labelled by sign(x_1 − x_2) and flipped with probability 0.15:
the error above Bayes (0.15) on 2,000 test points of the singular kernel with α = d (the limit of `optimal_activation(d)`) from 200, 1,000
and 4,000 training points, against 1-NN (the limit of h_2) and the majority (the limit of ReLU). And the limits themselves: agreement of
the tangent kernel of 100,000 layers with the singular kernel, and of 1,000 ReLU layers with the majority of labels drawn 65 to 35.
Reported: the same family with α = 3d.
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.metrics.finding import Finding, at_least, at_most, floor
from ziggurat.theory.wide_deep_optimal import DeepNTK, SingularKernelClassifier

NOISE, SIZES, TEST = 0.15, (200, 1000, 4000), 2000

published: dict[int, str] = {}
notes = Notes(
    scope="The paper's generator in two dimensions; the paper adds trained finite networks with the optimal activation.",
    methodology="Same training points for every rule; the error of a perfect classifier, 0.15, is taken off.",
    origin="Half the excess of 1-NN and the agreements are the specification's.",
    easy="The limits are explicit: no training is needed.",
    hard="100,000 layers underflow; the recursion runs in logarithms and is tabulated over the correlation.",
)


def sample(n: int, d: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points uniform on the positive orthant of S^d, and noisy labels."""
    x = np.abs(rng.normal(size=(n, d + 1)))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, np.where((x[:, 0] > x[:, 1]) ^ (rng.random(n) < NOISE), 1, -1)


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Excess errors and agreements."""
    rng = np.random.default_rng(seed)
    values: dict[str, float] = {}
    for d in (2, 3):
        test, _ = sample(TEST, d, rng)
        bayes = np.where(test[:, 0] > test[:, 1], 1, -1)

        def excess(said: np.ndarray, bayes: np.ndarray = bayes) -> float:
            # the expected error over the flips: a wrong side costs 1 − 2 · 0.15 more than the Bayes error
            return float((said != bayes).mean()) * (1 - 2 * NOISE)

        for n in SIZES:
            x, y = sample(n, d, rng)
            values[f"optimal_d{d}_n{n}"] = excess(SingularKernelClassifier(float(d)).fit(x, y).predict(test))
            values[f"nearest_d{d}_n{n}"] = excess(KNeighborsClassifier(1).fit(x, y).predict(test))
            values[f"steep_d{d}_n{n}"] = excess(SingularKernelClassifier(3.0 * d).fit(x, y).predict(test))
            values[f"majority_d{d}_n{n}"] = excess(np.full(TEST, 1 if (y == 1).mean() >= 0.5 else -1))
        x, y = sample(200, d, rng)
        deep = DeepNTK(d, depth=100_000).fit(x, y).predict(test)
        values[f"agreement_d{d}"] = float((deep == SingularKernelClassifier(float(d)).fit(x, y).predict(test)).mean())
        y = np.where(rng.random(200) < 0.65, 1, -1)
        relu = DeepNTK("relu", depth=1000).fit(x, y).predict(test)
        values[f"relu_majority_d{d}"] = float((relu == (1 if (y == 1).sum() > 100 else -1)).mean())
    return values


def measure(run: Run) -> Finding:
    """Monotone excess, its ratio to 1-NN, and the agreements."""
    rows = run.each_seed(one_seed)
    clauses = []
    for d in (2, 3):
        first, second, third = (rows[f"optimal_d{d}_n{n}"] for n in SIZES)
        clauses += [
            at_least(f"d = {d}: fall of the excess from 200 to 1,000 points", 100 * (first - second), 0.0, "points"),
            at_least(f"d = {d}: fall of the excess from 1,000 to 4,000 points", 100 * (second - third), 0.0, "points"),
            at_most(f"d = {d}: excess at 4,000 points, α = d / 1-NN", third / rows[f"nearest_d{d}_n4000"], 0.5),
            at_least(f"d = {d}: agreement of 100,000 layers with the limit", 100 * rows[f"agreement_d{d}"], 95.0, "%"),
            at_least(
                f"d = {d}: agreement of 1,000 ReLU layers with the majority",
                100 * rows[f"relu_majority_d{d}"],
                95.0,
                "%",
            ),
        ]
    return Finding(
        clauses=tuple(clauses),
        floors=(floor("1-NN is better than chance at 4,000 points", 0.35 - rows["nearest_d2_n4000"], 0.1),),
        measurements=rows,
    )

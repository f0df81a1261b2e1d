"""How well unseen classes are recognised: means over classes, the generalised setting with its bias, open sets, and hubs.

All take scores (n, C), the higher the better. The harmonic mean H = 2 U S / (U + S) is low when either side is.
W.-L. Chao et al., 2016, arXiv:1605.04253 (the curve and its area); M. Radovanović et al., Hubs in Space, JMLR 2010.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.stats import skew


def per_class_accuracy(predicted: np.ndarray, y: np.ndarray) -> float:
    """Mean over the classes of y of the share of their samples that are right."""
    return float(np.mean([np.mean(predicted[y == c] == c) for c in np.unique(y)]))


def harmonic_mean(u: float, s: float) -> float:
    """2 u s / (u + s), and 0 where one of them is 0."""
    return 2 * u * s / (u + s) if u > 0 and s > 0 else 0.0


class SeenUnseen:
    """The trade of the generalised setting: accuracies of unseen and seen classes for any constant subtracted from seen scores.

    A sample is given to its best seen class while the constant is below its gap (best seen score − best unseen score), and to its best
    unseen class from there on; so all constants follow from one sort.

    Arguments:
        scores: (n, C) over all classes.
        y: rows of the classes.
        seen: which classes were trained on.
    """

    def __init__(
        self, scores: Float[np.ndarray, "n C"], y: Int64[np.ndarray, " n"], seen: Bool[np.ndarray, " C"]
    ) -> None:
        if not seen[y].any() or seen[y].all():
            raise ValueError("the generalised setting needs samples of seen and of unseen classes.")
        best = [np.flatnonzero(part)[scores[:, part].argmax(1)] for part in (seen, ~seen)]
        self.gap = scores[:, seen].max(1) - scores[:, ~seen].max(1)
        self.ours = [seen[y], ~seen[y]]
        self.right = [(b == y) & own for b, own in zip(best, self.ours)]
        counts = np.bincount(y, minlength=len(seen))
        self.weight = [own / counts[y] / len(np.unique(y[own])) for own in self.ours]

    def at(self, constant: float) -> dict[str, float]:
        """U, S and H at one constant."""
        s = float((self.weight[0] * self.right[0])[self.gap > constant].sum())
        u = float((self.weight[1] * self.right[1])[self.gap <= constant].sum())
        return {"U": u, "S": s, "H": harmonic_mean(u, s)}

    def curve(self) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Constants, and U and S at each: one below all gaps, then every gap."""
        order = np.argsort(self.gap, kind="stable")
        constants = np.concatenate([[self.gap[order[0]] - 1], self.gap[order]])
        u = np.concatenate([[0.0], (self.weight[1] * self.right[1])[order].cumsum()])
        lost = np.concatenate([[0.0], (self.weight[0] * self.right[0])[order].cumsum()])
        last = np.append(constants[1:] != constants[:-1], True)  # of equal gaps all go over together
        return constants[last], u[last], (lost[-1] - lost)[last]

    def area(self) -> float:
        """AUSUC, the area below S as a function of U."""
        _, u, s = self.curve()
        return float(np.trapezoid(s, u))

    def best_constant(self) -> float:
        """The constant with the highest H, halfway to the next gap."""
        constants, u, s = self.curve()
        h = np.divide(2 * u * s, u + s, out=np.zeros_like(u), where=u + s > 0)
        i = int(h.argmax())
        return float(constants[i] if i + 1 == len(constants) else (constants[i] + constants[i + 1]) / 2)


def generalised(
    scores: Float[np.ndarray, "n C"], y: Int64[np.ndarray, " n"], seen: Bool[np.ndarray, " C"], constant: float = 0.0
) -> dict[str, float]:
    """U, S, H and AUSUC when seen and unseen classes are candidates; `constant` is subtracted from the seen classes' scores."""
    both = SeenUnseen(scores, y, seen)
    return {**both.at(constant), "AUSUC": both.area()}


def open_set(
    known: Float[np.ndarray, "n C"], y: Int64[np.ndarray, " n"], unknown: Float[np.ndarray, "m C"], threshold: float
) -> dict[str, float]:
    """Rejects what scores less than a threshold everywhere.

    Arguments:
        known: scores of samples of the C classes y.
        unknown: scores of samples of none of them.

    Returns: accuracy (rejected samples are wrong) on the known, and the share of the unknown that is rejected.
    """
    predicted = np.where(known.max(1) >= threshold, known.argmax(1), -1)
    return {"known": per_class_accuracy(predicted, y), "rejected": float((unknown.max(1) < threshold).mean())}


def occurrences(scores: Float[np.ndarray, "n C"], k: int = 1) -> Int64[np.ndarray, " C"]:
    """N_k: among the k best classes of how many samples each class is. Its mean is k n / C whatever the scores."""
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k must be between 1 and the {scores.shape[1]} classes, got {k}.")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.bincount(best.ravel(), minlength=scores.shape[1])


def hubness(scores: Float[np.ndarray, "n C"], k: int = 1) -> float:
    """Skewness of N_k: large when a few classes are near to everything, 0 when all are equally often."""
    counts = occurrences(scores, k)
    return float(skew(counts)) if np.ptp(counts) else 0.0

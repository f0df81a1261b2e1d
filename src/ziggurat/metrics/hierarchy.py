"""How bad mistakes are, by a tree of the classes: a dog that is taken for a wolf is less wrong than one that is taken for a car."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from ziggurat.data.label_tree import LabelTree


class HierarchicalScores(NamedTuple):
    """Means over samples: shares of the predicted and of the true way to the root that are shared, and their harmonic mean."""

    precision: float
    recall: float
    f1: float


def hierarchical_scores(
    predicted: Int64[Tensor, " N"], truth: Int64[Tensor, " N"], tree: LabelTree
) -> HierarchicalScores:
    """Σ |A(ŷ) ∩ A(y)| over Σ |A(ŷ)| and over Σ |A(y)|, where A(y) are a class and what is above it, the root left out.

    S. Kiritchenko, S. Matwin, F. Famili, Functional Annotation of Genes Using Hierarchical Text Categorization, 2005.
    """
    ways = tree.ancestors.clone()
    ways[:, tree.root] = False
    said, true = ways[predicted], ways[truth]
    shared = float((said & true).sum())
    precision, recall = shared / max(float(said.sum()), 1), shared / max(float(true.sum()), 1)
    return HierarchicalScores(precision, recall, 2 * precision * recall / max(precision + recall, 1e-12))


def mistake_severity(predicted: Int64[Tensor, " N"], truth: Int64[Tensor, " N"], tree: LabelTree) -> float:
    """Mean height of the lowest common ancestor over the mistakes, 0 without any. L. Bertinetto et al., 2020, arXiv:1912.09393."""
    wrong = predicted != truth
    heights = tree.height[tree.common[predicted[wrong], truth[wrong]]]
    return float(heights.double().mean()) if wrong.any() else 0.0


def hierarchical_distance_at(ranked: Int64[Tensor, "N k"], truth: Int64[Tensor, " N"], tree: LabelTree) -> float:
    """Mean height of the lowest common ancestor of the truth and each of the k first predictions, right ones counted as 0."""
    return float(tree.height[tree.common[ranked, truth[:, None]]].double().mean())


def consistency(levels: Sequence[Int64[Tensor, " N"]], parents: Sequence[Int64[Tensor, " K"]]) -> float:
    """Share of samples whose predictions at all levels lie on one way.

    Arguments:
        levels: predictions from the coarsest level to the finest.
        parents: of each class of the finer level its class on the level above, one for each pair of neighbouring levels.
    """
    if len(parents) != len(levels) - 1 or not levels:
        raise ValueError(
            f"{len(levels)} levels need {max(len(levels) - 1, 0)} maps to the level above, got {len(parents)}."
        )
    fits = torch.ones(len(levels[0]), dtype=torch.bool)
    for above, below, up in zip(levels[:-1], levels[1:], parents, strict=True):
        fits &= up[below] == above
    return float(fits.double().mean())

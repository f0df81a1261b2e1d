"""CHIP: one embedding learns from three levels of a taxonomy, so that images of unseen classes fall into the right general category.

    L = Σ_l w_l SupCon_l,   SupCon_l(i) = −1/|P_l(i)| Σ_{p ∈ P_l(i)} log( exp(z_i·z_p / τ) / Σ_{a ≠ i} exp(z_i·z_a / τ) )

P_l(i) are the images that share the ancestor of i on level l. A new image goes down the tree, each time to the child with the nearest
prototype, and stops at an inner node where none is clearly nearest. The paper's weights and its form for pairs could not be read beyond
the abstract: equal weights, and `LevelMarginLoss`, whose margin grows with the level where two labels part, are our reading.

A. Mittal, H. Jhaveri, S. Mallick, A. Ajmera, CHIP: Contrastive Hierarchical Image Pretraining, 2023, arXiv:2310.08304.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_array, check_X_y
from torch import Tensor, nn
from torch.nn.functional import normalize

from ziggurat.data.batch import Batch
from ziggurat.data.label_levels import as_levels, path_ids
from ziggurat.data.label_tree import LabelTree
from ziggurat.data.subtree_feed import PerSubtree
from ziggurat.nn.learner import Learner
from ziggurat.nn.losses.level_supcon import level_supcon
from ziggurat.nn.mlp import MLPHead
from ziggurat.nn.recipe import Recipe, warmup_cosine

EPSILON = 1e-12  # under the root: the distance of equal points has no gradient otherwise


class HierarchicalContrastiveLoss(nn.Module):
    """Supervised contrastive losses of all levels, weighted.

    Arguments:
        weights: w_l from the coarsest level to the finest; None weighs all levels alike, with sum 1.
        temperature: τ.

    Shapes: embeddings (B, D) of any length, labels (B, L) from the coarsest level to the finest -> scalar. An anchor without a positive
    on a level does not count there.
    """

    def __init__(self, weights: Sequence[float] | None = None, temperature: float = 0.1) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        if weights is not None and (min(weights) < 0 or sum(weights) <= 0):
            raise ValueError(f"weights must be 0 or more, and one of them above 0, got {tuple(weights)}.")
        self.weights = None if weights is None else tuple(weights)
        self.temperature = temperature

    def by_level(self, embeddings: Float[Tensor, "B D"], labels: Int64[Tensor, "B L"]) -> Float[Tensor, " L"]:
        """SupCon_l of each level, not weighted."""
        return level_supcon(embeddings, labels, self.temperature).mean()

    def forward(self, embeddings: Float[Tensor, "B D"], labels: Int64[Tensor, "B L"]) -> Float[Tensor, ""]:
        losses = self.by_level(embeddings, labels)
        return losses @ level_weights(self.weights, losses)

    def extra_repr(self) -> str:
        return f"weights={self.weights}, temperature={self.temperature:g}"


def level_weights(weights: tuple[float, ...] | None, losses: Float[Tensor, " L"]) -> Float[Tensor, " L"]:
    """The weights of the levels as a tensor like their losses."""
    if weights is None:
        return torch.full_like(losses, 1 / len(losses))
    if len(weights) != len(losses):
        raise ValueError(f"labels have {len(losses)} levels, and there are {len(weights)} weights; give one each.")
    return losses.new_tensor(weights)


class LevelMarginLoss(nn.Module):
    """The form for pairs: d² where the leaf is the same, else max(0, m − d)², where m is `step` times the levels that differ.

    Arguments:
        step: how much the margin grows a level (0.25: leaves of one middle node are 0.25 apart, general categories 0.75).

    Shapes: embeddings (B, D), which are normalised, labels (B, L) from the coarsest level to the finest -> scalar, the mean over pairs.
    """

    def __init__(self, step: float = 0.25) -> None:
        super().__init__()
        if not step > 0:
            raise ValueError(f"step must be positive, got {step}.")
        self.step = step

    def forward(self, embeddings: Float[Tensor, "B D"], labels: Int64[Tensor, "B L"]) -> Float[Tensor, ""]:
        unit, ids = normalize(embeddings, dim=1), path_ids(labels)
        i, j = torch.triu_indices(len(ids), len(ids), 1, device=ids.device)
        distance = ((unit[i] - unit[j]).square().sum(1) + EPSILON).sqrt()
        differ = (ids[i] != ids[j]).sum(1)
        pushed = (self.step * differ - distance).clamp_min(0)
        return torch.where(differ == 0, distance, pushed).square().sum() / max(len(i), 1)

    def extra_repr(self) -> str:
        return f"step={self.step:g}"


class CHIP(Learner):
    """Trains a network and a projection to the sphere by a loss over the levels of a taxonomy.

    Arguments:
        network: a `Staged` backbone; its classifier is removed.
        levels: the labels of each class, coarse to fine (K, L), as of `label_levels`; the last level tells all classes apart.
        loss: of (embeddings, labels (B, L)); None takes `HierarchicalContrastiveLoss()`.
        width: of the embedding.
        samples: of each class in a batch; classes come with a sibling where they have one.
        augment: of the training images.
        lr: of AdamW.
    """

    score = "prototypes"
    levels: Tensor

    def __init__(
        self,
        network: nn.Module,
        levels: Sequence[Sequence[int]] | Int64[Tensor, "K L"],
        loss: nn.Module | None = None,
        width: int = 128,
        samples: int = 2,
        augment: nn.Module | None = None,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr)
        if samples < 2:
            raise ValueError(f"samples must be 2 or more, got {samples}: an image needs another one of its class.")
        network.reset_classifier(0)  # type: ignore[operator]
        self.register_buffer("levels", as_levels(levels))
        features: int = network.num_features  # type: ignore[assignment]
        self.projector = MLPHead(features, [features, width], norm=False)
        self.loss = HierarchicalContrastiveLoss() if loss is None else loss
        self.samples, self.augment = samples, augment

    @property
    def feed(self) -> PerSubtree:
        ids = path_ids(self.levels)
        above = ids[:, -2] if ids.shape[1] > 1 else torch.zeros(len(ids), dtype=torch.int64)
        return PerSubtree(self.samples, self.augment, tuple(above.tolist()))

    def represent(self, *inputs: Tensor) -> Tensor:
        """The embedding on the sphere."""
        return normalize(self.projector(super().represent(*inputs)), dim=1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"levels": self.loss(self.represent(*batch.inputs), self.levels[batch.target])}

    def recipe(self) -> Recipe:
        """AdamW with a short warm-up and a cosine."""
        return Recipe(torch.optim.AdamW(self.parameters(), lr=self.lr or 2e-3, weight_decay=0.01), warmup_cosine)


class Descent(NamedTuple):
    """Where vectors came to in the tree.

    node (N,): the last node; path (N, depth + 1): the nodes from the root on, −1 behind the last; confidence (N,): the product of the
    softmax probabilities on the way, 1 at the root.
    """

    node: np.ndarray
    path: np.ndarray
    confidence: np.ndarray


class HierarchicalPrototypeClassifier(ClassifierMixin, BaseEstimator):
    """Goes down a tree of classes, each time to the child whose prototype, the mean of all its images, is nearest by cosine.

    Arguments:
        tree: of the classes; None puts all classes of `fit` under one root. Nodes without images are never reached.
        stop: `predict` ends at a node where the largest softmax probability of its children is below this. 0 always ends in a leaf.
        temperature: the logits are cosines over this.

    `predict` gives numbers of nodes of `tree_`, which grows with `add_leaf`; the classes' own are `tree_.leaves`.
    """

    def __init__(self, tree: LabelTree | None = None, stop: float = 0.5, temperature: float = 0.1) -> None:
        self.tree, self.stop, self.temperature = tree, stop, temperature

    def fit(self, X: np.ndarray, y: np.ndarray) -> HierarchicalPrototypeClassifier:
        """Prototypes of all nodes from vectors (N, D) and their classes; with a tree these are its classes 0 … K − 1."""
        X, y = check_X_y(X, y, dtype=np.float64)
        self.classes_, index = np.unique(y, return_inverse=True)
        self.n_features_in_ = X.shape[1]
        count = len(self.classes_)
        if self.tree is None:
            self.tree_ = LabelTree(torch.tensor([count] * count + [-1]), torch.arange(count))
        else:
            self.tree_, index, count = self.tree, y.astype(np.int64), len(self.tree.leaves)
            if index.min() < 0 or index.max() >= count:
                raise ValueError(f"the tree has the classes 0 … {count - 1}; got {index.min()} … {index.max()}.")
        above = self.tree_.ancestors.numpy()[index].astype(np.float64)
        self.sums_, self.counts_ = above.T @ _unit(X), above.sum(0)
        return self

    def descend(self, X: np.ndarray, stop: float | None = None) -> Descent:
        """Node, path and confidence of each vector; `stop` in place of the constructor's."""
        if not hasattr(self, "sums_"):
            raise ValueError("this HierarchicalPrototypeClassifier is not fitted; call fit(X, y) first.")
        X = check_array(X, dtype=np.float64)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} columns, fit saw {self.n_features_in_}; give the same features.")
        least = self.stop if stop is None else stop
        logits = _unit(X) @ _unit(self.sums_).T / self.temperature
        parent = self.tree_.parent.numpy()
        here, sure = np.full(len(X), self.tree_.root), np.ones(len(X))
        path = [here]
        for _ in range(int(self.tree_.depth.max())):
            child = (parent == here[:, None]) & (self.counts_ > 0)
            score = np.where(child, logits, -np.inf)
            best = score.argmax(1)
            # the largest probability is one over the sum of all relative to it; of a node without children it is never used
            top = np.where(child.any(1), score.max(1), 0)
            chance = 1 / np.maximum(np.exp(score - top[:, None]).sum(1), 1)
            go = child.any(1) & (chance >= least) & (path[-1] >= 0)
            here, sure = np.where(go, best, here), np.where(go, sure * chance, sure)
            path.append(np.where(go, here, -1))
        return Descent(here, np.stack(path, 1), sure)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The node that each vector comes to."""
        return self.descend(X).node

    def add_leaf(self, X: np.ndarray, stop: float | None = None) -> int:
        """A new class from a few vectors, under the inner node that most of them come to; its number among the nodes.

        A vector that comes to a leaf votes for the node above it. Of equal votes the deepest node wins, then the first. The prototypes
        above the new leaf take its vectors in.
        """
        parent = self.tree_.parent
        leaf = torch.bincount(parent[parent >= 0], minlength=len(parent)) == 0
        ends = torch.from_numpy(self.descend(X, stop).node)
        votes = torch.bincount(torch.where(leaf[ends], parent[ends], ends), minlength=len(parent))
        chosen = max(range(len(parent)), key=lambda node: (int(votes[node]), int(self.tree_.depth[node])))
        names = (*self.tree_.names, "new") if self.tree_.names else ()
        new = len(parent)
        self.tree_ = LabelTree(
            torch.cat([parent, torch.tensor([chosen])]), torch.cat([self.tree_.leaves, torch.tensor([new])]), names
        )
        own = _unit(check_array(X, dtype=np.float64))
        way = self.tree_.ancestors[-1].numpy()[:, None]
        self.sums_ = np.concatenate([self.sums_, np.zeros((1, own.shape[1]))]) + way * own.sum(0)
        self.counts_ = np.concatenate([self.counts_, [0.0]]) + way[:, 0] * len(own)
        return new


def _unit(X: np.ndarray) -> np.ndarray:
    """Rows over their length; a row of zeros stays."""
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12)

"""Features off the shelf: a frozen network, vectors of length one, and a linear SVM or the distance on top of them.

    classify    sign(w_c · x/‖x‖ + b_c), one w_c a class or label, C by cross-validation
    retrieve    d(q, r) = 1/|P_q| Σ_{p ∈ P_q} min_{s ∈ P_r} ‖x_p − x_s‖,   P: patches of several sizes

Length one is what makes C comparable between features, and the distance a cosine. The SVM may learn from several views of each image
(`jittered`) and adds up their scores at test time. `signed_root`, sign(x) √|x|, evens out bursts of single features. For retrieval,
`whitened` learns on images outside the gallery.

A. Razavian, H. Azizpour, J. Sullivan, S. Carlsson, CNN Features off-the-shelf: an Astounding Baseline for Recognition, 2014,
arXiv:1403.6382.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import LinearSVC
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from ziggurat.memory.indexes import distances, nearest, unit

CROP = 2 / 3
"""Side of the crops of `jittered` as a share of the image's: 4/9 of its area."""


class FeatureExtractor(TransformerMixin, BaseEstimator):
    """A frozen network as a transformer of images: one layer, averaged over all places, at length one.

    Arguments:
        backbone: a `Staged` network, or any module where the layer is named. Its weights do not change, and `clone` copies them.
        layer: which representation. "pre_logits" is the vector in front of the classifier, a number the stage of that index, any other
            text a submodule by name ("head.layers.2" is the first fully connected layer of a VGG behind its ReLU).
        prepare: what the network expects of images in [0, 1]: its size and its normalisation. None hands them on.
        batch_size: images at once.

    Shapes: images (N, C, H, W), floats in [0, 1] or uint8 -> (N, D) float32.
    """

    def __init__(
        self,
        backbone: nn.Module,
        layer: int | str = "pre_logits",
        prepare: Callable[[Tensor], Tensor] | None = None,
        batch_size: int = 64,
    ) -> None:
        self.backbone, self.layer, self.prepare, self.batch_size = backbone, layer, prepare, batch_size

    def fit(self, X: Any, y: Any = None) -> FeatureExtractor:
        """Nothing to learn."""
        return self

    @torch.inference_mode()
    def extract(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Vectors of one batch of images in [0, 1]."""
        training = [module for module in self.backbone.modules() if module.training]
        self.backbone.eval()
        try:
            found = self._tapped(images if self.prepare is None else self.prepare(images))
        finally:
            for module in training:
                module.training = True
        if not isinstance(found, Tensor) or found.ndim not in (2, 3, 4):
            raise ValueError(f"layer {self.layer!r} gives no vectors, tokens or maps; take another.")
        places = {2: (), 3: (1,), 4: (2, 3)}[found.ndim]  # tokens have their channels last
        return normalize((found.mean(places) if places else found).float(), dim=1)

    def _tapped(self, x: Tensor) -> Tensor:
        network: Any = self.backbone
        if isinstance(self.layer, int):
            features = network.forward_features(x)
            if not -len(features) <= self.layer < len(features):
                raise ValueError(
                    f"layer {self.layer} is not there; this network has the stages 0 to {len(features) - 1}."
                )
            return features[self.layer]
        if self.layer == "pre_logits":
            return network.forward_head(network.forward_features(x), pre_logits=True)
        parts, seen = dict(network.named_modules()), []
        if self.layer not in parts:
            raise ValueError(f"the network has no part {self.layer!r}; take a name of its named_modules().")
        handle = parts[self.layer].register_forward_hook(lambda module, given, out: seen.append(out))
        try:
            network(x)
        finally:
            handle.remove()
        return seen[0]

    def transform(self, X: Tensor | np.ndarray) -> Float[np.ndarray, "N D"]:
        """Vectors of length one."""
        images = torch.as_tensor(X)
        if images.ndim != 4:
            raise ValueError(f"images must be (N, C, H, W), got {tuple(images.shape)}.")
        scale = 255 if images.dtype == torch.uint8 else 1
        return torch.cat([self.extract(part.float() / scale) for part in images.split(self.batch_size)]).cpu().numpy()


def signed_root(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """sign(x) √|x|, to be followed by another normalisation."""
    return np.sign(x) * np.sqrt(np.abs(x))


def whitened(components: int | None = None) -> Pipeline:
    """The processing of descriptors for retrieval: length one, principal components, variance one, length one.

    Arguments:
        components: that are kept; None keeps all. Fit it on images that are not in the gallery.
    """
    return make_pipeline(Normalizer(), PCA(components, whiten=True, svd_solver="full"), Normalizer())


def jittered(images: Float[Tensor, "N C H W"], degrees: float = 10.0) -> Float[Tensor, "N 16 C H W"]:
    """Sixteen views of every image: itself, five crops of 4/9 of its area, two rotations, and the mirror images of these eight.

    Arguments:
        degrees: of the rotations, to either side; ours.
    """
    from kornia.geometry.transform import rotate

    height, width = images.shape[2:]
    high, wide = max(1, round(CROP * height)), max(1, round(CROP * width))
    bottom, right = height - high, width - wide
    places = ((0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2))
    crops = [images[:, :, top : top + high, left : left + wide] for top, left in places]
    views = [images, *(interpolate(c, (height, width), mode="bilinear", antialias=True) for c in crops)]
    views += [rotate(images, images.new_tensor(angle), padding_mode="border") for angle in (-degrees, degrees)]
    return torch.stack([*views, *(view.flip(3) for view in views)], 1)


class OffTheShelfClassifier(ClassifierMixin, BaseEstimator):
    """Linear SVMs, one against the rest, on vectors of length one; C by cross-validation.

    With several views of each sample every view is trained on, and scores are summed over the views. Views of one sample are never on
    both sides of a fold.

    Arguments:
        strengths: values of C to choose from.
        folds: of the cross-validation; at most as many as the smallest class has samples.
        random_state: of the folds and of the solver.

    Shapes: X (N, D), or (N, V, D) with V views; y (N,) classes, or (N, L) zeros and ones of L labels. After `fit`: `strength_` the C
    that was chosen (the smallest of equals) by accuracy, for labels by the mean average precision; `classes_`.
    """

    def __init__(
        self, strengths: Sequence[float] = (0.01, 0.1, 1.0, 10.0, 100.0), folds: int = 3, random_state: int = 0
    ) -> None:
        self.strengths, self.folds, self.random_state = strengths, folds, random_state

    def fit(self, X: np.ndarray, y: np.ndarray) -> OffTheShelfClassifier:
        """Chooses C and trains on everything."""
        X = self._views(X)
        y = np.asarray(y)
        if len(y) != len(X) or not len(self.strengths):
            raise ValueError(f"fit needs as many y as X and at least one of strengths, got {len(y)}, {len(X)}.")
        self.n_features_in_ = X.shape[2]
        self.several_ = type_of_target(y) == "multilabel-indicator"
        self.strength_ = self._chosen(X, y) if len(self.strengths) > 1 else self.strengths[0]
        self.machines_ = self._machines(X, y, self.strength_)
        self.classes_ = self.machines_.classes_
        return self

    def _views(self, X: np.ndarray) -> Float[np.ndarray, "N V D"]:
        X = check_array(X, dtype=np.float32, allow_nd=True)
        if X.ndim not in (2, 3):
            raise ValueError(f"X must be (N, D) or (N, V, D), got {X.shape}.")
        X = X.reshape(len(X), -1, X.shape[-1])
        return unit(X.reshape(-1, X.shape[2])).reshape(X.shape)

    def _chosen(self, X: np.ndarray, y: np.ndarray) -> float:
        kind = KFold if self.several_ else StratifiedKFold
        folds = list(kind(self.folds, shuffle=True, random_state=self.random_state).split(X, y))
        scores = {c: np.mean([self._score(X, y, c, *fold) for fold in folds]) for c in sorted(self.strengths)}
        return max(scores, key=lambda c: scores[c])

    def _machines(self, X: np.ndarray, y: np.ndarray, c: float) -> OneVsRestClassifier:
        machine = LinearSVC(C=c, random_state=self.random_state, max_iter=5000)
        return OneVsRestClassifier(machine).fit(X.reshape(-1, X.shape[2]), y.repeat(X.shape[1], axis=0))

    def _score(self, X: np.ndarray, y: np.ndarray, c: float, keep: np.ndarray, held: np.ndarray) -> float:
        machines = self._machines(X[keep], y[keep], c)
        scores = self._summed(machines, X[held])
        if self.several_:
            shown = y[held].any(0)
            return float(average_precision_score(y[held][:, shown], scores[:, shown], average="macro"))
        return float(np.mean(self._named(machines.classes_, scores) == y[held]))

    @staticmethod
    def _summed(machines: OneVsRestClassifier, X: np.ndarray) -> np.ndarray:
        found = machines.decision_function(X.reshape(-1, X.shape[2]))
        return found.reshape(len(X), X.shape[1], -1).sum(1)

    @staticmethod
    def _named(classes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        best = scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(int)
        return classes[best]

    def decision_function(self, X: np.ndarray) -> Float[np.ndarray, "N K"]:
        """Scores summed over views: a column a class (one alone for two classes), or a label."""
        if not hasattr(self, "machines_"):
            raise ValueError("this OffTheShelfClassifier is not fitted; call fit(X, y) first.")
        X = self._views(X)
        if X.shape[2] != self.n_features_in_:
            raise ValueError(f"X has {X.shape[2]} features, fit saw {self.n_features_in_}; give the same ones.")
        return self._summed(self.machines_, X)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The class with the highest score, or zeros and ones of the labels."""
        scores = self.decision_function(X)
        return (scores > 0).astype(int) if self.several_ else self._named(self.classes_, scores)


def patches(images: Float[Tensor, "N C H W"], level: int) -> Float[Tensor, "N P C h w"]:
    """level² patches of every image, of 2 / (level + 1) of its sides; neighbours overlap by half, and together they cover it."""
    shares = [2 / (level + 1) * side for side in images.shape[2:]]
    high, wide = (max(1, round(s)) for s in shares)
    tops, lefts = (
        np.linspace(0, side - own, level).round().astype(int).tolist()
        for side, own in zip(images.shape[2:], (high, wide), strict=True)
    )
    return torch.stack([images[:, :, t : t + high, x : x + wide] for t in tops for x in lefts], 1)


class SpatialSearch:
    """Retrieval by patches: how far, on average, the patches of the query are from the nearest patch of a reference image.

    Arguments:
        extractor: gives vectors for images, and has a method `transform`.
        levels: of reference images: 1 + 4 + … + levels² patches each.
        query_levels: of queries; None takes `levels`.
        processing: a fitted transformer of vectors, such as `whitened(500).fit(others)`; None leaves them.
    """

    def __init__(
        self, extractor: Any, levels: int = 4, query_levels: int | None = None, processing: Any | None = None
    ) -> None:
        if levels < 1 or (query_levels is not None and query_levels < 1):
            raise ValueError(f"levels must be 1 or more, got {levels} and {query_levels}.")
        self.extractor, self.levels, self.processing = extractor, levels, processing
        self.query_levels = query_levels or levels
        self.ids: np.ndarray = np.zeros(0, np.int64)
        self._vectors: np.ndarray | None = None

    def vectors(self, images: Tensor, levels: int) -> Float[np.ndarray, "N P D"]:
        """Vectors of all patches of images (N, C, H, W) in [0, 1], level by level."""
        found = []
        for level in range(1, levels + 1):
            cut = patches(images, level)
            rows = self.extractor.transform(cut.flatten(0, 1))
            rows = rows if self.processing is None else self.processing.transform(rows)
            found.append(rows.reshape(len(images), level * level, -1))
        return np.concatenate(found, 1).astype(np.float32)

    def add(self, ids: Int64[np.ndarray, " N"], images: Float[Tensor, "N C H W"]) -> None:
        """Reference images under new ids."""
        self.add_vectors(ids, self.vectors(images, self.levels))

    def add_vectors(self, ids: Int64[np.ndarray, " N"], vectors: Float[np.ndarray, "N P D"]) -> None:
        """Reference images as the vectors of their patches."""
        taken = np.intersect1d(ids, self.ids)
        if len(taken):
            raise ValueError(f"every image needs an id of its own; the ids {taken[:3].tolist()} are taken.")
        if not len(ids) == len(np.unique(ids)) == len(vectors):
            raise ValueError(
                f"every image needs an id of its own; {len(np.unique(ids))} of {len(ids)} ids differ, for {len(vectors)} images."
            )
        self.ids = np.concatenate([self.ids, np.asarray(ids, np.int64)])
        self._vectors = vectors if self._vectors is None else np.concatenate([self._vectors, vectors])

    def distances(self, queries: Float[np.ndarray, "M P D"]) -> Float[np.ndarray, "M N"]:
        """Distances of queries, as the vectors of their patches, to all reference images, in the order of `ids`."""
        if self._vectors is None:
            raise ValueError("there is no reference image yet; call add(ids, images) first.")
        references, each = self._vectors.reshape(-1, self._vectors.shape[2]), self._vectors.shape[1]
        rows = []
        for query in queries:
            square = distances(query, references, "l2").reshape(len(query), -1, each)
            rows.append(np.sqrt(square.min(2)).mean(0))
        return np.stack(rows).astype(np.float32)

    def search(self, images: Float[Tensor, "M C H W"], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids (M, k') and ascending distances of the nearest reference images, k' = min(k, those there)."""
        return nearest(self.distances(self.vectors(images, self.query_levels)), self.ids, k)

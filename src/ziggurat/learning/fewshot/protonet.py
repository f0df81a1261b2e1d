"""Prototypical networks: a class is the mean of its few examples in a learned space, and a query belongs to the nearest mean.

    c_k = mean of f(support of class k),   p(y = k | x) = softmax_k(−‖f(x) − c_k‖²)

The squared Euclidean distance is a Bregman divergence, for which the mean is the best single representative, and with which the
classifier is linear in f(x). There is no temperature. Without examples, a class is a map of its attributes (`AttributePrototypes`).

J. Snell, K. Swersky, R. Zemel, Prototypical Networks for Few-shot Learning, 2017, arXiv:1703.05175.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_array, check_X_y
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from ziggurat.data.batch import Episode
from ziggurat.data.feeds import Episodes
from ziggurat.nn.conv import ConvNormAct
from ziggurat.nn.learner import Learner
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Staged

Distance = Callable[[Tensor, Tensor], Tensor]


def squared_euclidean(x: Float[Tensor, "M D"], c: Float[Tensor, "N D"]) -> Float[Tensor, "M N"]:
    """‖x_i − c_j‖² of all pairs."""
    return x.square().sum(1, keepdim=True) - 2 * x @ c.T + c.square().sum(1)


def cosine_distance(x: Float[Tensor, "M D"], c: Float[Tensor, "N D"]) -> Float[Tensor, "M N"]:
    """1 − cos(x_i, c_j) of all pairs."""
    return 1 - normalize(x, dim=1) @ normalize(c, dim=1).T


def prototypes(support: Float[Tensor, "N K D"]) -> Float[Tensor, "N D"]:
    """The mean of each class's embedded examples."""
    return support.mean(1)


def prototypical_logits(
    support: Float[Tensor, "N K D"], query: Float[Tensor, "M D"], distance: Distance = squared_euclidean
) -> Float[Tensor, "M N"]:
    """Minus the distance of every query to every prototype: the logits of p(y = k | x)."""
    return -distance(query, prototypes(support))


def prototypical_loss(
    support: Float[Tensor, "N K D"],
    query: Float[Tensor, "M D"],
    target: Int64[Tensor, " M"],
    distance: Distance = squared_euclidean,
) -> Float[Tensor, " M"]:
    """−log p(y | x) of every query."""
    return cross_entropy(prototypical_logits(support, query, distance), target, reduction="none")


def matching_logits(
    support: Float[Tensor, "N K D"], query: Float[Tensor, "M D"], distance: Distance = cosine_distance
) -> Float[Tensor, "M N"]:
    """The matching head for comparison: log of softmax attention over single supports, added up by class.

    With one example a class it is the prototypical classifier in the same distance. O. Vinyals et al., 2016, arXiv:1606.04080.
    """
    classes, shots, _ = support.shape
    attention = (-distance(query, support.flatten(0, 1))).log_softmax(1)
    return attention.unflatten(1, (classes, shots)).logsumexp(2)


class AttributePrototypes(nn.Module):
    """Prototypes without examples: a linear map of the attributes v_k of each class, at length one; queries keep their length.

        c_k = g(v_k) / ‖g(v_k)‖,   logits = prototypical_logits(c[:, None], f(x))

    Arguments:
        attributes: of a class.
        dim: of the embedding.

    Shapes: (N, attributes) -> (N, dim).
    """

    input = "table"

    def __init__(self, attributes: int, dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(attributes, dim)

    def forward(self, x: Float[Tensor, "N A"]) -> Float[Tensor, "N D"]:
        return normalize(self.fc(x), dim=1)


class Conv4(Staged):
    """Four blocks of 3×3 convolution, batch normalisation, ReLU and 2×2 max pooling; the last map, flattened, is the embedding.

    Arguments:
        in_channels: of the images.
        width: of every block.
        image_size: side of the images, which fixes the size of the embedding.

    Shapes: (B, in_channels, image_size, image_size) -> (B, width · ⌊image_size / 16⌋²). It has no classifier.
    """

    def __init__(self, in_channels: int = 1, width: int = 64, image_size: int = 28) -> None:
        super().__init__()
        if image_size < 16:
            raise ValueError(f"four poolings need images of 16 pixels or more, got {image_size}.")
        widths = (in_channels, width, width, width, width)
        blocks = [nn.Sequential(_Biased(a, b), nn.MaxPool2d(2)) for a, b in pairwise(widths)]
        self.stem = nn.Identity()
        self.stages = nn.ModuleList(blocks)
        self.channels, self.strides = (width,) * 4, (2, 4, 8, 16)
        self.num_features = width * (image_size // 16) ** 2
        self.head = _Flat()


class _Biased(ConvNormAct):
    """A convolution that keeps its bias in front of the normalisation, as the paper's counts have it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)


class _Flat(nn.Module):
    """The head of a network without a classifier: the last map, flattened."""

    def reset(self, num_classes: int) -> None:
        if num_classes:
            raise ValueError("Conv4 is an encoder without a classifier; put a probe on its vectors instead.")

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return x.flatten(1)


class PrototypicalNetwork(Learner):
    """Learns an embedding from few-shot tasks, each made anew from the classes of the training data.

    Arguments:
        network: an encoder; of a `Staged` network the vector before the classifier is the embedding.
        ways, shots, queries, episodes: of the tasks; more ways in training than at the test help.
        distance: of embeddings; called as `distance(x (M, D), c (N, D)) -> (M, N)`.
        scale: starts a learned factor on the distances at this value; None is the paper, which has none.
        lr: of Adam; it is halved every 2,000 of the paper's episodes, here at each fifth of the run.
    """

    score = "prototypes"

    def __init__(
        self,
        network: nn.Module,
        ways: int = 5,
        shots: int = 1,
        queries: int = 5,
        episodes: int = 100,
        distance: Distance = squared_euclidean,
        scale: float | None = None,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr)
        if scale is not None and not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}.")
        if not isinstance(network, Conv4) and hasattr(network, "reset_classifier"):
            network.reset_classifier(0)
        self.tasks = Episodes(ways, shots, queries, episodes)
        self.distance = distance
        self.log_scale = None if scale is None else nn.Parameter(torch.tensor(float(np.log(scale))))

    @property
    def feed(self) -> Episodes:
        return self.tasks

    def logits(self, batch: Episode) -> Float[Tensor, "M N"]:
        """Logits of the queries; supports and queries go through the encoder in one pass."""
        assert batch.support is not None
        support, query = batch.support, batch.inputs[0]
        together = self.represent(torch.cat([support.flatten(0, 1), query]))
        embedded = together[: len(together) - len(query)].unflatten(0, support.shape[:2])
        logits = self.head(embedded, together[len(together) - len(query) :])
        return logits if self.log_scale is None else logits * self.log_scale.exp()

    def head(self, support: Float[Tensor, "N K D"], query: Float[Tensor, "M D"]) -> Float[Tensor, "M N"]:
        """The classifier on embeddings."""
        return prototypical_logits(support, query, self.distance)

    def losses(self, batch: Episode) -> dict[str, Tensor]:
        return {"episode": cross_entropy(self.logits(batch), batch.target, reduction="none")}

    def recipe(self) -> Recipe:
        """Adam at 1e-3, halved four times over the run."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr or 1e-3)
        return Recipe(optimizer, lambda fraction: 0.5 ** int(5 * min(fraction, 0.999)))


class MatchingNetwork(PrototypicalNetwork):
    """The rival: attention over single supports, by cosine, instead of one prototype a class."""

    def head(self, support: Float[Tensor, "N K D"], query: Float[Tensor, "M D"]) -> Float[Tensor, "M N"]:
        return matching_logits(support, query)


class PrototypeClassifier(ClassifierMixin, BaseEstimator):
    """Nearest class mean on vectors, as an estimator: `fit(X, y).predict(X)`, probabilities by the softmax of −‖x − c_k‖²."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> PrototypeClassifier:
        """One mean for each class."""
        X, y = check_X_y(X, y, dtype=np.float64)
        self.classes_, index = np.unique(y, return_inverse=True)
        self.n_features_in_ = X.shape[1]
        self.means_ = np.stack([X[index == k].mean(0) for k in range(len(self.classes_))])
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities (M, K), columns in the order of `classes_`."""
        if not hasattr(self, "means_"):
            raise ValueError("this PrototypeClassifier is not fitted; call fit(X, y) first.")
        X = check_array(X, dtype=np.float64)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} columns, fit saw {self.n_features_in_}; give the same features.")
        logits = -squared_euclidean(torch.from_numpy(X), torch.from_numpy(self.means_))
        return logits.softmax(1).numpy()

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The class of the nearest mean."""
        nearest = self.predict_proba(X).argmax(1)
        return self.classes_[nearest]

"""Probes: how good a representation is for a simple classifier on top of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from torch import Tensor

from ziggurat.learning.features import logits
from ziggurat.nn.learner import Learner


def accuracy(learner: Learner, dataset: Any, normalize: tuple[Tensor, Tensor] | None = None) -> float:
    """Share of samples whose largest logit is that of their label."""
    return float((logits(learner, dataset, normalize=normalize).argmax(1) == dataset.labels).float().mean())


def linear_probe(strength: float = 1.0, random_state: int = 0) -> Any:
    """Multinomial logistic regression on standardised features; `strength` is C, the inverse of the penalty."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500, random_state=random_state))


def knn_probe(neighbours: int = 20) -> Any:
    """Vote of the nearest neighbours by cosine, weighted by similarity."""
    return make_pipeline(Normalizer(), KNeighborsClassifier(neighbours, weights="distance"))


def probe_accuracy(probe: Any, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Accuracy on `test` of a probe fitted on `train`, both (features, labels)."""
    probe.fit(train[0].numpy(), train[1].numpy())
    return float(np.mean(probe.predict(test[0].numpy()) == test[1].numpy()))

"""Fine-tuning with neighbours: `knn_revisit` for a whole network, whose features move, so that the store is encoded anew each epoch."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ziggurat.data.batch import Batch
from ziggurat.data.feeds import Loader
from ziggurat.learning.features import encode
from ziggurat.learning.knn_revisit import KNNClassifier, KNNWeightedCrossEntropy
from ziggurat.learning.supervised import Supervised


class NeighbourTuning(Supervised):
    """Cross-entropy in which samples whose neighbours disagree count more.

    Before the first epoch and after each, all training samples are encoded, without augmentation, and each asks its nearest others for its
    own class: p = p_knn(y | x), from which `KNNWeightedCrossEntropy` makes the factors of the next epoch.

    Arguments:
        network: a classifier whose vector before the last layer is compared.
        samples: how many the training data have.
        neighbours, temperature: k and T of `KNNClassifier`.
        kind, strength: of `KNNWeightedCrossEntropy`.
        lr: as of `Supervised`.
    """

    agreement: Tensor

    def __init__(
        self,
        network: nn.Module,
        samples: int,
        neighbours: int = 16,
        temperature: float = 0.07,
        kind: Literal["reg", "focal"] = "reg",
        strength: float = 1.0,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr)
        if samples < 2:
            raise ValueError(f"neighbours are other samples, so that there must be 2 or more, got {samples}.")
        self.neighbours, self.temperature = neighbours, temperature
        self.objective = KNNWeightedCrossEntropy(kind, strength)
        self.register_buffer("agreement", torch.ones(samples))

    def on_train_epoch_start(self) -> None:
        loader = self.trainer.train_dataloader
        if not isinstance(loader, Loader) or len(loader.dataset) != len(self.agreement):
            raise ValueError(f"NeighbourTuning needs a loader of {len(self.agreement)} samples; say their number.")
        x = encode(self, loader.dataset, normalize=loader.normalize).numpy()
        labels, own = loader.dataset.labels, np.arange(len(x))
        knn = KNNClassifier(self.neighbours, self.temperature).fit(x, labels.numpy())
        votes = torch.from_numpy(knn.predict_proba(x, exclude_ids=own))
        self.agreement.copy_(votes[own, torch.from_numpy(knn.y_)])

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        p = self.agreement[batch.index, None]  # of one class, its own
        return self.objective.weight(p, torch.zeros_like(batch.target)) * super().loss(logits, batch)

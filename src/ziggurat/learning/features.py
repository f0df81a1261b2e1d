"""What a trained network says of a whole data set: representations and logits, in batches, without gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ziggurat.nn.learner import Learner


def _apply(
    learner: Learner,
    function: Callable[..., Tensor],
    dataset: Any,
    batch_size: int,
    normalize: tuple[Tensor, Tensor] | None,
) -> Tensor:
    mode = learner.training
    learner.eval()
    parts = []
    with torch.inference_mode():
        for index in torch.arange(len(dataset)).split(batch_size):
            x = dataset.inputs(index)
            if normalize is not None:
                mean, std = normalize
                x = (x - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
            parts.append(function(x.to(learner.device)).flatten(1).cpu())
    learner.train(mode)
    return torch.cat(parts).clone()


def encode(
    learner: Learner, dataset: Any, batch_size: int = 256, normalize: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Representations (N, D) of all samples.

    Arguments:
        normalize: (mean, std) a channel, as in training.
    """
    return _apply(learner, learner.represent, dataset, batch_size, normalize)


def logits(
    learner: Learner, dataset: Any, batch_size: int = 256, normalize: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Logits (N, K) of all samples."""
    return _apply(learner, learner.predict, dataset, batch_size, normalize)

"""Soft labels: what a trained network says of every sample, as the target of another one.

    L = t² · KL( z ‖ softmax(logits / t) ),   z = softmax(teacher's logits / t)

G. Hinton, O. Vinyals, J. Dean, Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.data.batch import GraphBatch
from ziggurat.data.feeds import WholeGraph


def kl_to_soft(
    soft: Float[Tensor, "B K"], log_probabilities: Float[Tensor, "B K"], temperature: float = 1.0
) -> Float[Tensor, " B"]:
    """t² KL(z ‖ p), one value a row: 0 and without gradient where both agree.

    Arguments:
        soft: probabilities z; zeros are allowed.
        log_probabilities: log p of the student, taken at the same temperature.
    """
    return temperature**2 * (torch.special.xlogy(soft, soft) - soft * log_probabilities).sum(1)


def soft_labels(teacher: nn.Module, inputs: tuple, temperature: float = 1.0) -> Float[Tensor, "N K"]:
    """softmax(logits / t) of a network in evaluation mode, without gradient; its mode is put back afterwards."""
    training = teacher.training
    teacher.eval()
    with torch.no_grad():
        logits = teacher(*inputs)
    teacher.train(training)
    return (logits / temperature).softmax(1)


@dataclass
class SoftBatch(GraphBatch):
    """All nodes with the teacher's probabilities `soft` (N, K); `inputs` are what the student takes."""

    soft: Tensor | None = None


@dataclass(frozen=True)
class SoftTargets(WholeGraph):
    """A whole graph for a student that sees features only; the teacher is asked once, when the loader is made.

    Arguments:
        teacher: a trained network of the graph.
        temperature: of its softmax.
    """

    teacher: nn.Module | None = None
    temperature: float = 1.0

    def teacher_inputs(self, data: Any) -> tuple:
        """What the teacher takes."""
        return WholeGraph.prepare(self, data).inputs

    def prepare(self, data: Any) -> SoftBatch:
        if self.teacher is None:
            raise ValueError("soft targets need a teacher; give a trained network.")
        whole = WholeGraph.prepare(self, data)
        soft = soft_labels(self.teacher, self.teacher_inputs(data), self.temperature)
        return SoftBatch((data.x,), whole.target, whole.index, mask=whole.mask, soft=soft)

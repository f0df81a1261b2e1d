"""Distillation from a network of graphs to one that sees features alone: what it says of every node is the student's target.

    L = λ · cross-entropy(labelled nodes) + (1 − λ) · t² KL( softmax(teacher / t) ‖ softmax(student / t) ),  the mean over all nodes

The student needs no neighbours when it predicts. G. Hinton, O. Vinyals, J. Dean, 2015, arXiv:1503.02531; on graphs S. Zhang, Y. Liu,
Y. Sun, N. Shah, Graph-less Neural Networks, 2021, arXiv:2110.08727.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ziggurat.learning.distill.soft_targets import SoftBatch, SoftTargets, kl_to_soft
from ziggurat.nn.learner import Learner


class SoftLabelDistillation(Learner):
    """Trains a network of features on the soft labels of any trained network of nodes.

    Arguments:
        network: the student, `network(x)`.
        teacher: a trained `Staged` network of a graph, a hypergraph or hops; it is frozen.
        lam: λ, the part of the labels.
        temperature: t.
        lr: of Adam, 1e-3.

    Losses: "soft" (mean over all nodes), and "label" (one value a labelled node) where λ > 0.
    """

    def __init__(
        self,
        network: nn.Module,
        teacher: nn.Module,
        lam: float = 0.0,
        temperature: float = 1.0,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr)
        if not 0 <= lam <= 1:
            raise ValueError(f"lam must be between 0 and 1, got {lam}.")
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}.")
        self.teacher = teacher.requires_grad_(False)
        self.lam, self.temperature = lam, temperature

    @property
    def feed(self) -> SoftTargets:
        return SoftTargets(
            getattr(self.teacher, "precompute", None), teacher=self.teacher, temperature=self.temperature
        )

    def losses(self, batch: SoftBatch) -> dict[str, Tensor]:
        return self.terms(self.network(*batch.inputs), batch)

    def terms(self, logits: Float[Tensor, "N K"], batch: SoftBatch) -> dict[str, Tensor]:
        """The losses of the student's logits."""
        assert batch.soft is not None
        soft = kl_to_soft(batch.soft, (logits / self.temperature).log_softmax(1), self.temperature)
        terms = {"soft": (1 - self.lam) * soft.mean()}
        if self.lam:
            terms["label"] = self.lam * cross_entropy(batch.pick(logits), batch.target, reduction="none")
        return terms

"""LightHGNN: a perceptron learns the soft labels of a hypergraph network, and needs no hypergraph when it is used.

    LightHGNN   L = λ CE(labelled) + (1 − λ) mean_v KL( z_v ‖ student_v )
    LightHGNN+  (1 − λ) also multiplies mean_e KL( mean_{v ∈ e} z_v ‖ mean_{v ∈ e} student_v ) over reliable hyperedges
    ρ_e = 1 − δ_e / max δ,   δ_e = | mean_{v ∈ e} h'(v) − mean_{v ∈ e} h(v) |

z are the teacher's probabilities, h(v) their entropy and h'(v) that under noise X (1 + N(0, 1)). A hyperedge whose entropy hardly
changes is reliable; each step keeps it with probability ρ_e.

Y. Feng, Y. Luo, S. Ying, Y. Gao, LightHGNN: Distilling Hypergraph Neural Networks into MLPs for 100× Faster Inference, 2024,
arXiv:2402.04296.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.data.seeds import generator
from ziggurat.graphs.hypergraphs.from_graph import graph_hyperedges
from ziggurat.graphs.hypergraphs.incidence import check_incidence, count_hyperedges, hyperedge_sizes, to_hyperedges
from ziggurat.learning.distill.soft_label_distillation import SoftLabelDistillation
from ziggurat.learning.distill.soft_targets import SoftBatch, SoftTargets, kl_to_soft, soft_labels
from ziggurat.nn.recipe import Recipe


def entropy(probabilities: Float[Tensor, "N K"]) -> Float[Tensor, " N"]:
    """−Σ p log p of each row."""
    return -torch.special.xlogy(probabilities, probabilities).sum(1)


def reliability(
    before: Float[Tensor, " N"], after: Float[Tensor, " N"], hyperedge_index: Int64[Tensor, "2 M"]
) -> Float[Tensor, " E"]:
    """ρ of every hyperedge from the entropy at its nodes before and after noise; 1 for all where nothing changes."""
    count = count_hyperedges(hyperedge_index)
    delta = to_hyperedges((after - before).unsqueeze(1), hyperedge_index, count).squeeze(1).abs()
    largest = delta.max() if count else delta.sum()
    return 1 - delta / largest if largest > 0 else torch.ones_like(delta)


def topology_score(x: Float[Tensor, "N F"], hyperedge_index: Int64[Tensor, "2 M"]) -> Float[Tensor, ""]:
    """How far the members of a hyperedge lie from their mean, averaged over the members and then the hyperedges: 0 when over-smoothed."""
    check_incidence(hyperedge_index, len(x))
    node, edge = hyperedge_index
    count = count_hyperedges(hyperedge_index)
    mean = to_hyperedges(x, hyperedge_index, count)
    away = (x[node] - mean[edge]).norm(dim=1, keepdim=True)
    per_edge = away.new_zeros(count, 1).index_add(0, edge, away).squeeze(1)
    size = hyperedge_sizes(hyperedge_index, count)
    return (per_edge / size.clamp_min(1)).sum() / (size > 0).sum().clamp_min(1)


@dataclass
class HypergraphSoftBatch(SoftBatch):
    """With the hyperedges (2, M) of the teacher and the reliability ρ (E,) of each."""

    hyperedge_index: Tensor | None = None
    reliability: Tensor | None = None


@dataclass(frozen=True)
class HypergraphSoftTargets(SoftTargets):
    """Soft labels of a network of hypergraphs, and how reliable its hyperedges are. A graph becomes one by `graph_hyperedges`.

    Arguments:
        noise_level: factor on the noisy features X (1 + N(0, 1)).
        seed: of the noise.
    """

    noise_level: float = 1.0
    seed: int = 0

    def teacher_inputs(self, data: Any) -> tuple:
        if "hyperedge_index" in data:
            return (data.x, data.hyperedge_index, getattr(data, "hyperedge_weight", None))
        return (data.x, graph_hyperedges(data.edge_index, len(data.x)), None)

    def prepare(self, data: Any) -> HypergraphSoftBatch:
        plain = SoftTargets.prepare(self, data)
        assert plain.soft is not None and self.teacher is not None
        x, index, weight = self.teacher_inputs(data)
        noise = torch.randn(x.shape, generator=generator(self.seed, "noise")).to(x)
        noisy = soft_labels(self.teacher, (x * (1 + noise) * self.noise_level, index, weight))
        sure = reliability(entropy(plain.soft), entropy(noisy), index)
        return HypergraphSoftBatch(
            plain.inputs, plain.target, plain.index, mask=plain.mask, soft=plain.soft, hyperedge_index=index,
            reliability=sure,
        )  # fmt: skip


class LightHGNN(SoftLabelDistillation):
    """Trains a network of features alone on the soft labels of a network of hypergraphs.

    Arguments:
        network: the student, `network(x)`; the paper's is a perceptron with 128 hidden units.
        teacher: a trained network `teacher(x, hyperedge_index, hyperedge_weight)`; it is frozen.
        lam: λ, the part of the labels (official: 0).
        noise_level, noise_seed: of the noise by which hyperedges are judged.
        lr: of Adam, 0.01.

    Losses: those of `SoftLabelDistillation`.
    """

    def __init__(
        self,
        network: nn.Module,
        teacher: nn.Module,
        lam: float = 0.0,
        noise_level: float = 1.0,
        noise_seed: int = 0,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, teacher, lam, lr=lr)
        self.noise_level, self.noise_seed = noise_level, noise_seed

    @property
    def feed(self) -> HypergraphSoftTargets:
        return HypergraphSoftTargets(teacher=self.teacher, noise_level=self.noise_level, seed=self.noise_seed)

    def predict(self, x: Float[Tensor, "B F"]) -> Float[Tensor, "B K"]:
        """Logits from features: no hypergraph."""
        return self.network(x)

    def recipe(self) -> Recipe:
        """Adam with weight decay, as the teacher."""
        return Recipe(torch.optim.Adam(self.network.parameters(), lr=self.lr or 0.01, weight_decay=5e-4))


class LightHGNNPlus(LightHGNN):
    """Also learns the mean soft label of reliable hyperedges: the loss "hyperedge".

    Arguments as of `LightHGNN`.
    """

    def terms(self, logits: Float[Tensor, "N K"], batch: SoftBatch) -> dict[str, Tensor]:
        assert isinstance(batch, HypergraphSoftBatch) and batch.soft is not None
        assert batch.hyperedge_index is not None and batch.reliability is not None
        index, sure = batch.hyperedge_index, batch.reliability
        keep = (torch.rand(len(sure), device=sure.device) < sure) & (hyperedge_sizes(index, len(sure)) > 0)
        high = to_hyperedges(batch.soft, index, len(sure))
        low = to_hyperedges(logits.softmax(1), index, len(sure))
        each = kl_to_soft(high, low.clamp_min(torch.finfo(low.dtype).tiny).log())
        value = torch.where(keep, each, 0).sum() / keep.sum().clamp_min(1)
        return {**super().terms(logits, batch), "hyperedge": (1 - self.lam) * value}

"""Deeply-supervised nets: hidden layers have classifiers of their own, so that features are made to discriminate early.

    P(W) + Q(W),   P = ‖w_out‖² + L(W, w_out),   Q = Σ_m α_m [ ‖w_m‖² + l(W, w_m) − γ ]₊

L and l are squared hinges Σ_{k≠y} [1 − (s_y − s_k)]₊², or cross-entropies. The gradient of companion m reaches every layer up to m
(layer-wise training would stop at m); α_m falls with the run, and the companions are not used afterwards.

C.-Y. Lee, S. Xie, P. Gallagher, Z. Zhang, Z. Tu, Deeply-Supervised Nets, 2014, arXiv:1409.5185.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, relu

from ziggurat.data.batch import Batch
from ziggurat.learning.supervised import Supervised
from ziggurat.nn.losses.squared_hinge import squared_hinge
from ziggurat.nn.recipe import Recipe
from ziggurat.vision.backbones.nin import NIN


def companion_loss(
    loss: Float[Tensor, ""], weight: Float[Tensor, "K D"], gamma: float = 0.0, penalty: float = 1.0
) -> Float[Tensor, ""]:
    """[ penalty · ‖w‖² + l − γ ]₊: below the threshold γ a companion has no gradient. With γ = 0 it is never switched off.

    Arguments:
        loss: l, of the companion on a batch.
        weight: w, of the companion's classifier.
    """
    return relu(penalty * weight.square().sum() + loss - gamma)


def paper_decay(epoch: int, epochs: int) -> float:
    """What α is multiplied with after `epoch` of `epochs` by the paper's rule α ← α · 0.1 · (1 − t / N), applied at each t."""
    return math.prod(0.1 * (1 - t / epochs) for t in range(1, epoch + 1))


class Companion(nn.Module):
    """A linear classifier on a map.

    Arguments:
        channels: of the map or vector.
        num_classes: K.
        pool: side to which a map is averaged before it is flattened; its own side flattens it as it is, 1 is the mean.

    Shapes: (B, channels, h, w), or (B, channels) with pool = 1 -> (B, num_classes).
    """

    def __init__(self, channels: int, num_classes: int, pool: int = 1) -> None:
        super().__init__()
        self.channels, self.pool = channels, pool
        self.fc = nn.Linear(channels * pool**2, num_classes)

    def forward(self, x: Float[Tensor, "B C *places"]) -> Float[Tensor, "B K"]:
        if x.ndim not in (2, 4) or x.shape[1] != self.channels or (x.ndim == 2 and self.pool > 1):
            raise ValueError(
                f"a companion for {self.channels} channels, pooled to {self.pool}×{self.pool}, takes maps (B, C, h, w) or, with "
                f"pool=1, vectors (B, C), got {tuple(x.shape)}; name another module, or give its channels."
            )
        return self.fc(adaptive_avg_pool2d(x, self.pool).flatten(1) if x.ndim == 4 else x)


class Outputs(NamedTuple):
    """Logits of the network and of each companion, first to last."""

    out: Tensor
    companions: list[Tensor]


class DeeplySupervised(Supervised):
    """Trains any `Staged` network with companions; the network itself stays as it is, and alone predicts.

    Arguments:
        network: with classes.
        num_classes: K.
        taps: where companions stand: numbers of stages, or names of modules with their channels, such as {"stages.0.1": 64}.
            None: behind every stage but the last.
        pool: side to which their maps are averaged.
        alpha: α of all companions, or one for each; at the start of the run.
        gamma: γ.
        schedule: "linear" lowers α in a straight line to 0 at the end of the run; "paper" multiplies it by 0.1 (1 − t / N) after
            every epoch t of N, so that it has all but vanished after two.
        loss: "hinge" (squared) or "softmax" (cross-entropy), of the output and of the companions.
        penalty: of the squared norms of the classifiers' weights. The formula has 1 beside a loss summed over the data; 5e-4 beside a
            mean is the authors' configuration.
        lr, weight_decay: as of `Supervised`.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        taps: Sequence[int] | Mapping[str, int] | None = None,
        pool: int = 1,
        alpha: float | Sequence[float] = 0.3,
        gamma: float = 0.0,
        schedule: Literal["linear", "paper"] = "linear",
        loss: Literal["hinge", "softmax"] = "hinge",
        penalty: float = 5e-4,
        lr: float | None = None,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(network, lr, weight_decay=weight_decay)
        for name, value, known in (("schedule", schedule, ("linear", "paper")), ("loss", loss, ("hinge", "softmax"))):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}.")
        self.taps, widths = places(network, taps)
        self.alpha = [alpha] * len(widths) if isinstance(alpha, int | float) else list(alpha)
        if len(self.alpha) != len(widths):
            raise ValueError(f"{len(widths)} companions need as many alpha, got {len(self.alpha)}.")
        self.companions = nn.ModuleList(Companion(width, num_classes, pool) for width in widths)
        self.gamma, self.schedule, self.kind, self.penalty = gamma, schedule, loss, penalty

    def outputs(self, *inputs: Any) -> Outputs:
        """Logits of the network and of its companions."""
        with listening(self.network, [tap for tap in self.taps if isinstance(tap, str)]) as heard:
            features = self.network.forward_features(*inputs)  # type: ignore[operator]
            out = self.network.forward_head(features)  # type: ignore[operator]
        hidden = [features[tap] if isinstance(tap, int) else heard[tap] for tap in self.taps]
        return Outputs(out, [companion(x) for companion, x in zip(self.companions, hidden, strict=True)])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        out, companions = self.outputs(*batch.inputs)
        terms = {"out": self.loss(out, batch)}
        last = [part for part in self.network.head.modules() if isinstance(part, nn.Linear | nn.Conv2d)][-1:]  # type: ignore[union-attr, operator]
        if last:
            terms["out_norm"] = self.penalty * last[0].weight.square().sum()
        for m, (logits, companion) in enumerate(zip(companions, self.companions, strict=True)):
            mean = self.total({"loss": self.loss(logits, batch)}, batch)
            term = companion_loss(mean, companion.fc.weight, self.gamma, self.penalty)  # type: ignore[union-attr, arg-type]
            terms[f"companion{m + 1}"] = self.alpha[m] * self.decay() * term
        return terms

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """L or l, one value a sample."""
        if self.kind == "softmax":
            return super().loss(logits, batch)
        return squared_hinge(batch.pick(logits), batch.target)

    def decay(self) -> float:
        """What every α is multiplied with at this step of the run; 1 outside of one."""
        if self._trainer is None:
            return 1.0
        step, fraction = self.trainer.global_step, self.fraction(self.trainer.global_step)
        if self.schedule == "linear" or not fraction:
            return 1 - fraction
        each = self.trainer.num_training_batches
        return paper_decay(int(step // each), math.ceil(step / fraction / each))

    def recipe(self) -> Recipe:
        """The network's, to which the companions are added, or that of `Supervised`."""
        recipe = super().recipe()
        recipe.add(self.companions.parameters())
        return recipe


def places(network: Any, taps: Sequence[int] | Mapping[str, int] | None) -> tuple[list[int] | list[str], list[int]]:
    """Taps and their channels, checked against a network."""
    if isinstance(taps, Mapping):
        known = dict(network.named_modules())
        if wrong := [name for name in taps if name not in known]:
            raise ValueError(f"{type(network).__name__} has no module {wrong[0]!r}; see network.named_modules().")
        return list(taps), list(taps.values())
    stages = len(getattr(network, "stages", ()))
    numbers = list(range(stages - 1)) if taps is None else list(taps)
    if not stages or (wrong := [n for n in numbers if not 0 <= n < stages]):
        raise ValueError(
            f"companions stand behind stages of a Staged network, and {type(network).__name__} has {stages} of them; got the taps "
            f"{taps}."
        )
    return numbers, [network.channels[n] for n in numbers]


@contextmanager
def listening(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What the named modules give in a forward pass inside the block."""
    heard: dict[str, Tensor] = {}
    modules = dict(network.named_modules())
    hooks = [
        modules[name].register_forward_hook(lambda _, __, y, name=name: heard.update({name: getattr(y, "x", y)}))
        for name in names
    ]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def deeply_supervised_nin(num_classes: int = 10, in_channels: int = 3) -> DeeplySupervised:
    """The reference for small images: a network in network with a companion behind each of its first two perceptrons."""
    network = NIN(num_classes, in_channels, relu_logits=False)
    return DeeplySupervised(network, num_classes, [0, 1], pool=8)

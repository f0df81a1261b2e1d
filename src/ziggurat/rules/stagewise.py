"""Mono-Forward for networks whose stages cannot be called one after the other, such as those of graphs: each stage learns alone.

    input of stage l:  stopgrad of whatever the network hands to it;   G_l = a_l M_lᵀ,   L_l = cross-entropy(softmax(G_l), y)

`rules.mono_forward` calls the parts of a sequential network itself and can free each one's graph. Here the network runs as it always
does, and hooks cut off what goes into its stages, so that edges, weights and masks reach them as they must. A skip that a network leads
around a stage is not cut.

J. Gong, B. Li, W. Abdulla, Mono-Forward, 2025, arXiv:2501.09238.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch_geometric.nn import global_mean_pool

from ziggurat.data.batch import Batch, map_tensors
from ziggurat.nn.learner import Learner
from ziggurat.nn.recipe import Recipe


def representation(state: Any) -> Tensor:
    """The representation in what a part hands on: the tensor itself, or the `x` of a named tuple (tokens with their grid, say)."""
    return state if isinstance(state, Tensor) else state.x


@contextmanager
def cut_between(stages: nn.ModuleList) -> Iterator[None]:
    """Everything that goes into one of the stages is detached while this holds."""

    def cut(module: nn.Module, given: tuple) -> tuple:
        return tuple(map_tensors(one, Tensor.detach) for one in given)

    handles = [stage.register_forward_pre_hook(cut) for stage in stages]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class StagewiseMonoForward(Learner):
    """Trains each stage of a `Staged` network on its own goodness.

    Arguments:
        network: any `Staged` network; its own classifier is removed.
        num_classes: of the projections, 2 or more.
        mode: prediction by the "sum" of all goodness, or the "last".
        lr: of Adam, 1e-3.

    The projection of a stage reads the mean over whatever axes follow the channels, and of a network of several graphs the mean over the
    nodes of each. Losses: one a stage, each with one value a sample.
    """

    def __init__(
        self, network: nn.Module, num_classes: int, mode: Literal["sum", "last"] = "sum", lr: float | None = None
    ) -> None:
        super().__init__(network, lr)
        if mode not in ("sum", "last"):
            raise ValueError(f"mode must be 'sum' or 'last', got {mode!r}.")
        if num_classes < 2:
            raise ValueError(f"num_classes must be 2 or more, got {num_classes}.")
        network.reset_classifier(0)  # type: ignore[operator]
        channels: tuple[int, ...] = network.channels  # type: ignore[assignment]
        self.projections = nn.ModuleList(nn.Linear(width, num_classes, bias=False) for width in channels)
        self.mode = mode

    def goodness(self, *inputs: Any) -> list[Float[Tensor, "B K"]]:
        """G_l of each stage."""
        with cut_between(self.network.stages):  # type: ignore[arg-type]
            features = self.network.forward_features(*inputs)  # type: ignore[operator]
        owner = inputs[3] if self.network.input == "graphs" else None
        said = []
        for feature, project in zip(features, self.projections, strict=True):
            a = representation(feature)
            a = a.flatten(2).mean(2) if a.ndim > 2 else a
            said.append(project(a if owner is None or len(a) != len(owner) else global_mean_pool(a, owner)))
        return said

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {
            f"stage{i}": cross_entropy(batch.pick(one), batch.target, reduction="none")
            for i, one in enumerate(self.goodness(*batch.inputs))
        }

    def predict(self, *inputs: Any) -> Float[Tensor, "B K"]:
        said = self.goodness(*inputs)
        return torch.stack(said).sum(0) if self.mode == "sum" else said[-1]

    def recipe(self) -> Recipe:
        """Adam at a constant rate."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=self.lr or 1e-3))

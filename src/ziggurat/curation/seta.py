"""SeTa: before each epoch a random share of the samples is dropped, and of the rest a window over groups of equal loss is visited.

The last loss of each sample is its score. One-dimensional k-means of the scores gives k groups from easy to hard; a window of
w = round(k α) of them slides from the easy end to the hard one and starts again. The last epochs draw from all samples. Losses are not
re-weighted.

Q. Zhou, J. Gao, Q. Wang, Scale Efficient Training for Large Datasets, 2025, arXiv:2503.13385. The rival InfoBatch: Z. Qin et
al., 2023, arXiv:2303.04947.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int64
from sklearn.cluster import KMeans
from torch import Tensor
from torch.utils.data import Sampler

from ziggurat.data.seeds import derive, generator

START = 3.0
"""Score of a sample that was never visited."""


class PruningSampler(Sampler[int]):
    """What samplers that drop samples share: scores, and one draw an epoch that depends on (seed, epoch, scores) alone.

    Use it as a torch sampler (`set_epoch` before each epoch), or as the `order` of a `ziggurat.data.feeds.Loader`.

    Arguments:
        n: samples.
        epochs: of the whole run.
        seed: of every draw.
    """

    def __init__(self, n: int, epochs: int, seed: int = 0) -> None:
        if n < 1 or epochs < 1:
            raise ValueError(f"n and epochs must be 1 or more, got {n} and {epochs}.")
        self.n, self.epochs, self.seed = n, epochs, seed
        self.scores = torch.full((n,), START)
        self.epoch, self.visits, self.drawn = 0, 0, -1
        self._indices = torch.zeros(0, dtype=torch.int64)

    def choose(self, epoch: int, generator: torch.Generator) -> Int64[Tensor, " m"]:
        """The samples of an epoch, in any order."""
        return torch.arange(self.n)

    def __call__(self, epoch: int) -> Int64[Tensor, " m"]:
        """The samples of an epoch in the order of the visits; asked again, the same, whatever scores came meanwhile."""
        if epoch != self.drawn:
            chosen = self.choose(epoch, generator(self.seed, "prune", epoch))
            self._indices = chosen[torch.randperm(len(chosen), generator=generator(self.seed, "shuffle", epoch))]
            self.visits += len(chosen)
            self.drawn = epoch
        return self._indices

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(self(self.epoch).tolist())

    def __len__(self) -> int:
        return len(self(self.epoch))

    def update(self, indices: Int64[Tensor, " B"], losses: Float[Tensor, " B"]) -> None:
        """New scores: the losses of the samples just visited, one each. In distributed training of all processes."""
        indices, losses = indices.cpu(), losses.detach().float().cpu()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, (indices, losses))
            indices, losses = (torch.cat([part[i] for part in parts]) for i in (0, 1))
        self.scores[indices] = losses

    def weights(self, indices: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        """How much each visited sample counts; here alike."""
        return torch.ones(len(indices))

    @property
    def saved(self) -> float:
        """Share of the visits avoided so far."""
        return 1 - self.visits / (self.n * max(self.drawn + 1, 1))

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs."""
        return {"scores": self.scores, "visits": self.visits, "drawn": self.drawn, "indices": self._indices}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scores, self._indices = state["scores"].clone(), state["indices"].clone()
        self.visits, self.drawn = state["visits"], state["drawn"]


def _share(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be 0 or more and below 1, got {value}.")
    return value


class SeTaSampler(PruningSampler):
    """The method.

    Arguments:
        prune_ratio: r, dropped at random in every epoch.
        groups: k.
        window: α, share of the groups that an epoch visits.
        delta: epochs beyond this share of the run draw from all samples, without groups.
    """

    def __init__(
        self,
        n: int,
        epochs: int,
        prune_ratio: float = 0.1,
        groups: int = 10,
        window: float = 0.5,
        delta: float = 0.875,
        seed: int = 0,
    ) -> None:
        super().__init__(n, epochs, seed)
        if groups < 1 or not 0 < window <= 1 or not 0 < delta <= 1:
            raise ValueError(
                f"groups must be 1 or more, window and delta above 0 and at most 1, got {groups}, {window}, {delta}."
            )
        self.prune_ratio, self.groups, self.window, self.delta = (
            _share("prune_ratio", prune_ratio),
            groups,
            window,
            delta,
        )

    def first_group(self, epoch: int) -> int | None:
        """The easiest group of an epoch's window; None where every group is visited."""
        width = max(round(self.groups * self.window), 1)
        if epoch == 0 or width >= self.groups:
            return None
        return epoch % (self.groups - width + 1)

    def visited_groups(self, epoch: int, generator: torch.Generator) -> Int64[Tensor, " w"] | None:
        """The groups of an epoch's window; None where every group is visited."""
        first = self.first_group(epoch)
        return None if first is None else first + torch.arange(max(round(self.groups * self.window), 1))

    def choose(self, epoch: int, generator: torch.Generator) -> Int64[Tensor, " m"]:
        kept = torch.randperm(self.n, generator=generator)[: int((1 - self.prune_ratio) * self.n)]
        visited = None if epoch > self.delta * self.epochs else self.visited_groups(epoch, generator)
        if visited is None:
            return kept
        group = loss_groups(self.scores[kept], self.groups, derive(self.seed, "groups", epoch))
        return kept[torch.isin(group, visited)]


def loss_groups(scores: Float[Tensor, " n"], groups: int, random_state: int) -> Int64[Tensor, " n"]:
    """Group of each score by one-dimensional k-means, numbered from small to large; equal scores give chunks of equal size."""
    distinct = len(scores.unique())
    if distinct == 1:
        return torch.arange(len(scores)) * groups // len(scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = KMeans(min(groups, distinct), n_init=1, random_state=random_state % 2**32).fit(scores[:, None].numpy())
    rank = model.cluster_centers_[:, 0].argsort().argsort()
    return torch.from_numpy(rank[model.labels_])


class RandomPruningSampler(PruningSampler):
    """The plain rival: a fresh random draw in every epoch.

    Arguments:
        visits: samples an epoch.
    """

    def __init__(self, n: int, epochs: int, visits: int, seed: int = 0) -> None:
        super().__init__(n, epochs, seed)
        if not 1 <= visits <= n:
            raise ValueError(f"visits must be between 1 and {n}, got {visits}.")
        self.wanted = visits

    def choose(self, epoch: int, generator: torch.Generator) -> Int64[Tensor, " m"]:
        return torch.randperm(self.n, generator=generator)[: self.wanted]


class InfoBatchSampler(PruningSampler):
    """The rival that keeps the expected gradient: of samples below the mean loss a share r is dropped, and the others of them count
    1 / (1 − r); the last eighth of the run is whole.

    Arguments:
        prune_ratio: r; None chooses it anew in every epoch, so that `visits` remain.
        visits: samples an epoch, with `prune_ratio` None.
        delta: epochs beyond this share of the run visit everything.
    """

    def __init__(
        self,
        n: int,
        epochs: int,
        prune_ratio: float | None = 0.5,
        visits: int | None = None,
        delta: float = 0.875,
        seed: int = 0,
    ) -> None:
        super().__init__(n, epochs, seed)
        if (prune_ratio is None) == (visits is None):
            raise ValueError("give either prune_ratio or visits.")
        self.prune_ratio = None if prune_ratio is None else _share("prune_ratio", prune_ratio)
        self.wanted, self.delta = visits, delta
        self._weights = torch.ones(n)

    def choose(self, epoch: int, generator: torch.Generator) -> Int64[Tensor, " m"]:
        self._weights = torch.ones(self.n)
        if epoch > self.delta * self.epochs:
            return torch.arange(self.n)
        low = self.scores < self.scores.mean()
        easy, hard = low.nonzero()[:, 0], (~low).nonzero()[:, 0]
        if self.prune_ratio is not None:
            keep = round((1 - self.prune_ratio) * len(easy))
        else:
            assert self.wanted is not None
            keep = min(max(self.wanted - len(hard), 1), len(easy))
        if not len(easy):
            return hard
        kept = easy[torch.randperm(len(easy), generator=generator)[:keep]]
        self._weights[kept] = len(easy) / max(len(kept), 1)
        return torch.cat([kept, hard])

    def weights(self, indices: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        return self._weights[indices]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._weights = state["weights"].clone()

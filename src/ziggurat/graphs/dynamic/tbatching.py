"""T-batches: interactions in groups that can be processed at once without changing any history; and the loss over them.

    batch of (u, i) = 1 + max(last batch of u, last batch of i)
    original:  Σ_b mean_{j ∈ B_b} l_j        sum:  Σ_j l_j        mean:  Σ_j l_j / n

Under the usual loss an interaction weighs 1 / |B_b|. The late batches of a window are small, and hold what busy nodes do, which then counts
for more than it is. The two repairs give every interaction of a window the same weight.

E. Loghmani, M. Fazli, Effect of Choosing Loss Function when Using T-batching for Representation Learning on Dynamic Networks, 2023,
arXiv:2308.06862. T-batches are from S. Kumar, X. Zhang, J. Leskovec, 2019, arXiv:1908.01207.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


def tbatch_ids(users: Int64[Tensor, " n"], items: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """The number of each interaction's t-batch, from 0, for interactions in their order. Users and items are numbered apart."""
    of_user: dict[int, int] = {}
    of_item: dict[int, int] = {}
    ids = []
    for user, item in zip(users.tolist(), items.tolist(), strict=True):
        batch = 1 + max(of_user.get(user, -1), of_item.get(item, -1))
        of_user[user] = of_item[item] = batch
        ids.append(batch)
    return torch.tensor(ids, dtype=torch.int64)


class TBatcher:
    """Windows of interactions, each a list of t-batches; numbers of batches start anew in every window.

    Arguments:
        users, items: of each interaction.
        times: which must not fall.
        windows: parts of equal duration that the time from first to last is cut into (JODIE: 500); parts without interactions are left out.
        size: interactions of a window, instead of a duration.

    Iterating gives lists of int64 indices of interactions. Inside a t-batch no user and no item occurs twice.
    """

    def __init__(
        self,
        users: Int64[Tensor, " n"],
        items: Int64[Tensor, " n"],
        times: Float[Tensor, " n"],
        windows: int = 500,
        size: int | None = None,
    ) -> None:
        if not len(users) == len(items) == len(times):
            raise ValueError(
                f"users, items and times must be of one length, got {len(users)}, {len(items)} and {len(times)}."
            )
        if (times[1:] < times[:-1]).any():
            raise ValueError("times must not fall; sort the interactions by time first.")
        if windows < 1 or (size is not None and size < 1):
            raise ValueError(f"windows and size must be 1 or more, got {windows} and {size}.")
        self.users, self.items, self.times, self.windows, self.size = users, items, times, windows, size

    def window_ids(self) -> Int64[Tensor, " n"]:
        """The window of each interaction."""
        if self.size is not None:
            return torch.arange(len(self.times)) // self.size
        if not len(self.times):
            return torch.zeros(0, dtype=torch.int64)
        times = self.times.double()
        span = float(times[-1] - times[0]) or 1.0
        return ((times - times[0]) / span * self.windows).long().clamp_max(self.windows - 1)

    def __iter__(self) -> Iterator[list[Int64[Tensor, " _"]]]:
        _, counts = torch.unique_consecutive(self.window_ids(), return_counts=True)
        for index in torch.arange(len(self.times)).split(counts.tolist()):
            ids = tbatch_ids(self.users[index], self.items[index])
            order = ids.argsort(stable=True)
            yield list(index[order].split(torch.bincount(ids).tolist()))

    def __len__(self) -> int:
        return len(torch.unique(self.window_ids()))


class TBatchLoss(nn.Module):
    """One number for a window, out of the losses of its interactions.

    Arguments:
        mode: "original", the sum over t-batches of their means; "sum" over interactions; their "mean".

    Shapes: one (|B_b|,) for each t-batch -> scalar.
    """

    def __init__(self, mode: Literal["original", "sum", "mean"] = "mean") -> None:
        super().__init__()
        if mode not in ("original", "sum", "mean"):
            raise ValueError(f"mode must be 'original', 'sum' or 'mean', got {mode!r}.")
        self.mode = mode

    def forward(self, losses: Sequence[Float[Tensor, " _"]]) -> Float[Tensor, ""]:
        if not losses or any(loss.ndim != 1 or not len(loss) for loss in losses):
            raise ValueError("give one vector of losses for each t-batch, at least one, none empty and none reduced.")
        if self.mode == "original":
            return torch.stack([loss.mean() for loss in losses]).sum()
        every = torch.cat(list(losses))
        return every.sum() if self.mode == "sum" else every.mean()

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}"

"""Batches in which classes come with their siblings: what losses over several levels of a hierarchy need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ziggurat.data.feeds import ClassMembers, PerClass


@dataclass(frozen=True)
class PerSubtree(PerClass):
    """P classes and K samples of each in every batch, the classes drawn with their siblings; `Batch((x,), labels, index)`.

    A batch goes through the groups in random order and takes `siblings` random classes of each, and goes round again until it has P.
    An epoch has as many batches as that of `PerClass`; the classes are drawn anew for each of them.

    Arguments:
        groups: of each class the node above it.
        siblings: classes of a group that come together; a smaller group, and the last one of a batch, may have fewer.
    """

    groups: tuple[int, ...] = ()
    siblings: int = 2

    def order(
        self, dataset: Any, batch_size: int, generator: torch.Generator, order: Tensor | None
    ) -> Iterator[Tensor]:
        members = ClassMembers(dataset.labels)
        if len(self.groups) < len(members.counts):
            raise ValueError(
                f"{dataset.name} has classes up to {len(members.counts) - 1}, and {len(self.groups)} have a group; give one each."
            )
        group = torch.tensor(self.groups)[members.present]
        for _ in super().order(dataset, batch_size, generator, order):
            rank = torch.rand(int(group.max()) + 1, generator=generator)[group]
            place = torch.rand(len(group), generator=generator)
            within = (group[:, None] == group) & (place[None, :] < place[:, None])
            turn = within.sum(1) // self.siblings  # in which round a class comes
            chosen = members.present[(turn + rank).argsort()[: batch_size // self.samples]]
            yield torch.cat([members.some(c, self.samples, generator) for c in chosen.tolist()])

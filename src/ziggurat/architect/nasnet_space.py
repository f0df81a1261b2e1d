"""The search space of NASNet: a controller, or chance, makes five decisions for each block of two cells.

For block i of a cell: two of the i + 2 states there are, an operation for each, and whether the results are added or concatenated. The
rest of the network (how often the cells are stacked, how wide) is not searched, so a cell found on small images transfers to large ones.

B. Zoph, V. Vasudevan, J. Shlens, Q. Le, Learning Transferable Architectures for Scalable Image Recognition, 2017, arXiv:1707.07012.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Literal

import torch

from ziggurat.vision.backbones.nasnet_cells import OPERATIONS, Block, Cell, Genotype

COMBINE: tuple[Literal["add", "concat"], ...] = ("add", "concat")


class NASNetSearchSpace:
    """Genotypes as sequences of decisions.

    Arguments:
        blocks: B, of each cell.
        operations: to choose from.

    Attributes:
        choices: how many there are for each decision, the normal cell's first; per block first state, second state, first
            operation, second operation, way to combine.
    """

    def __init__(self, blocks: int = 5, operations: Sequence[str] = OPERATIONS) -> None:
        if blocks < 1:
            raise ValueError(f"blocks must be at least 1, got {blocks}.")
        if unknown := [op for op in operations if op not in OPERATIONS]:
            raise ValueError(f"{unknown[0]!r} is no operation; there are {', '.join(OPERATIONS)}.")
        self.blocks, self.operations = blocks, tuple(operations)
        cell = [n for i in range(blocks) for n in (i + 2, i + 2, len(operations), len(operations), len(COMBINE))]
        self.choices = (*cell, *cell)

    @property
    def size(self) -> int:
        """How many sequences of decisions there are."""
        return prod(self.choices)

    def decode(self, decisions: Sequence[int]) -> Genotype:
        """The genotype of a sequence of decisions; states that no block reads are the cells' outputs."""
        if len(decisions) != len(self.choices):
            raise ValueError(f"{len(self.choices)} decisions make a genotype, got {len(decisions)}.")
        for i, (decision, count) in enumerate(zip(decisions, self.choices, strict=True)):
            if not 0 <= decision < count:
                raise ValueError(f"decision {i} is one of {count}, got {decision}.")
        ops = self.operations
        blocks = [
            Block((ops[left], first), (ops[right], second), COMBINE[how])
            for first, second, left, right, how in (decisions[i : i + 5] for i in range(0, len(decisions), 5))
        ]
        return Genotype(Cell(tuple(blocks[: self.blocks])), Cell(tuple(blocks[self.blocks :])))

    def encode(self, genotype: Genotype) -> tuple[int, ...]:
        """The decisions that lead to a genotype."""
        decisions: list[int] = []
        for block in (*genotype.normal.blocks, *genotype.reduction.blocks):
            (left, first), (right, second) = block.left, block.right
            decisions += [first, second, self.operations.index(left), self.operations.index(right)]
            decisions.append(COMBINE.index(block.combine))
        return tuple(decisions)

    def sample(self, generator: torch.Generator) -> Genotype:
        """A genotype at random: every decision uniform and by itself."""
        return self.decode([int(torch.randint(n, (), generator=generator)) for n in self.choices])


def random_search(
    space: NASNetSearchSpace, score: Callable[[Genotype], float], trials: int, generator: torch.Generator
) -> list[tuple[float, Genotype]]:
    """Random genotypes with their scores, the best one first.

    Arguments:
        score: what a genotype is worth, such as the accuracy of a small network of its cells.
        trials: how many are drawn.
    """
    drawn = [space.sample(generator) for _ in range(trials)]
    return sorted(((score(genotype), genotype) for genotype in drawn), key=lambda pair: -pair[0])

"""Drawn architectures of known families, as graphs of operators: what retrieval is tried on.

Within a family depth, number of stages and the kinds of convolution, normalisation and activation are random, so that wiring tells more
than counts of operators. Cells like those of DARTS have a genotype as their family, of which some choices are drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch_geometric.data import Data

from ziggurat.architect.retrieval.tracing import operator_graph
from ziggurat.data.seeds import derive

CELL_OPERATORS = ("conv3", "conv5", "depthwise", "pool", "reshape")


class Style(NamedTuple):
    """What one network uses wherever its family has a convolution, a normalisation or an activation."""

    conv: str
    norm: str
    act: str


def random_style(rng: np.random.Generator) -> Style:
    """A style at random."""
    kinds = (("conv1", "conv3", "conv5", "depthwise"), ("batch_norm", "layer_norm"), ("relu", "gelu", "silu"))
    return Style(*(str(rng.choice(k)) for k in kinds))


class Wiring:
    """A graph of operators that grows: each call adds one and returns its number."""

    def __init__(self, style: Style) -> None:
        self.style, self.kinds, self.edges = style, ["input"], []

    def __call__(self, kind: str, *inputs: int) -> int:
        kind = getattr(self.style, kind, kind)
        self.edges += [(i, len(self.kinds)) for i in inputs]
        self.kinds.append(kind)
        return len(self.kinds) - 1

    def chain(self, x: int, *kinds: str) -> int:
        """One operator after the other."""
        for kind in kinds:
            x = self(kind, x)
        return x

    def graph(self, x: int) -> Data:
        """With a pooled linear head behind x."""
        self.chain(x, "pool", "linear")
        return operator_graph(self.kinds, self.edges)


Block = Callable[[Wiring, int], int]


def plain(w: Wiring, x: int) -> int:
    return w.chain(x, "conv", "norm", "act")


def residual(w: Wiring, x: int) -> int:
    return w("act", w("add", w.chain(x, "conv", "norm", "act", "conv", "norm"), x))


def bottleneck(w: Wiring, x: int) -> int:
    return w("act", w("add", w.chain(x, "conv1", "norm", "act", "conv", "norm", "act", "conv1", "norm"), x))


def split_branches(w: Wiring, x: int) -> int:
    """Two branches that are added, and the block's input: the aggregated transforms of ResNeXt."""
    branches = [w.chain(x, "conv1", "act", "conv") for _ in range(2)]
    return w("add", w("add", *branches), x)


def inception(w: Wiring, x: int) -> int:
    branches = [w.chain(x, "conv1", "act"), w.chain(x, "conv1", "act", "conv", "act"), w.chain(x, "pool", "conv1")]
    return w("concat", *branches)


def inverted(w: Wiring, x: int) -> int:
    """An inverted residual with squeeze and excitation."""
    y = w.chain(x, "conv1", "norm", "act", "conv", "norm", "act")
    y = w("multiply", y, w.chain(y, "pool", "linear", "act", "linear", "sigmoid"))
    return w("add", w.chain(y, "conv1", "norm"), x)


def highway(w: Wiring, x: int) -> int:
    gate = w.chain(x, "conv", "sigmoid")
    return w("add", w("multiply", w.chain(x, "conv", "act"), gate), w("multiply", x, gate))


def transformer(w: Wiring, x: int) -> int:
    y = w("norm", x)
    x = w("add", w("linear", w("attention", *(w("linear", y) for _ in range(3)))), x)
    return w("add", w.chain(x, "norm", "linear", "act", "linear"), x)


def mixer(w: Wiring, x: int) -> int:
    x = w("add", w.chain(x, "norm", "reshape", "linear", "act", "linear", "reshape"), x)
    return w("add", w.chain(x, "norm", "linear", "act", "linear"), x)


def dense(w: Wiring, x: int) -> int:
    """A dense block of three layers: each takes all before it."""
    states = [x]
    for _ in range(3):
        joined = w("concat", *states) if len(states) > 1 else x
        states.append(w.chain(joined, "norm", "act", "conv"))
    return w("concat", *states)


BLOCKS: dict[str, Block] = {
    "plain": plain, "residual": residual, "bottleneck": bottleneck, "split": split_branches, "inception": inception,
    "inverted": inverted, "highway": highway, "transformer": transformer, "mixer": mixer, "dense": dense,
}  # fmt: skip
FAMILIES = (*BLOCKS, "unet", "pyramid")


def draw_network(family: str, seed: int) -> Data:
    """One network of a family."""
    if family not in FAMILIES:
        raise ValueError(f"{family!r} is no family; there are {', '.join(FAMILIES)}.")
    rng = np.random.default_rng(derive(seed, "network", family))
    w = Wiring(random_style(rng))
    x, stages = w.chain(0, "conv", "norm", "act"), int(rng.integers(3, 5))
    block, levels = BLOCKS.get(family, plain), []
    for stage in range(stages):
        for _ in range(int(rng.integers(2, 5))):
            x = block(w, x)
        levels.append(x)
        if stage < stages - 1:
            x = w("pool", x)
    if family == "unet":
        for level in reversed(levels[:-1]):
            x = plain(w, plain(w, w("concat", w("upsample", x), level)))
    if family == "pyramid":
        x = w("conv1", levels[-1])
        outs = [w("conv", x)]
        for level in reversed(levels[:-1]):
            x = w("add", w("upsample", x), w("conv1", level))
            outs.append(w("conv", x))
        x = w("concat", *outs)
    return w.graph(x)


def draw_cells(genotype: int, seed: int, changes: int = 2, nodes: int = 4) -> Data:
    """Six to twenty cells on one another, each taking the two before it, of one genotype of which a few choices are drawn anew.

    In a cell each of `nodes` nodes adds two operators on two earlier states, and all nodes are joined at the end.
    """
    base, rng = (np.random.default_rng(derive(part, "cells", genotype)) for part in (0, seed + 1))
    cell = [[(int(base.integers(i + 2)), str(base.choice(CELL_OPERATORS))) for _ in range(2)] for i in range(nodes)]
    for _ in range(changes):
        i, side = int(rng.integers(nodes)), int(rng.integers(2))
        cell[i][side] = (int(rng.integers(i + 2)), str(rng.choice(CELL_OPERATORS)))
    w = Wiring(random_style(rng))
    before, x = 0, w.chain(0, "conv", "norm")
    for _ in range(int(rng.integers(6, 21))):
        states = [w("conv1", before), w("conv1", x)]
        for pair in cell:
            states.append(w("add", *(w(kind, states[place]) for place, kind in pair)))
        before, x = x, w("concat", *states[2:])
    return w.graph(x)


def draw_many(
    draw: Callable[[int, int], Data], classes: Sequence[int], each: int, seed: int
) -> tuple[list[Data], Int64[Tensor, " N"]]:
    """`each` architectures of every class, class by class, and their classes."""
    graphs = [draw(c, derive(seed, c, i)) for c in classes for i in range(each)]
    return graphs, torch.tensor(classes).repeat_interleave(each)

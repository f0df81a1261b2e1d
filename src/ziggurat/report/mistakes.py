"""Where the mistakes of a classifier fall in the tree of its classes, as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from ziggurat.data.label_tree import LabelTree
from ziggurat.data.taxonomies import label_tree, read_ways, ways_of
from ziggurat.metrics.hierarchy import mistake_severity
from ziggurat.report.figures import pyplot, write
from ziggurat.workflows.artifact import Artifact
from ziggurat.workflows.training import answers, prepare


class Mistakes(NamedTuple):
    """The accuracy; the mean height of the lowest node above what was said and what was true, over the mistakes; and which share of
    the mistakes has that node, by name."""

    accuracy: float
    severity: float
    shares: dict[str, float]


def explain_mistakes(artifact: Artifact, data: str, tree: Path | None, folder: Path) -> tuple[Path, Mistakes]:
    """Draws the tree of the classes of a data set, and at each node the share of the mistakes on its test part that stay below it.

    Arguments:
        tree: a csv with the names above each class; None takes what is known of the data.

    Returns: the path of the PNG, and its numbers.
    """
    prepared = prepare(data)
    if prepared.parts is None:
        raise ValueError(f"{data} is no set of samples; only mistakes about samples are drawn in a tree.")
    test = prepared.parts.test
    ways = ways_of(test) if tree is None else read_ways(tree, test.classes)
    labels, said = answers(artifact, prepared)
    path = folder / f"{prepared.name}-mistakes.png"
    return path, draw_mistakes(
        labels, said, label_tree(ways, test.classes), f"{artifact.method} on {prepared.name}", path
    )


def draw_mistakes(
    labels: Int64[Tensor, " N"], said: Int64[Tensor, " N"], tree: LabelTree, title: str, path: Path
) -> Mistakes:
    """Draws the tree with the accuracy of each class, and with the mistakes at the lowest node above both classes."""
    wrong = said != labels
    count = torch.bincount(tree.common[said[wrong], labels[wrong]], minlength=len(tree))
    share = (count / count.sum().clamp_min(1)).tolist()
    rows, deepest = places(tree), int(tree.depth.max())
    leaf = set(tree.leaves.tolist())
    x = [deepest if v in leaf else int(tree.depth[v]) for v in range(len(tree))]
    figure, axis = pyplot().subplots(figsize=(8.5, max(2.5, 0.3 * len(leaf) + 1.2)), layout="constrained")
    for v, up in enumerate(tree.parent.tolist()):
        if up >= 0:
            axis.plot([x[up], x[up], x[v]], [rows[up], rows[v], rows[v]], color="0.75", lw=1, zorder=1)
        if v in leaf:
            continue
        area = 30 + 2500 * share[v]  # in square points
        axis.scatter(x[v], rows[v], area, color="tab:red", alpha=0.75, zorder=2, lw=0)
        beside = (math.sqrt(area / math.pi) + 2, 4)
        said_here = f"{tree.names[v]}  {100 * share[v]:.0f} %"
        axis.annotate(said_here, (x[v], rows[v]), beside, textcoords="offset points", fontsize=8, zorder=3)
    for k, v in enumerate(tree.leaves.tolist()):
        own = labels == k
        missed = torch.bincount(said[own & wrong], minlength=len(tree.leaves))
        other = f", else mostly {tree.names[int(tree.leaves[missed.argmax()])]}" if missed.any() else ""
        right = f"{100 * float((said[own] == k).float().mean()):.0f} %" if own.any() else "no sample"
        axis.text(x[v] + 0.03, rows[v], f"{tree.names[v]}: {right}{other}", fontsize=8, va="center")
    found = Mistakes(
        float((~wrong).float().mean()),
        mistake_severity(said, labels, tree),
        {tree.names[v]: share[v] for v in range(len(tree)) if v not in leaf},
    )
    axis.set_title(
        f"{title}: {100 * found.accuracy:.1f} % right; where what was said and what is true meet, in % of the mistakes",
        fontsize=9,
    )
    axis.set(xlim=(-0.1, deepest + 0.9))
    axis.invert_yaxis()
    axis.axis("off")
    write(figure, path)
    return found


def places(tree: LabelTree) -> list[float]:
    """The row of each node: leaves of one branch stand together, and a node stands in the middle of its children."""
    below: dict[int, list[int]] = {}
    for v, up in enumerate(tree.parent.tolist()):
        below.setdefault(up, []).append(v)
    rows, free = [0.0] * len(tree), 0
    todo = [(tree.root, False)]
    while todo:
        v, back = todo.pop()
        if v not in below:
            rows[v], free = float(free), free + 1
        elif back:
            rows[v] = sum(rows[child] for child in below[v]) / len(below[v])
        else:
            todo += [(v, True), *((child, False) for child in reversed(below[v]))]
    return rows

"""Direction as a property of the data: how much the classes of a node's directed neighbourhoods say, before any network is trained.

    h(S) = mean_u Σ_v S_uv [y_u = y_v] / Σ_v S_uv,   S one of A, Aᵀ, A Aᵀ, Aᵀ A, A A, Aᵀ Aᵀ

A survey sorts networks of directed graphs into message-passing, eigenpolynomial and sequence-based ones, and asks of each what it does to
the data. Where a directed pattern is purer than the undirected graph, directions are worth keeping.

H. Sun, X. Li, D. Su, J. Han, R. Li, G. Wang, Towards Data-centric Machine Learning on Directed Graphs: a Survey, 2024, arXiv:2412.01849.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from scipy import sparse
from torch import Tensor

from ziggurat.graphs.adjacency import adjacency

DIRECTED, UNDIRECTED = ("A", "Aᵀ", "A Aᵀ", "Aᵀ A", "A A", "Aᵀ Aᵀ"), ("U", "U U")
KEEP, DROP = "keep directions", "make it undirected"


@dataclass(frozen=True)
class DirectionProfile:
    """What `direction_profile` found.

    Arguments:
        reciprocity: share of the edges that have one in the other direction.
        homophily: of each pattern, `DIRECTED` and `UNDIRECTED` (U = A or Aᵀ).
        informativeness: what the class of a node's neighbour tells of its own, between 0 and 1, of each pattern.
        effective: the highest homophily of a directed pattern.
        gain: how far it is above that of the undirected graph U, as a fraction of that.
        advice: "keep directions" or "make it undirected".
    """

    reciprocity: float
    homophily: dict[str, float]
    informativeness: dict[str, float]
    effective: float
    gain: float
    advice: str


def direction_profile(data: Any, nodes: Bool[Tensor, " N"] | None = None, margin: float = 0.05) -> DirectionProfile:
    """Measures the patterns of a directed graph with classes `data.y`.

    Arguments:
        data: `torch_geometric` graph; classes below 0 are unknown.
        nodes: those whose classes may be looked at, for instance the training nodes; None is all with a class.
        margin: the gain above which the advice is to keep directions.

    Loops, repeated edges and edge weights do not count, and no node is its own neighbour in a product. Nothing of the size of a product is
    formed. Raises a `ValueError` where no two of the nodes are joined.
    """
    matrix = adjacency(data).tolil()
    matrix.setdiag(0)
    a = matrix.tocsr()
    a.eliminate_zeros()
    a.data[:] = 1
    y = torch.as_tensor(data.y).flatten()
    known = ((y >= 0) if nodes is None else (y >= 0) & nodes).numpy()
    if not known.any():
        raise ValueError("no node has a known class; give classes of 0 or more.")
    classes = np.zeros((len(y), int(y.max()) + 1))
    classes[known, y.numpy()[known]] = 1
    t = a.T.tocsr()
    both = a.maximum(t).tocsr()
    factors = {
        "A": (a,), "Aᵀ": (t,), "A Aᵀ": (a, t), "Aᵀ A": (t, a), "A A": (a, a), "Aᵀ Aᵀ": (t, t), "U": (both,), "U U": (both, both),
    }  # fmt: skip
    found = {name: _measures(parts, classes, known) for name, parts in factors.items()}
    homophily = {name: pair[0] for name, pair in found.items()}
    if np.isnan(homophily["U"]):
        raise ValueError("no two nodes with known classes are joined; give more edges or more classes.")
    effective = float(np.nanmax([homophily[name] for name in DIRECTED]))
    gain = effective / max(homophily["U"], 1e-12) - 1
    reciprocity = float(a.multiply(t).sum() / a.sum())
    informativeness = {name: pair[1] for name, pair in found.items()}
    return DirectionProfile(reciprocity, homophily, informativeness, effective, gain, KEEP if gain > margin else DROP)


def _measures(parts: tuple[sparse.csr_matrix, ...], classes: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """Homophily and label informativeness of a product of sparse matrices, its diagonal left out; NaN for an empty one."""
    reached = classes
    for part in reversed(parts):
        reached = part @ reached
    if len(parts) == 2:  # from u back to u
        own = np.asarray(parts[0].multiply(parts[1].T).sum(1))
        reached = reached - own * classes
    reached, own_class = reached[known], classes[known]
    total = reached.sum(1)
    rows = total > 0
    if not rows.any():
        return float("nan"), float("nan")
    homophily = float(((reached * own_class).sum(1)[rows] / total[rows]).mean())
    joint = own_class.T @ reached / total.sum()
    left, right = joint.sum(1), joint.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mutual = np.nansum(joint * np.log(joint / np.outer(left, right)))
        entropy = -np.nansum(left * np.log(left))
    return homophily, float(mutual / entropy) if entropy > 0 else 0.0


def directed_taxonomy() -> dict[str, tuple[str, ...]]:
    """The survey's three frameworks, and the classes of ziggurat that belong to each."""
    room = "ziggurat.graphs.directed"
    return {
        "message-passing": (f"{room}.dir_gnn.DirGNNConv",),
        "eigenpolynomial": (
            f"{room}.magnet.MagNetConv",
            f"{room}.dippr.DiPPRConv",
            f"{room}.holonets.FaberConv",
            f"{room}.resolvent.ResolventConv",
        ),
        "sequence-based": (f"{room}.directed_transformer.DirectedTransformer",),
    }

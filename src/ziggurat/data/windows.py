"""Labels, queries and windows for search under a window filter."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

from ziggurat.data.seeds import derive


def windows_of_share(
    labels: Float64[np.ndarray, " n"], share: float, count: int, seed: int = 0
) -> tuple[Float64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
    """Ends [low, high] of windows that hold a share of the labels, at uniform places of their order; with equal labels they hold more.

    Arguments:
        share: of all points, in (0, 1]; a window holds at least one.
        count: of windows.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}.")
    ordered = np.sort(labels)
    held = max(1, round(share * len(ordered)))
    start = np.random.default_rng(derive(seed, "windows")).integers(len(ordered) - held + 1, size=count)
    return ordered[start], ordered[start + held - 1]


def adversarial_windows(
    clusters: int = 10, each: int = 4000, queries: int = 300, dimensions: int = 48, spread: float = 0.01, seed: int = 0
) -> tuple[
    Float32[np.ndarray, "n d"],
    Float64[np.ndarray, " n"],
    Float32[np.ndarray, "m d"],
    Float64[np.ndarray, " m"],
    Float64[np.ndarray, " m"],
]:
    """Vectors, labels, queries and the ends of windows in which whatever lies near a query has the wrong label.

    Gaussian clusters around random centres, on the unit sphere; a label is its cluster's number plus noise in ± ½. A query lies near
    one cluster and asks for the labels of another, so that a search of all points meets nothing that it may keep.

    Arguments:
        clusters, each: how many, and points of each.
        spread: variance inside a cluster; that of the centres is 1.
    """
    if clusters < 2 or each < 1:
        raise ValueError(f"clusters must be 2 or more and each 1 or more, got {clusters} and {each}.")
    rng = np.random.default_rng(derive(seed, "adversarial"))
    centres = rng.normal(size=(clusters, dimensions))

    def drawn(cluster: np.ndarray) -> np.ndarray:
        x = centres[cluster] + spread**0.5 * rng.normal(size=(len(cluster), dimensions))
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    own = np.repeat(np.arange(clusters), each)
    near = rng.integers(clusters, size=queries)
    asked = (near + rng.integers(1, clusters, size=queries)) % clusters
    return drawn(own), own + rng.uniform(-0.5, 0.5, len(own)), drawn(near), asked - 0.5, asked + 0.5

"""node2vec and DeepWalk from edges to vectors against pecanpy and gensim, on block graphs of 100,000 and 1,000,000 edges.

Both sides take the same graph, the same number and length of walks, window, negatives, dimensions and one thread. A run takes minutes, so
it is repeated three times only; the quality is the AUC of 20,000 hidden links by products of vectors, so that nobody is fast by learning
less. Needs pecanpy and gensim: python -m benchmarks.walks [EDGES ...]
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from unittest.mock import MagicMock

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ziggurat.graphs.embeddings.node2vec import Node2Vec, biased_walks
from ziggurat.metrics.load import busy

DIMENSIONS, WALKS, LENGTH, WINDOW, NEGATIVE, LR = 64, 3, 40, 10, 5, 0.025
HIDDEN, DEGREE, BLOCKS, REPEATS = 20_000, 20, 20, 3


def block_graph(edges: int, seed: int = 0) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """(graph, hidden links, unlinked pairs): nine links of ten lie inside one of the blocks."""
    nodes, rng = 2 * edges // DEGREE, np.random.default_rng(seed)
    source = rng.integers(nodes, size=edges + HIDDEN)
    inside = rng.random(len(source)) < 0.9
    target = np.where(
        inside, source % BLOCKS + BLOCKS * rng.integers(nodes // BLOCKS, size=len(source)),
        rng.integers(nodes, size=len(source)),
    )  # fmt: skip
    hidden = np.stack([source[:HIDDEN], target[:HIDDEN]])
    half = sparse.coo_matrix((np.ones(edges), (source[HIDDEN:], target[HIDDEN:])), shape=(nodes, nodes)).tocsr()
    graph = ((half + half.T) > 0).astype(np.float64).tocsr()
    graph.setdiag(0)
    graph.eliminate_zeros()
    graph.sort_indices()
    return graph, hidden, rng.integers(nodes, size=(2, HIDDEN))


def auc(vectors: np.ndarray, yes: np.ndarray, no: np.ndarray) -> float:
    """Of a logistic regression on products, trained on one half of the pairs and measured on the other."""
    x = np.concatenate([vectors[a] * vectors[b] for a, b in (yes, no)])
    y = np.repeat([1, 0], [yes.shape[1], no.shape[1]])
    odd = np.arange(len(y)) % 2 == 1
    model = LogisticRegression(max_iter=200).fit(x[~odd], y[~odd])
    return float(roc_auc_score(y[odd], model.decision_function(x[odd])))


def ours(graph: sparse.csr_matrix, p: float, q: float) -> tuple[np.ndarray, float]:
    """(vectors, seconds of the walks alone)."""
    start = time.perf_counter()
    biased_walks(graph, WALKS, LENGTH, p, q, 0)
    walked = time.perf_counter() - start
    model = Node2Vec(DIMENSIONS, WALKS, LENGTH, p, q, WINDOW, NEGATIVE, 1, LR, random_state=0)
    return model.fit(graph).embedding_, walked


def peers(graph: sparse.csr_matrix, p: float, q: float) -> tuple[np.ndarray, float]:
    """pecanpy's walks and gensim's skip-gram; (vectors, seconds of the walks)."""
    sys.modules.setdefault("nptyping", MagicMock())  # names in annotations only; it cannot be had with numpy 2
    from gensim.models import Word2Vec
    from pecanpy import pecanpy

    made = pecanpy.SparseOTF(p, q, workers=1, verbose=False)
    made.indptr, made.indices = graph.indptr.astype(np.uint32), graph.indices.astype(np.uint32)
    made.data = graph.data.astype(np.float32)
    made.set_node_ids([str(i) for i in range(graph.shape[0])])
    made.preprocess_transition_probs()
    start = time.perf_counter()
    walks = made.simulate_walks(num_walks=WALKS, walk_length=LENGTH - 1)
    walked = time.perf_counter() - start
    model = Word2Vec(
        walks, vector_size=DIMENSIONS, window=WINDOW, min_count=0, sg=1, hs=0, negative=NEGATIVE, workers=1, epochs=1,
        alpha=LR, seed=0,
    )  # fmt: skip
    order = [model.wv.key_to_index[str(i)] for i in range(graph.shape[0])]
    return model.wv.vectors[order], walked


def compare(edges: int, name: str, p: float, q: float) -> None:
    """Both sides in turn; medians, ratio and quality."""
    graph, yes, no = block_graph(edges)
    sides: dict[str, Callable] = {"ziggurat": ours, "pecanpy + gensim": peers}
    small = block_graph(2_000)[0]
    for side in sides.values():
        side(small, p, q)  # compiles
    before, seconds = busy(), {side: [] for side in sides}
    found: dict[str, tuple[np.ndarray, float]] = {}
    for _ in range(REPEATS):
        for side, function in sides.items():
            start = time.perf_counter()
            found[side] = function(graph, p, q)
            extra = found[side][1] if side == "ziggurat" else 0.0  # its walks were timed apart, and walked twice
            seconds[side].append(time.perf_counter() - start - extra)
    print(f"\n{name}, {graph.nnz // 2:,} edges, {graph.shape[0]:,} nodes, p = {p}, q = {q}")
    peer = statistics.median(seconds["pecanpy + gensim"])
    for side, times in seconds.items():
        vectors, walked = found[side]
        rate = WALKS * graph.shape[0] / walked
        print(
            f"  {side:18} median {statistics.median(times):8.2f} s   ratio {statistics.median(times) / peer:6.3f}"
            f"   {rate:12,.0f} walks a second   AUC {auc(vectors, yes, no):.4f}"
        )
    if reason := before or busy():
        print(f"  not judged: {reason}")


def main(sizes: tuple[int, ...] = (100_000, 1_000_000)) -> None:
    """DeepWalk and node2vec at each size."""
    missing = [name for name in ("pecanpy", "gensim") if not importlib.util.find_spec(name)]
    if missing:
        print(f"walks: {', '.join(missing)} absent, so there is nothing to compare with.")
        return
    for edges in sizes:
        compare(edges, "DeepWalk", 1.0, 1.0)
        compare(edges, "node2vec", 0.25, 4.0)


if __name__ == "__main__":
    main(tuple(int(size) for size in sys.argv[1:]) or (100_000, 1_000_000))

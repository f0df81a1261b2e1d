import sys
from unittest.mock import MagicMock

import networkx as nx
import numpy as np
import pytest
from scipy import sparse

from ziggurat.graphs.embeddings.node2vec import step_probabilities


@pytest.mark.fact("node2vec", 4)
@pytest.mark.parametrize(("p", "q"), [(0.25, 4.0), (4.0, 0.5)])
def test_pecanpy_has_the_same_table(p, q, monkeypatch):
    monkeypatch.setitem(
        sys.modules, "nptyping", MagicMock()
    )  # names in annotations only; it cannot be had with numpy 2
    peer = pytest.importorskip("pecanpy.rw", reason="peer: pecanpy is absent")
    a = sparse.csr_matrix(nx.to_numpy_array(nx.karate_club_graph()))
    indptr, indices, data = a.indptr.astype(np.uint32), a.indices.astype(np.uint32), a.data.astype(np.float32)
    for t, v in zip(*a.nonzero(), strict=True):
        theirs = peer.SparseRWGraph.get_normalized_probs(data.copy(), indices, indptr, p, q, v, t, None)
        np.testing.assert_allclose(step_probabilities(a, int(t), int(v), p, q)[1], theirs, atol=1e-6)

import numpy as np
import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.graphs.traffic import diffused_traffic


def test_traffic_moves_along_the_edges_with_their_delays():
    quiet = diffused_traffic(300, 20, entries=4, noise=0.0, seed=3)
    x, edges = quiet.x.double(), quiet.edge_index
    assert x.shape == (300, 20) and edges.shape == (2, 40) and set(quiet.delay.tolist()) == {1, 2, 3}
    out = torch.zeros(20).index_add(0, edges[0], quiet.edge_weight)
    torch.testing.assert_close(out, torch.ones(20))
    entries = set(range(0, 20, 5))
    for v in range(20):
        moved = torch.zeros(290, dtype=torch.float64)
        for e in (edges[1] == v).nonzero().flatten().tolist():
            d = int(quiet.delay[e])
            moved += 0.95 * quiet.edge_weight[e].double() * x[10 - d : 300 - d, edges[0, e]]
        left = x[10:, v] - moved
        if v in entries:
            assert float(left.min()) > -1e-4 and float(left.max()) > 1
        else:
            assert float(left.abs().max()) < 1e-4


def test_noise_and_seeds():
    quiet, loud = (diffused_traffic(2000, noise=noise, seed=1).x for noise in (0.0, 0.1))
    assert float((loud - quiet).std() / quiet.std()) == pytest.approx(0.1, rel=0.05)
    assert torch.equal(diffused_traffic(50, seed=1).x, diffused_traffic(50, seed=1).x)
    assert not torch.equal(diffused_traffic(50, seed=1).x, diffused_traffic(50, seed=2).x)
    assert np.isfinite(loud.numpy()).all()
    with value_error("nodes must be 8 or more"):
        diffused_traffic(nodes=4)

import pytest
import torch

from ziggurat.learning.metric.distances import euclidean
from ziggurat.nn.losses.tuplets import mean_of_active, triplet_margin

peer = pytest.importorskip("pytorch_metric_learning.losses", reason="peer: pytorch-metric-learning is absent")


def test_same_triplet_loss_as_the_authors():
    z = torch.nn.functional.normalize(torch.randn(24, 8), dim=1)
    i = torch.arange(12)
    triplets = torch.stack([i, i + 12, (i + 5) % 12 + 12], 1)
    ours = mean_of_active(triplet_margin(euclidean(z, z), triplets, 0.1))
    theirs = peer.TripletMarginLoss(margin=0.1)(embeddings=z, indices_tuple=tuple(triplets.T))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)

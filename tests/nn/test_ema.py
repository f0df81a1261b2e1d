import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.nn.ema import EMA


def test_weights_follow_slowly_and_buffers_at_once():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    slow = EMA(network, 0.9)
    before = slow.network[0].weight.clone()
    with torch.no_grad():
        network[0].weight.add_(1.0)
    network(torch.randn(8, 3))
    slow.update(network)
    torch.testing.assert_close(slow.network[0].weight, 0.9 * before + 0.1 * network[0].weight)
    assert torch.equal(slow.network[1].running_mean, network[1].running_mean)
    slow.update(network, momentum=0.0)
    torch.testing.assert_close(slow.network[0].weight, network[0].weight)


def test_it_is_a_copy_without_gradient():
    network = nn.Linear(3, 2)
    slow = EMA(network)
    assert not any(p.requires_grad for p in slow.parameters()) and all(p.requires_grad for p in network.parameters())
    x = torch.randn(2, 3, requires_grad=True)
    assert torch.equal(slow(x), network(x)) and not slow(x).requires_grad
    with value_error("momentum must be between 0 and 1"):
        EMA(network, 1.5)

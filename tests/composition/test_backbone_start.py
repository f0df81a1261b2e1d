"""Every Staged network of images as it starts: activations that neither die out nor explode, and memory in either order."""

from itertools import pairwise

import pytest
import torch

from tests.composition.test_backbones import BACKBONES, backbone, images, short

SMALLEST, LARGEST = 0.05, 20.0
"""Factor between the spread of one stage's activations and the next one's. (Poincaré balls end at radius 1, so they cannot explode.)"""


@pytest.mark.parametrize("path", BACKBONES, ids=short)
def test_activations_neither_die_out_nor_explode_with_depth(path):
    network = backbone(path).train()  # in evaluation untouched statistics would normalise nothing
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(16, *images(path).shape[1:], generator=generator)
    with torch.no_grad():
        spreads = [float(feature.std()) for feature in network.forward_features(x)]
    for before, after in pairwise(spreads):
        assert SMALLEST < after / before < LARGEST, spreads
    assert all(1e-3 < spread < 1e3 for spread in spreads), spreads


@pytest.mark.parametrize("path", BACKBONES, ids=short)
def test_channels_last_gives_the_same_output(path):
    network, x = backbone(path).eval(), images(path)
    with torch.inference_mode():
        expected = network(x)
        last = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)

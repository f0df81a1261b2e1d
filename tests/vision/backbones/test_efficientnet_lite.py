import pytest
import torch

from ziggurat.nn import count_parameters, macs
from ziggurat.vision.backbones.efficientnet_lite import (
    EfficientNetLite0,
    features,
    normalised,
    pretrained_efficientnet_lite0,
)


def test_counts():
    with torch.device("meta"):
        network = EfficientNetLite0()
    assert count_parameters(network) == 4_652_008
    assert macs(network, torch.empty(1, 3, 224, 224, device="meta")) == 385_187_552
    assert (network.channels, network.strides) == ((16, 24, 40, 112, 320), (2, 4, 8, 16, 32))


def test_preparation_of_images():
    grey = torch.full((2, 1, 10, 10), 127 / 255)
    assert normalised(grey, 32).shape == (2, 3, 32, 32) and normalised(grey, 32).abs().max() < 1e-6
    assert normalised(torch.ones(1, 3, 32, 32), 32).max() == pytest.approx(1.0)


def test_public_weights_know_a_temple_and_a_daisy():
    from sklearn.datasets import load_sample_images

    try:
        network = pretrained_efficientnet_lite0()
    except FileNotFoundError:
        pytest.skip("data: the weights of efficientnet_lite0 are absent")
    pictures = torch.stack([torch.from_numpy(i[:, 106:533].copy()) for i in load_sample_images().images])
    x = normalised(pictures.permute(0, 3, 1, 2).float() / 255, 224)
    assert network(x).argmax(1).tolist() == [698, 985]  # palace, daisy
    assert features(network, torch.rand(2, 1, 28, 28), 64).shape == (2, 1280)

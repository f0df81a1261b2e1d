import torch

from tests.data import load_or_skip
from ziggurat.vision.backbones.pretrained_resnet20 import normalised, pretrained_cifar_resnet20


def test_it_knows_cifar10():
    images = load_or_skip("cifar10", "test").subset(slice(0, 300))
    with torch.inference_mode():
        right = pretrained_cifar_resnet20()(normalised(images.inputs(slice(None)))).argmax(1) == images.labels
    assert float(right.float().mean()) > 0.75


def test_pixels_are_centred_and_grey_becomes_three_channels():
    x = normalised(torch.full((2, 1, 4, 4), 0.485))
    assert x.shape == (2, 3, 4, 4) and torch.allclose(x[:, 0], torch.zeros(2, 4, 4), atol=1e-6)

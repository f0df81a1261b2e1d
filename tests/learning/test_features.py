import torch
from torch import nn

from ziggurat.learning.features import frozen
from ziggurat.testing import example_images


def test_frozen_features_are_kept_until_weights_images_or_name_change(tmp_path):
    torch.manual_seed(0)
    network, images, calls = nn.Linear(3, 2), example_images(10), []

    def function(x):
        calls.append(len(x))
        return network(x.mean((2, 3)))

    first = frozen(network, function, images, "means", 4, tmp_path)
    assert calls == [4, 4, 2]
    assert torch.equal(first, function(images.inputs(slice(None))).detach())
    calls.clear()
    assert torch.equal(frozen(network, function, images, "means", 4, tmp_path), first)
    assert calls == []
    frozen(network, function, images, "other", 4, tmp_path)
    frozen(network, function, images.subset(torch.arange(9)), "means", 4, tmp_path)
    with torch.no_grad():
        network.bias += 1
    assert torch.allclose(frozen(network, function, images, "means", 4, tmp_path), first + 1)
    assert len(list(tmp_path.iterdir())) == 4

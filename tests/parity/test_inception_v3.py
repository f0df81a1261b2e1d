import pytest
import torch

from ziggurat.catalogue import translate
from ziggurat.vision.backbones.inception.inception_v3 import KEYS, InceptionV3

torchvision = pytest.importorskip("torchvision", reason="peer: torchvision is absent")


def randomised(network):
    """Normalisations with statistics and scales of a trained network's size."""
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.normal_(part.bias, 0, 0.1)
    return network.eval()


def test_same_logits_as_torchvision():
    torch.manual_seed(0)
    peer = torchvision.models.inception_v3(weights=None, aux_logits=True, init_weights=False)
    for part in peer.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
    randomised(peer)
    ours = InceptionV3(auxiliary=True).eval()
    ours.load_state_dict(translate(peer.state_dict(), KEYS), strict=True)
    x = torch.randn(2, 3, 299, 299)
    with torch.no_grad():
        want = peer(x)
        assert float(want.std()) > 1e-2
        torch.testing.assert_close(ours(x), want, atol=1e-4, rtol=1e-4)
        middle = ours.forward_features(x)
        torch.testing.assert_close(ours.auxiliary(middle), peer.AuxLogits(middle[1]), atol=1e-4, rtol=1e-4)

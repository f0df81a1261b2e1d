import pytest
import torch

from ziggurat.catalogue import translate
from ziggurat.vision.backbones import wide_resnet
from ziggurat.vision.backbones.resnet import KEYS

torchvision = pytest.importorskip("torchvision", reason="peer: torchvision is absent")


@pytest.mark.parametrize("name", ["wide_resnet50_2", "wide_resnet101_2"])
def test_same_logits_as_torchvision(name):
    torch.manual_seed(0)
    peer = getattr(torchvision.models, name)(weights=None, num_classes=20).eval()
    for part in peer.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.2, 0.6)
    ours = getattr(wide_resnet, name)(num_classes=20).eval()
    ours.load_state_dict(translate(peer.state_dict(), KEYS), strict=True)
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        want = peer(x)
        assert float(want.std()) > 1e-2
        torch.testing.assert_close(ours(x), want, atol=1e-4, rtol=1e-4)

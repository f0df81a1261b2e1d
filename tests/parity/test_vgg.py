import pytest
import torch

from ziggurat.catalogue import translate
from ziggurat.vision.backbones import vgg

torchvision = pytest.importorskip("torchvision", reason="peer: torchvision is absent")


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg16_bn"])
def test_same_logits_as_torchvision(name):
    torch.manual_seed(0)
    peer = getattr(torchvision.models, name)(weights=None, num_classes=20).eval()
    for part in peer.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
    ours = getattr(vgg, name)(num_classes=20).eval()
    ours.load_state_dict(translate(peer.state_dict(), ours.key_map()), strict=True)
    for size in (224, 160):
        x = torch.randn(1, 3, size, size)
        with torch.no_grad():
            want = peer(x)
            assert float(want.std()) > 1e-3
            torch.testing.assert_close(ours(x), want, atol=1e-4, rtol=1e-4)

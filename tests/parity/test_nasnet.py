import pytest
import torch

from ziggurat.catalogue import translate
from ziggurat.vision.backbones.nasnet import KEYS, nasnet_a_large

timm = pytest.importorskip("timm", reason="peer: timm is absent")


@pytest.mark.parametrize("size", [64, 99])
def test_same_logits_as_timm(size):
    from timm.models.nasnet import NASNetALarge

    torch.manual_seed(0)
    # pad_type "" pads both sides; timm's own "same" imitates TensorFlow, and counts the border in strided average pools
    peer = NASNetALarge(num_classes=10, pad_type="").eval()
    for part in peer.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.3, 0.7)
            torch.nn.init.normal_(part.bias, 0, 0.1)
    ours = nasnet_a_large(num_classes=10).eval()
    ours.load_state_dict(translate(peer.state_dict(), KEYS), strict=True)
    x = torch.randn(1, 3, size, size)
    with torch.no_grad():
        want = peer(x)
        assert float(want.std()) > 1e-2
        torch.testing.assert_close(ours(x), want, atol=1e-4, rtol=1e-4)

import pytest
import torch

from ziggurat.catalogue import translate
from ziggurat.vision.backbones.inception import inception_resnet, inception_v4

timm = pytest.importorskip("timm", reason="peer: timm is absent")


@pytest.mark.parametrize(
    "name, make, keys",
    [
        ("inception_v4", inception_v4.InceptionV4, inception_v4.KEYS),
        ("inception_resnet_v2", inception_resnet.InceptionResNetV2, inception_resnet.KEYS),
    ],
)
def test_same_logits_as_timm(name, make, keys):
    torch.manual_seed(0)
    peer = timm.create_model(name, pretrained=False).eval()
    for part in peer.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.normal_(part.bias, 0, 0.1)
    ours = make().eval()
    ours.load_state_dict(translate(peer.state_dict(), keys), strict=True)
    x = torch.randn(1, 3, 139, 171)
    with torch.no_grad():
        want = peer(x)
        assert float(want.std()) > 1e-2
        torch.testing.assert_close(ours(x), want, atol=1e-4, rtol=1e-4)

"""Our MobileNet against timm's, with random weights."""

import pytest
import torch

from ziggurat.catalogue import translate
from ziggurat.vision.backbones.mobilenet import KEYS, MobileNet

timm = pytest.importorskip("timm", reason="peer: timm is absent")


@pytest.mark.parametrize("act", [torch.nn.ReLU, torch.nn.ReLU6])
def test_equal_logits_with_timm_weights(act):
    torch.manual_seed(0)
    theirs = timm.create_model("mobilenetv1_100", num_classes=7, act_layer=act).eval()
    for part in theirs.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
    ours = MobileNet(num_classes=7, act=act).eval()
    ours.load_state_dict(translate(theirs.state_dict(), KEYS), strict=True)
    x = torch.randn(2, 3, 128, 128)
    with torch.inference_mode():
        want = theirs(x)
        assert float(want.std()) > 1e-2
        torch.testing.assert_close(ours(x), want, atol=1e-4, rtol=1e-4)

"""Our Xception against timm's, with random weights."""

import pytest
import torch

from ziggurat.catalogue import translate
from ziggurat.vision.backbones.xception import KEYS, Xception

timm = pytest.importorskip("timm", reason="peer: timm is absent")


def test_equal_logits_with_timm_weights():
    torch.manual_seed(0)
    theirs = timm.create_model("legacy_xception", num_classes=7).eval()
    for part in theirs.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.5, 1.0)
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
    ours = Xception(num_classes=7).eval()
    ours.load_state_dict(translate(theirs.state_dict(), KEYS), strict=True)
    x = torch.randn(2, 3, 149, 149)
    with torch.inference_mode():
        want = theirs(x)
        assert float(want.std()) > 1e-2
        torch.testing.assert_close(ours(x), want, atol=1e-4, rtol=1e-4)

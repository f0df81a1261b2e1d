"""Our ResNeSts against timm's, with random weights."""

import pytest
import torch

from ziggurat.catalogue import translate
from ziggurat.vision.backbones import resnest

timm = pytest.importorskip("timm", reason="peer: timm is absent")

NAMES = {
    "resnest14": "resnest14d",
    "resnest50": "resnest50d",
    "resnest101": "resnest101e",
    "resnest50_fast_1s4x24d": "resnest50d_1s4x24d",
    "resnest50_fast_4s2x40d": "resnest50d_4s2x40d",
}


@pytest.mark.parametrize("name", NAMES)
def test_equal_logits_with_timm_weights(name):
    torch.manual_seed(0)
    theirs = timm.create_model(NAMES[name], num_classes=7).eval()
    for part in theirs.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            part.weight.data.uniform_(0.5, 1)
    ours = getattr(resnest, name)(num_classes=7).eval()
    ours.load_state_dict(translate(theirs.state_dict(), resnest.KEYS), strict=True)
    x = torch.rand(2, 3, 96, 80)
    with torch.inference_mode():
        want = theirs(x)
        torch.testing.assert_close(ours(x), want, atol=1e-4 * float(want.abs().max()), rtol=0)

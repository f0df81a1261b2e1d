"""Our ResNeXts against torchvision's, with random weights."""

import pytest
import torch

from ziggurat.catalogue import translate
from ziggurat.vision.backbones import resnext

models = pytest.importorskip("torchvision.models", reason="peer: torchvision is absent")


@pytest.mark.parametrize("name", ["resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"])
def test_equal_logits_with_torchvision_weights(name):
    torch.manual_seed(0)
    theirs = getattr(models, name)(num_classes=7).eval()
    for part in theirs.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            part.weight.data.uniform_(0.5, 1)
    ours = getattr(resnext, name)(num_classes=7).eval()
    ours.load_state_dict(translate(theirs.state_dict(), resnext.KEYS), strict=True)
    x = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        want = theirs(x)
        torch.testing.assert_close(ours(x), want, atol=1e-4 * float(want.abs().max()), rtol=0)

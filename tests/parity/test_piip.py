"""PIIP's branches, our vision transformers with a class token, against timm's, with random weights."""

import pytest
import torch

from ziggurat.catalogue import translate
from ziggurat.vision.backbones.transformers import vit

timm = pytest.importorskip("timm", reason="peer: timm is absent")


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "vit_small_patch16_224"])
def test_equal_logits_with_timm_weights(name):
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=7).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    ours = getattr(vit, f"class_token_vit_{name.split('_')[1]}")(num_classes=7).eval()
    ours.load_state_dict(translate(theirs.state_dict(), vit.KEYS), strict=True)
    x = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        want = theirs(x)
        torch.testing.assert_close(ours(x), want, atol=1e-4 * float(want.abs().max()), rtol=0)

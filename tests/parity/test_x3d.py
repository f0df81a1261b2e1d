import pytest
import torch
from torch import nn

from ziggurat.vision.video.x3d import X3D, from_pytorchvideo


@pytest.mark.parametrize(("width", "depth"), ((2.0, 2.2), (2.9, 1.0)))
def test_pytorchvideo_agrees(width, depth):
    peer = pytest.importorskip("pytorchvideo.models.x3d", reason="peer: pytorchvideo is absent")
    torch.manual_seed(0)
    theirs = peer.create_x3d(
        input_clip_length=4, input_crop_size=64, model_num_class=7, width_factor=width, depth_factor=depth,
        head_activation=None,
    ).eval()  # fmt: skip
    for part in theirs.modules():
        if isinstance(part, nn.BatchNorm3d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.1)
            nn.init.normal_(part.running_mean, 0, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    ours = X3D(7, width=width, depth=depth).eval()
    ours.load_state_dict(from_pytorchvideo(theirs.state_dict()), strict=True)
    x = torch.rand(2, 3, 4, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=1e-4)

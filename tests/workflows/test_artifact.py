"""What a checkpoint does to pictures before its network sees them."""

import pytest
import torch

from tests.typecheck import value_error
from tests.untrained import untrained


def test_pictures_are_brought_to_the_size_of_the_network():
    artifact = untrained("mlp")  # 8 × 8, grey
    for shape in ((8, 8), (8, 4), (4, 8), (5, 5), (16, 8), (30, 20)):
        assert artifact.prepare(torch.rand(2, 1, *shape)).shape == (2, 1, 8, 8), shape
    x = torch.rand(2, 1, 8, 8)
    assert artifact.prepare(x) is x
    halves = torch.cat([torch.zeros(1, 1, 8, 2), torch.ones(1, 1, 8, 2)], 3)
    assert artifact.prepare(halves)[0, 0, :, [0, 7]].tolist() == [[0, 1]] * 8


def test_grey_and_colour_are_brought_to_each_other():
    grey, colour = untrained("mlp"), untrained("mlp", "digits")
    colour.shape = type(colour.shape)("image", (), 3, 8)
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(grey.prepare(x), x.mean(1, keepdim=True))
    assert colour.prepare(x) is x
    assert torch.equal(colour.prepare(x[:, :1]), x[:, :1].expand(-1, 3, -1, -1))


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_are_refused(channels):
    """A fourth channel, transparency for instance, is not thrown away, and the first one is not taken for all."""
    grey, colour = untrained("mlp"), untrained("mlp", "digits")
    colour.shape = type(colour.shape)("image", (), 3, 8)
    for artifact in (grey, colour):
        with value_error(rf"images have {channels} channels.* 1 \(grey\) or 3 \(colour\)"):
            artifact.prepare(torch.rand(1, channels, 8, 8))


def test_as_many_channels_as_the_network_takes_pass():
    artifact = untrained("mlp")
    artifact.shape = type(artifact.shape)("image", (), 4, 8)
    assert artifact.prepare(torch.rand(1, 4, 8, 8)).shape == (1, 4, 8, 8)

"""torch.compile takes every Staged network of images whole, without a break in its graph."""

import pytest
import torch

from tests.composition.test_backbones import BACKBONES, backbone, images, short


@pytest.mark.untyped
@pytest.mark.parametrize("path", BACKBONES, ids=short)
def test_compiles_whole_and_gives_the_same_output(path):
    torch._dynamo.reset()
    network, x = backbone(path).eval(), images(path)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), network(x), rtol=1e-4, atol=1e-5)

import pytest
import torch
from torch.nn.functional import conv2d, interpolate

from tests.typecheck import value_error
from ziggurat.nn import count_parameters
from ziggurat.vision.necks.fpn import FPN

WIDTHS, STRIDES = (8, 12, 16, 20), (4, 8, 16, 32)


def maps(height=70, width=45, batch=2, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, c, -(-height // s), -(-width // s), generator=g, dtype=dtype)
        for c, s in zip(WIDTHS, STRIDES, strict=True)
    ]


@pytest.mark.fact("fpn", 1)
def test_published_counts():
    assert count_parameters(FPN((256, 512, 1024, 2048), STRIDES)) == 3_344_384
    assert count_parameters(FPN((64, 128, 256, 512), STRIDES)) == 2_607_104


@pytest.mark.fact("fpn", 2)
def test_the_neck_is_an_affine_map():
    neck = FPN(WIDTHS, STRIDES, 6, "pool").double()
    x, y = maps(), maps(seed=1)
    for a in (-0.7, 0.3, 2.0):
        mixed = neck([a * p + (1 - a) * q for p, q in zip(x, y, strict=True)])
        for got, p, q in zip(mixed, neck(x), neck(y), strict=True):
            torch.testing.assert_close(got, a * p + (1 - a) * q)


@pytest.mark.fact("fpn", 3)
def test_equals_torchvision_with_its_weights():
    ops = pytest.importorskip("torchvision.ops", reason="peer: torchvision is absent")
    from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

    neck, peer = FPN(WIDTHS, STRIDES, 6, "pool"), ops.FeaturePyramidNetwork(list(WIDTHS), 6, LastLevelMaxPool())
    with torch.no_grad():
        for i in range(4):
            for own, theirs in ((neck.lateral, peer.inner_blocks), (neck.output, peer.layer_blocks)):
                own[str(i)].weight.copy_(theirs[i][0].weight)
                own[str(i)].bias.copy_(theirs[i][0].bias)
    x = maps(dtype=torch.float32)
    want = list(peer({str(i): m for i, m in enumerate(x)}).values())
    for got, expected in zip(neck(x), want, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_against_the_formula_on_odd_sizes():
    neck, x = FPN(WIDTHS, STRIDES, 6, "pool").double(), maps()
    m = None
    levels = []
    for i in (3, 2, 1, 0):
        lateral = conv2d(x[i], neck.lateral[str(i)].weight, neck.lateral[str(i)].bias)
        m = lateral if m is None else lateral + interpolate(m, size=lateral.shape[2:], mode="nearest")
        levels.insert(0, conv2d(m, neck.output[str(i)].weight, neck.output[str(i)].bias, padding=1))
    levels.append(levels[-1][:, :, ::2, ::2])
    for got, want in zip(neck(x), levels, strict=True):
        torch.testing.assert_close(got, want)
    assert neck.strides == (4, 8, 16, 32, 64) and neck.channels == (6,) * 5


@pytest.mark.fact("fpn", 5)
def test_what_a_level_depends_on():
    neck = FPN(WIDTHS, STRIDES, 6).double()
    x = [m.requires_grad_() for m in maps()]
    coarse = torch.autograd.grad(neck(x)[3].sum(), x, allow_unused=True)
    assert [g is None for g in coarse] == [True, True, True, False]
    fine = torch.autograd.grad(neck(x)[0].square().sum(), x)
    assert all(float(g.abs().sum()) > 0 for g in fine)


def test_ablations_and_extra_levels():
    x = [m.requires_grad_() for m in maps()]
    bottom_up = FPN(WIDTHS, STRIDES, 6, top_down=False).double()
    only = torch.autograd.grad(bottom_up(x)[0].sum(), x, allow_unused=True)
    assert [g is None for g in only] == [False, True, True, True]
    path = FPN(WIDTHS, STRIDES, 6, lateral=False).double()
    assert list(path.lateral) == ["3"]
    from_top = torch.autograd.grad(path(x)[0].sum(), x, allow_unused=True)
    assert [g is None for g in from_top] == [True, True, True, False]
    one = FPN(WIDTHS, STRIDES, 6, single_level=0).double()
    assert one.strides == (4,) and one(x)[0].shape == (2, 6, 18, 12)
    retina = FPN(WIDTHS[1:], STRIDES[1:], 6, "p6p7").double()
    assert retina.strides == (8, 16, 32, 64, 128)
    assert [tuple(p.shape[2:]) for p in retina(x[1:])] == [(9, 6), (5, 3), (3, 2), (2, 1), (1, 1)]


def test_mistakes_are_named():
    with value_error("keep one of them"):
        FPN(WIDTHS, STRIDES, top_down=False, lateral=False)
    with value_error("extra must be"):
        FPN(WIDTHS, STRIDES, extra="more")
    with value_error("every map needs a width and a stride"):
        FPN(WIDTHS, STRIDES[:2])

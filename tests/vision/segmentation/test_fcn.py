import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from tests.typecheck import value_error
from ziggurat.nn.convolutionalize import convolutionalize
from ziggurat.nn.upsampling import BilinearUpsample, bilinear_kernel
from ziggurat.vision.backbones.vgg import VGG
from ziggurat.vision.segmentation.fcn import FCN8s, FCN16s, FCN32s
from ziggurat.vision.segmentation.stitching import shift_and_stitch, with_holes


def small_vgg(padding=1, size=1):
    torch.manual_seed(0)
    return VGG((1,) * 5, (4, 4, 6, 6, 8), 3, hidden=10, size=size, dropout=0.0, padding=padding).double().eval()


def encoder():
    torch.manual_seed(0)
    return VGG((1,) * 5, (4, 4, 6, 6, 8), 0, hidden=0)


@pytest.mark.fact("fcn", 1)
def test_the_classifier_as_convolutions():
    network = small_vgg(size=2)
    dense = convolutionalize(network)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    scores = dense(x)
    assert scores.shape == (2, 3, 1, 1)
    torch.testing.assert_close(scores[:, :, 0, 0], network(x))
    assert dense[-1].weight.data_ptr() == network.head.fc.weight.data_ptr(), "the weights are shared"


@pytest.mark.fact("fcn", 1)
def test_without_padding_scores_equal_those_of_windows():
    network = small_vgg(padding=0, size=1)  # a window of 94 gives one position
    dense = convolutionalize(network)
    side = 94
    x = torch.randn(1, 3, side + 64, side + 40, dtype=torch.float64)
    scores = dense(x)
    assert scores.shape == (1, 3, 3, 2)
    for i in range(3):
        for j in range(2):
            window = x[:, :, 32 * i : 32 * i + side, 32 * j : 32 * j + side]
            torch.testing.assert_close(scores[:, :, i, j], network(window))


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.fact("fcn", 2)
def test_published_counts():
    with torch.device("meta"):
        assert count(FCN32s(21)) == 136_152_917
        assert count(FCN16s(21)) == 134_815_994
        assert count(FCN8s(21)) == 134_489_759


@pytest.mark.fact("fcn", 3)
@pytest.mark.parametrize("factor", [2, 4, 16])
def test_upsampling_starts_bilinear(factor):
    up = BilinearUpsample(2, factor).double()
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(9.0), indexing="ij")
    plane = torch.stack([torch.full((8, 9), 3.0), 2 * y - 0.5 * x + 1])[None].double()
    got = up(plane)
    row = (torch.arange(8 * factor) + 0.5) / factor - 0.5
    column = (torch.arange(9 * factor) + 0.5) / factor - 0.5
    want = torch.stack([torch.full((8 * factor, 9 * factor), 3.0), 2 * row[:, None] - 0.5 * column[None] + 1])[
        None
    ].double()
    inside = slice(factor, -factor)
    torch.testing.assert_close(got[:, :, inside, inside], want[:, :, inside, inside])
    assert float(bilinear_kernel(2 * factor).sum()) == pytest.approx(factor**2)
    off = up.weight.detach().clone()
    off[[0, 1], [0, 1]] = 0
    assert not off.any(), "no class is mixed into another one"


@pytest.mark.fact("fcn", 4)
@pytest.mark.parametrize(("make", "steps"), [(FCN16s, (2, 16)), (FCN8s, (2, 2, 8))])
def test_skips_change_nothing_at_the_start(make, steps):
    plain = FCN32s(3, encoder(), 6, 3).eval()
    nn.init.normal_(plain.score.weight)
    network = make(3, plain.encoder, 6, 3).eval()
    network.hidden, network.score = plain.hidden, plain.score
    x = torch.rand(1, 3, 64, 96)
    scores = plain.score(plain.hidden(plain.encoder.forward_features(x)[-1]))
    for factor in steps:
        scores = BilinearUpsample(3, factor)(scores)
    torch.testing.assert_close(network(x), scores)


@pytest.mark.fact("fcn", 5)
def test_stitching_equals_filters_with_holes():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 2)
    ).double()  # fmt: skip
    x = torch.randn(2, 2, 30, 27, dtype=torch.float64)
    stitched, holes = shift_and_stitch(network, x, 4), with_holes(network)(x)
    height, width = (min(a, b) for a, b in zip(stitched.shape[2:], holes.shape[2:], strict=True))
    assert height >= 12 and width >= 8
    torch.testing.assert_close(stitched[:, :, :height, :width], holes[:, :, :height, :width])
    torch.testing.assert_close(
        holes[:, :, ::4, ::4], network(x)[:, :, : -(-holes.shape[2] // 4), : -(-holes.shape[3] // 4)]
    )


def test_original_padding_aligns_scores_with_the_image():
    """The centre of each score's field of view moves with the crop: a step in the image is found where it is."""
    torch.manual_seed(0)
    for make in (FCN32s, FCN16s, FCN8s):
        network = make(2, encoder(), 6, 7, padding="original").eval()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.constant_(module.weight, 1 / module.weight[0].numel())
                nn.init.zeros_(module.bias)
        x = torch.zeros(1, 3, 256, 256)
        x[:, :, 96:160, 96:160] = 1
        scores = network(x)[0, 0]
        assert scores.shape == (256, 256)
        weight = scores / scores.sum()
        place = (torch.arange(256) + 0.5).to(weight)
        centre = float((weight.sum(1) * place).sum()), float((weight.sum(0) * place).sum())
        assert abs(centre[0] - 128) < 10 and abs(centre[1] - 128) < 10, (make.__name__, centre)


def test_any_size_and_learned_parts():
    network = FCN8s(4, encoder(), 6, 3).eval()
    for size in ((33, 47), (64, 64), (20, 100)):
        assert network(torch.rand(2, 3, *size)).shape == (2, 4, *size)
    assert not network.last.weight.requires_grad and all(up.weight.requires_grad for up in network.ups)
    assert torch.equal(FCN32s(1, encoder(), 6, 3).last(torch.ones(1, 1, 3, 3))[0, 0, 32:64, 32:64], torch.ones(32, 32))
    smooth = interpolate(torch.ones(1, 1, 2, 2), scale_factor=2)
    assert smooth.shape == (1, 1, 4, 4)


def test_skips_are_scaled():
    torch.manual_seed(0)
    network = FCN8s(2, encoder(), 6, 3, scales=(0.01, 0.0001)).eval()
    for conv in network.skip_scores:
        nn.init.normal_(conv.weight)
    plain = FCN8s(2, network.encoder, 6, 3).eval()
    plain.load_state_dict(network.state_dict())
    for conv, scale in zip(plain.skip_scores, (0.01, 0.0001), strict=True):
        conv.weight.data.mul_(scale)
    x = torch.rand(1, 3, 40, 50)
    torch.testing.assert_close(network(x), plain(x))


def test_mistakes_are_named():
    with value_error("padding must be"):
        FCN8s(3, encoder(), padding="none")
    with value_error("strides 8, 16 and 32"):
        FCN8s(3, VGG((1,) * 4, (4,) * 4, 0, hidden=0))
    with value_error("no nn.Flatten"):
        convolutionalize(nn.Sequential(nn.Conv2d(3, 4, 3)))
    with value_error("factor must be even"):
        BilinearUpsample(3, 3)
    with value_error("square map"):
        convolutionalize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6, 2)))

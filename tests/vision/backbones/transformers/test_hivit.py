import pytest
import torch

from tests.typecheck import value_error
from ziggurat.nn import count_parameters
from ziggurat.nn.masking import random_masking, take
from ziggurat.vision.backbones.transformers import hivit
from ziggurat.vision.backbones.transformers.hivit import ITPN, HiViT, RelativeBias
from ziggurat.vision.backbones.transformers.vit import ViT
from ziggurat.vision.detection.detector import Features


def tiny(**options):
    torch.manual_seed(0)
    return HiViT(32, 1, 2, 4, **{"num_classes": 5, "image_size": 64, **options}).eval()


@pytest.mark.fact("itpn", 1)
@pytest.mark.parametrize(("size", "count"), (("base", 78_557_992), ("large", 288_493_576)))
def test_published_counts_of_the_classifier(size, count):
    with torch.device("meta"):
        assert count_parameters(getattr(hivit, f"hivit_{size}")()) == count


@pytest.mark.fact("itpn", 2)
@pytest.mark.parametrize(("size", "count"), (("base", 82_604_160), ("large", 292_450_624)))
def test_published_counts_of_backbone_and_neck(size, count):
    with torch.device("meta"):
        assert count_parameters(getattr(hivit, f"itpn_{size}")()) == count


@pytest.mark.fact("itpn", 3)
def test_levels_of_a_unit_at_224():
    with torch.device("meta"):
        network = hivit.itpn_base()
        levels = network.neck(network.encode(torch.empty(1, 3, 224, 224)))
    assert [tuple(level.tokens.shape[1:]) for level in levels] == [(196, s, s, 256) for s in (4, 2, 1)]


@pytest.mark.fact("itpn", 4)
@pytest.mark.parametrize("relative", (False, True))
def test_kept_units_are_computed_as_if_nothing_were_hidden(relative):
    network, x = tiny(relative_bias=relative).double(), torch.randn(2, 3, 64, 64, dtype=torch.float64)
    kept, _ = random_masking(2, 16)
    whole, part = network.encode(x), network.encode(x, kept)
    for one, other in zip(whole[:2], part[:2], strict=True):
        torch.testing.assert_close(other.tokens, take(one.tokens, kept))
    before = network.stages[2][0](whole[1]).tokens  # merged, in front of the main stage
    torch.testing.assert_close(network.stages[2][0](part[1]).tokens, take(before, kept))
    assert not torch.allclose(part[2].tokens, take(whole[2].tokens, kept))  # here units attend to each other


def test_masked_attention_uses_the_places_of_the_kept_units():
    """All units kept, in another order: the same tokens in that order."""
    network, x = tiny().double(), torch.randn(1, 3, 64, 64, dtype=torch.float64)
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.3)
    order = torch.randperm(16)[None]
    torch.testing.assert_close(network.encode(x, order)[2].tokens, take(network.encode(x)[2].tokens, order))


def test_tokens_are_grouped_by_unit_and_maps_are_in_raster_order():
    network, x = tiny(), torch.randn(1, 3, 32, 64)
    units = network.stem(x)
    assert units.grid == (2, 4) and units.tokens.shape == (1, 8, 4, 4, 8)
    patch = x[0, :, 16 + 4 : 16 + 8, 32 + 8 : 32 + 12].flatten()  # unit (1, 2), its token (1, 2)
    want = network.stem.norm(network.stem.proj.weight.flatten(1) @ patch + network.stem.proj.bias)
    torch.testing.assert_close(units.tokens[0, 6, 1, 2], want)
    torch.testing.assert_close(units.x[0, :, 4 + 1, 8 + 2], want)


def test_neck_is_split_add_perceptrons():
    network, x = ITPN(tiny(), 16).eval(), torch.randn(1, 3, 32, 32)
    neck = network.neck
    x4, x8, x16 = (u.tokens for u in network.encode(x))
    u8 = neck.blocks8(neck.split8(x16) + neck.lateral8(x8))
    u4 = neck.blocks4(neck.split4(u8) + neck.lateral4(x4))
    got = [u.tokens for u in neck(network.encode(x))]
    for level, want in zip(got, (neck.out[0](u4), neck.out[1](u8), neck.out[2](neck.lateral16(x16))), strict=True):
        assert torch.equal(level, want)
    changed = x.clone()
    changed[:, :, :16, :16] += 1  # without the main stage no unit would hear of it
    for block in list(network.stages[2])[2:]:
        torch.nn.init.zeros_(block.attn.proj.weight)
    far = [
        (a - b).abs()[:, 1:].max()
        for a, b in zip(*([u.tokens for u in neck(network.encode(i))] for i in (x, changed)), strict=True)
    ]
    assert not torch.stack(far).any()


def test_classifier_is_the_normalised_mean_of_the_units():
    network, x = tiny(), torch.randn(2, 3, 64, 64)
    mean = network.encode(x)[2].tokens.mean((1, 2, 3))
    torch.testing.assert_close(network(x), network.head.classifier.fc(network.head.norm(mean)))


@pytest.mark.parametrize(("height", "width"), ((64, 64), (65, 47), (16, 96)))
def test_any_size_goes(height, width):
    backbone = tiny()
    x = torch.rand(2, 3, height, width)
    assert backbone(x).shape == (2, 5)
    features = Features(ITPN(backbone, 16, extra=2))
    levels = features.eval()(x)
    assert features.strides == (4, 8, 16, 32, 64) and features.channels == (16,) * 5
    for level, stride in zip(levels, features.strides, strict=True):
        assert level.shape == (2, 16, -(-height // stride), -(-width // stride))


def test_relative_bias_is_a_table_of_differences():
    bias = RelativeBias(2, 3)
    torch.nn.init.normal_(bias.table)
    full = bias((3, 3))
    for i, j in ((0, 0), (0, 8), (5, 1)):
        (r, c), (s, d) = divmod(i, 3), divmod(j, 3)
        assert torch.equal(full[0, :, i, j], bias.table[:, r - s + 2, c - d + 2])
    assert bias((2, 5)).shape == (1, 2, 10, 10)


def test_pyramid_and_classifier_share_the_backbone():
    backbone, x = tiny(relative_bias=False), torch.randn(1, 3, 64, 64)
    network = ITPN(backbone, 16, 3).eval()
    before = backbone(x)
    with torch.no_grad():
        network.stem.proj.weight.add_(0.1)
    assert not torch.equal(backbone(x), before) and network(x).shape == (1, 3)


def test_activations_stay_bounded_with_depth_at_the_start():
    features = HiViT(64, 2, 24, 4, image_size=64).encode(torch.randn(4, 3, 64, 64))
    spread = [float(units.tokens.detach().std()) for units in features]
    assert max(spread) < 8 and min(spread) > 0.1


def test_mistakes_are_named():
    with value_error("multiple of 16, got 40"):
        HiViT(40)
    with value_error("a ViT has none"):
        ITPN(ViT(16, 4, 4))

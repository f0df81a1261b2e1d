import pytest
import torch
from torch.nn.functional import interpolate

from tests.typecheck import value_error
from ziggurat.nn import count_parameters
from ziggurat.vision.backbones.transformers import piip
from ziggurat.vision.backbones.transformers.piip import (
    PIIP,
    BidirectionalInteraction,
    DeformableAttention,
    InteractionInjector,
    MergeBranches,
    PIIPClassifier,
    Pyramid,
)
from ziggurat.vision.backbones.transformers.vit import ClassTokenViT, Tokens, ViT, blocks_of
from ziggurat.vision.detection.detector import Features
from ziggurat.vision.necks.simple_fpn import SimpleFPN

SIZES, DIMS = (16, 24, 48), (32, 16, 8)


def branches(make=ClassTokenViT, count=3):
    torch.manual_seed(0)
    return [make(dim, 4, 4, 5, patch=8, image_size=24) for dim in DIMS[-count:]]


def isolated(branch, x):
    """The tokens of a transformer alone."""
    tokens = branch.stem(x)
    for block in blocks_of(branch):
        tokens = block(tokens)
    return tokens


def shaken(network):
    """Every scale that starts at zero, moved."""
    for name, p in network.named_parameters():
        if "gamma" in name:
            torch.nn.init.normal_(p, std=0.5)
    return network


@pytest.mark.fact("piip", 1)
@pytest.mark.parametrize("attention", ("plain", "deformable"))
@pytest.mark.parametrize("make", (ViT, ClassTokenViT))
def test_at_the_start_every_branch_is_its_own_transformer(make, attention):
    own, x = branches(make), torch.rand(2, 3, 48, 48)
    if make is ViT:
        network = PIIP(own, SIZES, 5, interactions=2, heads=4, attention=attention).eval()
        groups = list(network.stages[0])[:-1]
    else:
        network = PIIPClassifier(own, SIZES, interactions=2, heads=4, attention=attention).eval()
        groups = list(network.groups)
    pyramid = network.stem(x)
    for group in groups:
        pyramid = group(pyramid)
    images = [interpolate(x, (size, size), mode="bilinear", align_corners=False) for size in SIZES[:2]] + [x]
    for branch, image, tokens in zip(own, images, pyramid.branches, strict=True):
        assert torch.equal(tokens.tokens, isolated(branch, image).tokens)
    before = network(x)
    assert not torch.allclose(shaken(network)(x), before)


@pytest.mark.fact("piip", 2)
def test_logits_are_the_mean_of_the_branches_heads_which_read_the_class_token():
    own, x = branches(), torch.rand(2, 3, 48, 48)
    network = shaken(PIIPClassifier(own, SIZES, interactions=2, heads=4)).eval()
    pyramid = network.groups(network.stem(x))
    each = [b.head.fc(b.head.norm(t.tokens[:, 0])) for b, t in zip(own, pyramid.branches, strict=True)]
    torch.testing.assert_close(network(x), (each[0] + each[1] + each[2]) / 3)
    fresh = PIIPClassifier(branches(), SIZES, interactions=2, heads=4).eval()
    alone = [b(interpolate(x, (s, s), mode="bilinear")) for b, s in zip(branches(), SIZES, strict=True)]
    torch.testing.assert_close(fresh(x), torch.stack(alone).mean(0))


@pytest.mark.fact("piip", 4)
def test_token_counts_of_the_presets():
    with torch.device("meta"):
        network = piip.piip_tsb()
        tokens = network.stem(torch.empty(1, 3, 368, 368)).branches
    assert [t.grid[0] * t.grid[1] for t in tokens] == [64, 144, 529]
    assert [t.tokens.shape[1:] for t in tokens] == [(65, 768), (145, 384), (530, 192)]


@pytest.mark.fact("piip", 3)
def test_presets_are_their_branches_and_the_interactions():
    counts = {192: 5_717_416, 384: 22_050_664, 768: 86_567_656, 1024: 304_326_632}
    with torch.device("meta"):
        network = piip.piip_tsb()
        units = sum(count_parameters(unit) for group in network.groups for unit in group.units)
        assert len(network.groups) == 12
        assert count_parameters(network) - units == sum(counts[dim] for dim in (768, 384, 192))
        dense = piip.piip_sbl_dense()
    assert (dense.channels, dense.strides) == ((1024,), (16,))
    assert [len(blocks) for blocks in dense.stages[0][0].blocks] == [2, 1, 1]


@pytest.mark.fact("piip", 5)
def test_one_branch_is_the_transformer():
    vit, x = branches(ViT, 1)[0], torch.rand(2, 3, 48, 48)
    network = PIIP([vit], [48], 5, interactions=2)
    network.head.load_state_dict(vit.head.state_dict())
    assert torch.equal(network.eval()(x), vit.eval()(x))
    single = branches(ClassTokenViT, 1)[0].eval()
    assert torch.equal(PIIPClassifier([single], [48], interactions=2).eval()(x), single(x))


@pytest.mark.fact("piip", 5)
@pytest.mark.parametrize(("height", "width"), ((48, 48), (65, 47), (96, 32)))
def test_the_map_has_the_grid_of_the_largest_image(height, width):
    network = PIIP(branches(ViT), SIZES, 5, interactions=2, heads=4).eval()
    (feature,) = network.forward_features(torch.rand(2, 3, height, width))
    assert feature.shape == (2, 32, -(-height // 8), -(-width // 8))


def test_both_sides_of_an_interaction_read_what_the_other_was_before():
    unit, x1, x2 = BidirectionalInteraction(8, 4, heads=2), torch.randn(2, 8, 3, 3), torch.randn(2, 4, 5, 6)
    shaken(unit)
    y1, y2 = unit(x1, x2)
    torch.testing.assert_close(y1, unit.into_large(x1, unit.to_large(x2)))
    torch.testing.assert_close(y2, unit.into_small(x2, unit.to_small(x1)))
    assert not torch.allclose(y2, unit.into_small(x2, unit.to_small(y1)))


def test_pairs_are_taken_from_the_finest_to_the_coarsest():
    network, order = PIIPClassifier(branches(), SIZES, interactions=2, heads=4), []
    for i, unit in enumerate(network.groups[0].units):
        unit.register_forward_hook(lambda *_, i=i: order.append(i))
    network(torch.rand(1, 3, 48, 48))
    assert order == [1, 0] and not network.groups[1].units


def test_injector_against_its_formula():
    injector = shaken(InteractionInjector(8, heads=2)).double()
    q, f = torch.randn(2, 8, 3, 4, dtype=torch.float64), torch.randn(2, 8, 2, 2, dtype=torch.float64)
    y = q + injector.gamma1.scale.view(-1, 1, 1) * injector.attn(injector.norm_query(q), injector.norm_other(f))
    y = y + injector.gamma2.scale.view(-1, 1, 1) * injector.ffn(injector.norm(y))
    torch.testing.assert_close(injector(q, f), y)


def test_deformable_attention_against_a_naive_loop():
    layer = DeformableAttention(8, heads=2, points=3, ratio=0.5).double()
    for p in layer.parameters():
        torch.nn.init.normal_(p, std=0.7)
    x, other = torch.randn(1, 8, 2, 3, dtype=torch.float64), torch.randn(1, 8, 4, 5, dtype=torch.float64)
    values = layer.value(other)[0]

    def pixel(channel, row, column):
        inside = 0 <= row < 4 and 0 <= column < 5
        return float(values[channel, row, column].detach()) if inside else 0.0

    def between(channel, row, column):
        top, left = int(torch.floor(torch.tensor(row))), int(torch.floor(torch.tensor(column)))
        return sum(
            pixel(channel, top + i, left + j)
            * (1 - abs(row - top - i)) * (1 - abs(column - left - j))
            for i in (0, 1) for j in (0, 1)
        )  # fmt: skip

    want = torch.zeros(1, 8, 2, 3, dtype=torch.float64)
    for i in range(2):
        for j in range(3):
            steps = layer.offsets(x[0, :, i, j]).view(2, 3, 2)
            share = layer.weights(x[0, :, i, j]).view(2, 3).softmax(1)
            mixed = torch.zeros(4, dtype=torch.float64)
            for head in range(2):
                for point in range(3):
                    column = (j + 0.5) / 3 * 5 - 0.5 + float(steps[head, point, 0].detach())
                    row = (i + 0.5) / 2 * 4 - 0.5 + float(steps[head, point, 1].detach())
                    for c in range(2):
                        mixed[2 * head + c] += share[head, point].detach() * between(2 * head + c, row, column)
            want[0, :, i, j] = layer.proj(mixed)
    torch.testing.assert_close(layer(x, other), want)


def test_points_start_as_a_star_that_counts_equally():
    layer = DeformableAttention(16, heads=4, points=2)
    star = layer.offsets(torch.randn(16)).view(4, 2, 2).detach()
    torch.testing.assert_close(star[0], torch.tensor([[1.0, 0], [2, 0]]))
    torch.testing.assert_close(star[1], torch.tensor([[0.0, 1], [0, 2]]), atol=1e-6, rtol=0)
    assert not layer.weights(torch.randn(16)).any()


def test_merged_map_is_the_weighted_sum_at_the_width_of_the_widest():
    for dims in (DIMS, DIMS[::-1]):  # inverted, and the ordinary pyramid
        merge = MergeBranches(dims).double()
        torch.nn.init.normal_(merge.weights)
        maps = [torch.randn(2, dim, side, side, dtype=torch.float64) for dim, side in zip(dims, (2, 3, 6), strict=True)]
        tokens = tuple(Tokens(m.flatten(2).transpose(1, 2), m.shape[2:]) for m in maps)
        widest = dims.index(32)
        assert [isinstance(branch, torch.nn.GroupNorm) for branch in merge.branches] == [i == widest for i in range(3)]
        want = sum(
            w * interpolate(branch(m), (6, 6), mode="bilinear")
            for w, branch, m in zip(merge.weights, merge.branches, maps, strict=True)
        )
        torch.testing.assert_close(merge(Pyramid(tokens)), want)


def test_merged_map_is_a_pyramid_for_detectors():
    network = PIIP(branches(ViT), SIZES, 0, interactions=2, heads=4)
    features = Features(network, SimpleFPN(network.channels, network.strides)).eval()
    levels = features(torch.rand(1, 3, 48, 64))
    assert features.strides == (2, 4, 8, 16) and features.channels == (32,) * 4
    assert [tuple(level.shape[2:]) for level in levels] == [(24, 32), (12, 16), (6, 8), (3, 4)]


def test_mistakes_are_named():
    with value_error("as many image sizes, from small to large"):
        PIIP(branches(ViT), (48, 24, 16))
    with value_error("cannot be cut into 3 equal groups"):
        PIIPClassifier(branches(), SIZES, interactions=3, heads=4)
    with value_error("'plain' or 'deformable'"):
        InteractionInjector(8, 2, "sparse")
    with value_error("must be a multiple of 4"):
        SimpleFPN((8,), (6,))

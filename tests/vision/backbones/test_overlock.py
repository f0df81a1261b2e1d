import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.data.batch import Batch
from ziggurat.learning.supervised import Supervised
from ziggurat.nn import LayerScale, count_parameters, macs
from ziggurat.vision.backbones.overlock import OverLoCK, overlock_b, overlock_s, overlock_t, overlock_xt
from ziggurat.vision.backbones.overlock_blocks import FocusBlock, Guided, RepConvBlock

PUBLISHED = {
    overlock_xt: (16_453_712, 17_307_272, 2.6),
    overlock_t: (33_467_040, 34_990_472, 5.5),
    overlock_s: (56_156_452, 58_309_772, 9.7),
    overlock_b: (94_942_528, 98_012_968, 16.7),
}


def small(num_classes: int = 3, auxiliary: bool = False) -> OverLoCK:
    return OverLoCK(
        (1, 1, 1, 1), (2, 2), (8, 8, 16, 16), (2, 2), num_classes, kernels=(5, 5, 5, 5), hidden=12, auxiliary=auxiliary
    )


@pytest.mark.fact("overlock", 1, 2, 5)
@pytest.mark.parametrize("make", PUBLISHED)
def test_published_counts(make):
    with torch.device("meta"):
        merged, training = make(merged=True), make(auxiliary=True)
    cost = macs(merged, torch.empty(1, 3, 224, 224, device="meta")) / 1e9
    assert (count_parameters(merged), count_parameters(training)) == PUBLISHED[make][:2]
    assert cost == pytest.approx(PUBLISHED[make][2], rel=0.05)  # printed with one digit, without the mixing itself


@pytest.mark.fact("overlock", 3)
@pytest.mark.parametrize("size", [64, 40])
@torch.no_grad()
def test_merging_leaves_the_logits_as_they_were(size):
    network, x = small().double(), torch.randn(3, 3, size, size, dtype=torch.float64)
    network.train()(x)  # the statistics leave their start
    network.eval()
    merged = network.reparameterize()
    torch.testing.assert_close(merged(x), network(x))
    assert count_parameters(merged) < count_parameters(network)
    assert not any(name.endswith("branches.0.conv.weight") for name in merged.state_dict())


@pytest.mark.fact("overlock", 6)
def test_gates_and_scales_of_the_official_code():
    with torch.device("meta"):
        network = overlock_xt()
    blocks = [part for part in network.modules() if isinstance(part, RepConvBlock)]
    assert [block.branch[3].reduce.out_features for block in blocks] == [16] * 4 + [32] * 3 + [42] * 2
    assert all(isinstance(block.branch[3].act, nn.GELU) for block in blocks)
    scaled = [isinstance(block.scale, LayerScale) for block in blocks]
    assert scaled == [False] * 4 + [True] * 5  # stages 1 and 2; then stage 3 and the overview
    focus = [part for part in network.modules() if isinstance(part, FocusBlock)]
    assert len(focus) == 8 and all(isinstance(block.scale1, LayerScale) for block in focus)
    scale = small().stages[3][1].scale2
    assert (scale.scale == 1).all() and (scale.shift == 0).all()


def test_levels_are_map_and_context():
    network = small().eval()
    levels = network.forward_features(torch.rand(1, 3, 96, 64))
    assert [tuple(level.shape[1:]) for level in levels] == [(8, 24, 16), (8, 12, 8), (20, 6, 4), (20, 3, 2)]
    assert levels.overview.shape == (1, 16, 3, 2)


def test_the_overview_guides_every_place():
    network = small().double().eval()
    x = torch.rand(1, 3, 96, 96, dtype=torch.float64, requires_grad=True)
    network.forward_features(x)[2][0, :, 0, 0].sum().backward()
    assert x.grad[0, :, -8:, -8:].abs().max() > 0


def test_a_block_adds_the_context_as_it_came_except_the_first():
    start = torch.randn(1, 4, 8, 8)
    given = Guided(torch.randn(1, 20, 8, 8), start, start, torch.empty(0))
    for first in (True, False):
        block = FocusBlock(16, 4, 5, 2, first=first).eval()
        same = torch.equal(block(given).x, block(given._replace(start=start + 1)).x)
        assert same == first


def test_the_second_classifier_is_trained_and_follows_the_classes():
    network = small(3, auxiliary=True)
    batch = Batch((torch.rand(4, 3, 64, 64),), torch.tensor([0, 1, 2, 0]), torch.arange(4))
    losses = Supervised(network).losses(batch)
    assert set(losses) == {"cross_entropy", "auxiliary"} and network.auxiliary_weight == 0.4
    losses["auxiliary"].sum().backward()
    assert network.auxiliary_head.classifier.fc.weight.grad.any() and network.head.classifier.fc.weight.grad is None
    network.reset_classifier(5)
    assert network.auxiliary(network.forward_features(batch.inputs[0])).shape == (4, 5)
    with value_error("auxiliary=True"):
        small().auxiliary(network.forward_features(batch.inputs[0]))


def test_mistakes_are_named():
    with value_error("four depths"):
        OverLoCK((1, 1), (1, 1), (8, 8, 16, 16), (2, 2))
    with value_error("2 or 4"):
        OverLoCK((1,) * 4, (1, 1), (8, 8, 16, 16), (2, 2), stem_stride=3)

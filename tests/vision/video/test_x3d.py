import math
from functools import cache

import pytest
import torch
from torch import nn

from ziggurat.nn import count_parameters, macs
from ziggurat.nn.gates import SqueezeExcite
from ziggurat.vision.video import x3d
from ziggurat.vision.video.x3d import AXES, CLIPS, KEYS, X3D, Expansion, X3DBlock, from_pytorchvideo

PUBLISHED = {
    "x3d_xs": (3_794_274, 605_256_512),
    "x3d_s": (3_794_274, 1_962_892_112),
    "x3d_m": (3_794_274, 4_732_468_736),
    "x3d_l": (6_153_384, 18_367_710_176),
    "x3d_xl": (11_095_840, 35_837_627_616),
}


@cache
def full_size(constructor):
    with torch.device("meta"):
        return constructor()


def tiny(**options):
    return X3D(4, width=1.0, depth=1.0, widths=(8, 16), depths=(1, 2), hidden=16, **options)


@pytest.mark.fact("x3d", 1, 2)
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    frames, _, size = CLIPS[name]
    network, video = full_size(getattr(x3d, name)), torch.empty(1, 3, frames, size, size, device="meta")
    assert (count_parameters(network), macs(network, video)) == PUBLISHED[name]


def test_depths_and_gates_of_every_other_block():
    for name, depths in (("x3d_m", [3, 5, 11, 7]), ("x3d_l", [5, 10, 25, 15])):
        network = full_size(getattr(x3d, name))
        assert [len(stage) for stage in network.stages] == depths
        for stage in network.stages:
            gated = [isinstance(block.gate, SqueezeExcite) for block in stage]
            assert gated == [i % 2 == 0 for i in range(len(stage))]
        assert [stage[0].gate.reduce.out_features for stage in network.stages] == [8, 8, 16, 32]


@pytest.mark.fact("x3d", 3)
@pytest.mark.parametrize("frames", (1, 3, 8))
def test_every_level_keeps_the_length(frames):
    network = X3D(4, width=0.5, depth=1.0, hidden=16).eval()
    features = network.forward_features(torch.rand(1, 3, frames, 65, 47))
    assert [f.shape[2] for f in features] == [frames] * 4
    for feature, stride in zip(features, network.strides, strict=True):
        assert feature.shape[3:] == (math.ceil(65 / stride), math.ceil(47 / stride))


@pytest.mark.fact("x3d", 4)
def test_one_network_takes_clips_of_any_length_and_size():
    network = tiny().eval()
    for shape in ((1, 8, 8), (4, 16, 16), (7, 20, 33)):
        assert network(torch.rand(2, 3, *shape)).shape == (2, 4)
    point = Expansion()
    for axis in ("fast", "temporal", "spatial"):
        changed = AXES[axis](point, 2.0)
        assert (changed.width, changed.bottleneck, changed.depth) == (point.width, point.bottleneck, point.depth)


def test_block_against_a_plain_restatement():
    torch.manual_seed(0)
    block = X3DBlock(4, 6, 8, stride=2).double().eval()
    for part in block.modules():
        if isinstance(part, nn.BatchNorm3d):
            nn.init.normal_(part.weight, 1, 0.2)
            nn.init.normal_(part.running_mean, 0, 0.2)
    x = torch.randn(2, 4, 3, 5, 5, dtype=torch.float64)
    y = torch.einsum("oi,bithw->bothw", block.expand.conv.weight[..., 0, 0, 0], x)
    y = block.expand.norm(y).relu()
    padded, filtered = nn.functional.pad(y, (1,) * 6), torch.zeros(2, 8, 3, 3, 3, dtype=torch.float64)
    for t in range(3):
        for h in range(3):
            for w in range(3):
                window = padded[:, :, t : t + 3, 2 * h : 2 * h + 3, 2 * w : 2 * w + 3]
                filtered[:, :, t, h, w] = (window * block.depthwise.conv.weight[:, 0]).sum((2, 3, 4))
    y = block.depthwise.norm(filtered)
    gate = torch.sigmoid(block.gate.expand(block.gate.reduce(y.mean((2, 3, 4))).relu()))
    y = y * gate[..., None, None, None]
    y = block.project(y * torch.sigmoid(y))
    torch.testing.assert_close(block(x), (block.shortcut(x) + y).relu())


def test_only_wider_shortcuts_are_normalised():
    assert hasattr(X3DBlock(4, 8, 8).shortcut, "norm") and not hasattr(X3DBlock(4, 4, 8, stride=2).shortcut, "norm")
    assert isinstance(X3DBlock(4, 4, 8).shortcut, nn.Identity)


def test_blocks_start_as_their_shortcut_so_that_depth_does_not_change_the_scale():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 16, 16)
    shallow, deep = (X3D(4, width=1.0, depth=d, widths=(8, 16), depths=(1, 1), hidden=16) for d in (1.0, 12.0))
    last = [network.forward_features(x)[-1].detach().std() for network in (shallow, deep)]
    assert 0.2 < float(last[1] / last[0]) < 5


def test_initial_weights_are_the_official_ones():
    """There every 1×1×1 convolution, our linear layers of gates and head too, starts by Kaiming's rule; only the classifier does not."""
    torch.manual_seed(0)
    network = X3D(4, width=2.0, depth=1.0, widths=(16, 32), depths=(1, 1), hidden=64)
    block, head = network.stages[1][0], network.head
    for layer, fan_out in ((block.expand.conv, 144), (block.gate.expand, 144), (head.hidden, 64)):
        assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)
    assert float(head.fc.weight.detach().std()) == pytest.approx(0.01, rel=0.25)
    assert not block.gate.expand.bias.any() and not block.project.norm.weight.any()


def test_the_head_has_no_normalisation_behind_its_hidden_layer():
    head = tiny().head
    assert head.hidden.bias is None and sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in head.modules()) == 1
    network, x = tiny().eval(), torch.rand(1, 3, 2, 16, 16)
    wide = network.head.wide(network.forward_features(x)[-1]).mean((2, 3, 4))
    torch.testing.assert_close(network(x), network.head.fc((wide @ network.head.hidden.weight.T).relu()))


def pytorchvideo_names(network):
    """Our state under pytorchvideo's names and shapes, written down from its code."""
    table = {
        "expand.conv": "branch2.conv_a", "expand.norm": "branch2.norm_a", "depthwise.conv": "branch2.conv_b",
        "depthwise.norm": "branch2.norm_b.0", "gate.reduce": "branch2.norm_b.1.block.0",
        "gate.expand": "branch2.norm_b.1.block.2", "project.conv": "branch2.conv_c", "project.norm": "branch2.norm_c",
        "shortcut.conv": "branch1_conv", "shortcut.norm": "branch1_norm", "stem.space": "blocks.0.conv.conv_t",
        "stem.time": "blocks.0.conv.conv_xy", "stem.norm": "blocks.0.norm", "head.wide.conv": "blocks.5.pool.pre_conv",
        "head.wide.norm": "blocks.5.pool.pre_norm", "head.hidden": "blocks.5.pool.post_conv", "head.fc": "blocks.5.proj",
    }  # fmt: skip
    state = {}
    for name, value in network.state_dict().items():
        part, _, last = name.rpartition(".")
        if part.startswith("stages."):
            _, stage, block, inner = part.split(".", 3)
            part = f"blocks.{int(stage) + 1}.res_blocks.{block}.{table[inner]}"
        else:
            part = table[part]
        if last == "weight" and value.ndim == 2 and not part.endswith("proj"):
            value = value[..., None, None, None]
        state[f"{part}.{last}"] = value
    return state


def test_pytorchvideo_names_load_with_none_left_over():
    network, other = (X3D(5, width=0.7, depth=1.2, hidden=16).eval() for _ in range(2))
    theirs = pytorchvideo_names(network)
    assert "blocks.4.res_blocks.0.branch2.norm_b.1.block.2.bias" in theirs and KEYS
    other.load_state_dict(from_pytorchvideo(theirs), strict=True)
    x = torch.rand(1, 3, 2, 32, 32)
    assert torch.equal(other(x), network(x))


def test_axes_enlarge_one_thing_each():
    point = Expansion(frames=2, every=4.0, size=16)
    assert AXES["fast"](point, 2.0) == Expansion(frames=4, every=2.0, size=16)
    longer = AXES["temporal"](point, 2.0)
    assert longer.frames == 4 and longer.every == pytest.approx(4 / math.sqrt(2))
    assert AXES["spatial"](point, 1.5).size == 24
    assert AXES["width"](point, 1.5).width == 3.0 and AXES["bottleneck"](point, 2.0).bottleneck == 2.0
    assert AXES["depth"](point, 2.0).depth == 2.0

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, cosine_similarity, relu

from tests.typecheck import value_error
from ziggurat.nn import count_parameters
from ziggurat.vision.backbones.hiresnet import HierarchicalResidual, HiResNet, edges, hiresnet18, plain_hiresnet18
from ziggurat.vision.backbones.mobilenet_v2 import MobileNetV2
from ziggurat.vision.backbones.pyramidnet import PyramidNet
from ziggurat.vision.backbones.resnet import ResNet, resnet18
from ziggurat.vision.backbones.resnext import ResNeXt
from ziggurat.vision.backbones.vgg import VGG
from ziggurat.vision.backbones.wide_resnet import WideResNet


def base(shortcut="B", stem="cifar", widths=(4, 6, 8, 10)):
    torch.manual_seed(0)
    network = ResNet("basic", (1, 2, 1, 1), 5, widths=widths, stem=stem, shortcut=shortcut)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


BASES = {
    "resnet": base,
    "plain": lambda: base(shortcut=None),
    "imagenet": lambda: base(stem="imagenet"),
    "resnext": lambda: ResNeXt((1, 1, 1), 2, (2, 4, 8), 5, widths=(4, 8, 16), stem="cifar").eval(),
    "vgg": lambda: VGG((1,) * 4, (4, 6, 8, 8), 5, hidden=0, size=1).eval(),
    "wide_resnet": lambda: WideResNet(10, 1, 5).eval(),
    "pyramidnet": lambda: PyramidNet((1, 1, 1), 6, 5, start=8).eval(),
}


@pytest.mark.fact("hiresnet", 1)
@pytest.mark.parametrize("name", BASES)
def test_without_connections_it_is_the_base(name):
    network = BASES[name]()
    around = HiResNet(network, "none").eval()
    around.load_state_dict(network.state_dict(), strict=True)
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(around(x), network(x)) and around.sequential


@pytest.mark.fact("hiresnet", 2)
def test_the_edges_of_resnet18_cost_what_they_should():
    with torch.device("meta"):
        plain = resnet18(num_classes=10, stem="cifar")
        network = HiResNet(plain)
    assert sum(p.conv.weight.numel() for p in network.residuals.values()) == 172_032
    assert sum(count_parameters(p.norm) for p in network.residuals.values()) == 4_352
    assert count_parameters(network) - count_parameters(plain) == 176_384
    with torch.device("meta"):
        assert count_parameters(hiresnet18()) == count_parameters(network)
        assert plain_hiresnet18(connections="none").stages[1][0].shortcut is None


@pytest.mark.fact("hiresnet", 3)
@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("connections", ["all", "input", "output"])
def test_with_silent_residuals_it_is_the_base(name, connections):
    network = BASES[name]()
    around = HiResNet(network, connections).eval()
    x = torch.rand(2, 3, 45, 64)
    assert not torch.allclose(around(x), network(x))
    for residual in around.residuals.values():
        nn.init.zeros_(residual.norm.weight)
    torch.testing.assert_close(around(x), network(x))


@pytest.mark.fact("hiresnet", 4)
@pytest.mark.parametrize("pooling", ["avg", "max", "stride"])
def test_pooling_keeps_constants_and_its_factors_are_the_strides(pooling):
    network = HiResNet(base(stem="imagenet"), projection=pooling)
    strides = (4, *network.strides)
    assert len(network.residuals) == 6
    for name, residual in network.residuals.items():
        k, level = map(int, name.split("_"))
        factor = strides[level] // strides[k]
        x = torch.full((1, 3, 16, 16), 0.7)
        torch.testing.assert_close(residual.pool(x), torch.full((1, 3, 16 // factor, 16 // factor), 0.7))


def test_pooling_by_kind():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    want = {"avg": [2.5, 4.5, 10.5, 12.5], "max": [5.0, 7.0, 13.0, 15.0], "stride": [0.0, 2.0, 8.0, 10.0]}
    for kind, values in want.items():
        assert HierarchicalResidual(1, 1, 2, kind).pool(x).flatten().tolist() == values


def test_sets_of_edges():
    assert edges(4) == [(0, 2), (0, 3), (1, 3), (0, 4), (1, 4), (2, 4)]
    assert edges(4, "input") == [(0, 2), (0, 3), (0, 4)]
    assert edges(4, "output") == [(0, 4), (1, 4), (2, 4)]
    assert edges(4, "none") == []


def test_the_sum_against_a_plain_restatement():
    torch.manual_seed(1)
    network = base()
    around = HiResNet(network).eval()
    x = torch.rand(2, 3, 16, 16)
    levels = [network.stem(x)]
    for level, stage in enumerate(network.stages, start=1):
        units = list(stage)
        y = levels[-1]
        for unit in units[:-1]:
            y = unit(y)
        y = units[-1].residual(y) + units[-1].shortcut(y)
        for k in range(level - 1):
            p, factor = around.residuals[f"{k}_{level}"], around.strides[level - 1] // (1, *around.strides)[k]
            y = y + p.norm(p.conv(avg_pool2d(levels[k], factor)))
        levels.append(relu(y))
    for ours, theirs in zip(around.forward_features(x), levels[1:], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_share_and_direction_of_the_residuals():
    around = HiResNet(base(), "output").eval()
    x = torch.rand(3, 3, 16, 16)
    shares = around.residual_share(x)
    assert shares.share[:3].tolist() == shares.cosine[:3].tolist() == [0, 0, 0]
    own, total, output = around.parts(x)[-1]
    torch.testing.assert_close(
        shares.share[3], torch.stack([t.norm() / o.norm() for t, o in zip(total, output)]).mean()
    )
    torch.testing.assert_close(shares.cosine[3], cosine_similarity(own.flatten(1), total.flatten(1)).mean())


def test_the_base_is_left_as_it_was():
    network = base()
    x = torch.rand(1, 3, 16, 16)
    before = network(x)
    HiResNet(network)
    assert torch.equal(network(x), before)


def test_one_relu_stands_behind_the_sum():
    around = HiResNet(base(), "output")
    assert [type(act).__name__ for act in around.acts] == ["Identity"] * 3 + ["ReLU"]
    assert isinstance(around.stages[3][0].out, nn.Identity) and isinstance(around.stages[2][0].out, nn.ReLU)
    assert isinstance(HiResNet(BASES["pyramidnet"]()).acts[2], nn.Identity), "its units end without a ReLU"


def test_mistakes_are_named():
    with value_error("'all', 'input', 'output' or 'none'"):
        HiResNet(base(), "some")
    with value_error("'avg', 'max' or 'stride'"):
        HiResNet(base(), projection="mean")
    with value_error("MobileNetV2 cannot take hierarchical residuals"):
        HiResNet(MobileNetV2(3, table=((1, 8, 1, 1), (1, 8, 1, 2)), stem=8, last=16))

import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.catalogue import build, translate
from ziggurat.nn import count_parameters, macs
from ziggurat.vision.backbones import vgg as module
from ziggurat.vision.backbones.vgg import KEYS, VGG, A, D, E, ScaleJitter, multi_scale, paper_init, rescale

PUBLISHED = {
    "vgg11": (132_863_336, 7_609_090_048),
    "vgg13": (133_047_848, 11_308_466_176),
    "vgg16": (138_357_544, 15_470_264_320),
    "vgg19": (143_667_240, 19_632_062_464),
}
SMALL = (4, 4, 6, 6, 8)


def small(depths=A, **options):
    torch.manual_seed(0)
    return VGG(depths, SMALL, 3, hidden=10, dropout=0.0, **options).eval()


@pytest.mark.fact("vgg", 1, 2)
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    with torch.device("meta"):
        network = getattr(module, name)()
    assert (count_parameters(network), macs(network, torch.empty(1, 3, 224, 224, device="meta"))) == PUBLISHED[name]


@pytest.mark.fact("vgg", 3)
def test_published_counts_with_normalisation():
    with torch.device("meta"):
        assert count_parameters(module.vgg11_bn()) == 132_868_840
        assert count_parameters(module.vgg16_bn()) == 138_365_992


def test_c_is_b_with_1x1_convolutions_and_as_large_as_the_paper_prints():
    with torch.device("meta"):
        network = module.vgg16_1x1()
    kernels = [m.kernel_size[0] for m in network.stages.modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [3, 3, 3, 3, 3, 3, 1, 3, 3, 1, 3, 3, 1]
    assert round(count_parameters(network) / 1e6) == 134


@pytest.mark.fact("vgg", 4)
def test_three_layers_see_as_far_as_one_of_seven_with_fewer_weights():
    channels = 4
    stack = nn.Sequential(*(nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(3)))
    x = torch.zeros(1, channels, 15, 15, requires_grad=True)
    stack(x)[0, :, 7, 7].sum().backward()
    seen = x.grad.abs().sum((0, 1)) > 0
    assert seen.sum() == 49 and seen[4:11, 4:11].all()
    assert count_parameters(stack) == 27 * channels**2
    assert count_parameters(nn.Conv2d(channels, channels, 7, bias=False)) == 49 * channels**2


@pytest.mark.fact("vgg", 5)
def test_dense_evaluation_of_a_training_image_is_the_classifier():
    network = small(size=7).double()
    dense = network.to_fully_convolutional()
    x = torch.rand(2, 3, 224, 224, dtype=torch.float64)
    torch.testing.assert_close(dense(x), network(x), rtol=1e-12, atol=1e-12)
    scores = dense.scores(torch.rand(1, 3, 256, 320, dtype=torch.float64))
    assert scores.shape == (1, 3, 2, 4)


def torchvision_names(network):
    """Our state under torchvision's names, which number the layers of all stages through."""
    state, begin = {}, 0
    for i, stage in enumerate(network.stages):
        for j, layer in enumerate(stage):
            for name, value in layer.state_dict().items():
                state[f"features.{begin + j}.{name}"] = network.stages[i][j].state_dict()[name]
                assert value.shape == state[f"features.{begin + j}.{name}"].shape
        begin += len(stage)
    places = {"layers.1": "classifier.0", "layers.4": "classifier.3", "fc": "classifier.6"}
    for name, value in network.head.state_dict().items():
        head, _, kind = name.rpartition(".")
        state[f"{places[head]}.{kind}"] = value
    return state


@pytest.mark.parametrize(("depths", "norm"), [(A, None), (D, None), (D, nn.BatchNorm2d), (E, None)])
def test_torchvision_names_load_by_the_key_map_with_none_left_over(depths, norm):
    network = small(depths, norm=norm)
    theirs = torchvision_names(network)
    if depths == D and norm is None:
        assert {"features.28.weight", "features.17.bias", "classifier.6.weight"} < set(theirs)
        assert network.key_map() == KEYS
    other = VGG(depths, SMALL, 3, hidden=10, norm=norm).eval()
    other.load_state_dict(translate(theirs, other.key_map()), strict=True)
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(other(x), network(x))


def test_taps_by_name():
    network = small(D)
    x = torch.rand(1, 3, 64, 80)
    maps = network.taps(x, ["conv4_3", "relu4_3", "pool5"])
    torch.testing.assert_close(maps["relu4_3"], maps["conv4_3"].relu())
    assert torch.equal(maps["pool5"], network.forward_features(x)[-1])
    levels = network.levels()
    assert levels == ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3", "pool5")
    shapes = [tuple(m.shape[1:]) for m in network.taps(x, levels).values()]
    assert shapes == [(4, 64, 80), (4, 32, 40), (6, 16, 20), (6, 8, 10), (8, 4, 5), (8, 2, 2)]
    with value_error("no map relu4_4"):
        network.taps(x, ["relu4_4"])


def test_response_norm_against_a_naive_loop():
    network = small(response_norm=True).double()
    maps = network.taps(torch.rand(1, 3, 32, 32, dtype=torch.float64), ["relu1_1", "lrn1_1"])
    x = maps["relu1_1"][0]
    for c in range(4):
        near = sum(x[d] ** 2 for d in range(max(0, c - 2), min(4, c + 3)))
        torch.testing.assert_close(maps["lrn1_1"][0, c], x[c] / (2 + 1e-4 * near) ** 0.75)
    assert sum(name.startswith("lrn") for name, _ in network.named_layers()) == 1


def test_activations_keep_their_size_by_kaimings_rule_and_die_out_from_the_papers_start():
    torch.manual_seed(0)
    network = VGG(E, (16,) * 5, 10, hidden=64, size=1).eval()
    x = torch.randn(4, 3, 32, 32)
    last = network.forward_features(x)[-1]
    assert 0.1 < last.std() < 10
    paper_init(network)
    assert network.forward_features(x)[-1].std() < 1e-6


def test_deeper_nets_start_from_net_a():
    deep, shallow = small(D), small(A)
    paper_init(deep, shallow)
    own, given = dict(deep.named_layers()), dict(shallow.named_layers())
    for name in ("conv1_1", "conv2_1", "conv3_1", "conv3_2"):
        assert torch.equal(own[name].weight, given[name].weight)
    assert torch.equal(deep.head.layers[1].weight, shallow.head.layers[1].weight)
    assert own["conv4_1"].weight.std() < 0.02 < given["conv4_1"].weight.std()


def test_scale_jitter_gives_crops_of_every_size():
    torch.manual_seed(0)
    jitter = ScaleJitter(32, 64, 28)
    ramp = torch.linspace(0, 1, 48).expand(1, 3, 40, 48)
    crops = jitter(ramp.repeat(16, 1, 1, 1))
    assert crops.shape == (16, 3, 28, 28)
    spans = crops[:, 0, 0].amax(1) - crops[:, 0, 0].amin(1)
    assert 0.3 < spans.min() < 0.45 and 0.6 < spans.max() < 0.75, "27 of 77, to 27 of 38 pixels"
    assert ScaleJitter(28, 28, 28)(ramp).shape == (1, 3, 28, 28)
    assert rescale(ramp, 20).shape == (1, 3, 20, 24)


def test_multi_scale_is_the_mean_over_scales_and_mirror_images():
    network = small(size=1).to_fully_convolutional()
    x = torch.rand(2, 3, 40, 48)
    expected = sum(network(rescale(v, s)).softmax(1) for s in (32, 48) for v in (x, x.flip(3))) / 4
    torch.testing.assert_close(multi_scale(network, x, (32, 48)), expected)


def test_a_5x5_control_keeps_the_sizes_and_the_gap_head_needs_no_hidden_layers():
    network = VGG(((5,),) * 4, (4, 4, 6, 8), 3, hidden=0, size=1)
    assert [f.shape[-1] for f in network.forward_features(torch.rand(1, 3, 16, 16))] == [8, 4, 2, 1]
    assert network.num_features == 8 and network.head.fc.in_features == 8
    assert build("vgg16", widths=SMALL, hidden=8, size=1, num_classes=0).num_features == 8


def test_mistakes_are_named():
    with value_error("5 stages need as many widths"):
        VGG(A, (4, 4))
    with value_error("32 pixels or more, got 31×40"):
        small(size=1)(torch.rand(1, 3, 31, 40))
    with value_error("94 pixels or more"):
        VGG((1,) * 5, SMALL, 3, hidden=4, size=1, padding=0)(torch.rand(1, 3, 93, 94))
    with value_error("crop of 224 needs 224 ≤ smallest"):
        ScaleJitter(192)

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.catalogue import translate
from ziggurat.nn import count_parameters
from ziggurat.nn.operators.non_local import NonLocal
from ziggurat.vision.backbones.resnet import ResNet, resnet50
from ziggurat.vision.video import c2d
from ziggurat.vision.video.c2d import C2D, KEYS, non_local_c2d, non_local_places

TINY = {"num_classes": 5, "layers": (1, 2, 2, 1), "widths": (4, 6, 8, 8)}


def on_meta(constructor, **named):
    with torch.device("meta"):
        return constructor(**named)


def test_table_1_and_the_parameters_of_a_residual_network():
    network = on_meta(C2D)
    shapes = [tuple(f.shape[1:]) for f in network.forward_features(torch.empty(1, 3, 32, 224, 224, device="meta"))]
    assert shapes == [(256, 8, 56, 56), (512, 4, 28, 28), (1024, 4, 14, 14), (2048, 4, 7, 7)]
    assert count_parameters(network) == count_parameters(on_meta(resnet50, num_classes=400))


@pytest.mark.parametrize("blocks", [1, 5, 10])
def test_where_the_blocks_stand(blocks):
    network = on_meta(getattr(c2d, f"c2d_resnet50_nl{blocks}"))
    at = {
        stage: [int(name.removesuffix("_attached")) + 1 for name, m in part.named_children() if isinstance(m, NonLocal)]
        for stage, part in enumerate(network.stages)
    }
    res3, res4 = {1: ([], [5]), 5: ([2, 4], [2, 4, 6]), 10: ([1, 2, 3, 4], [1, 2, 3, 4, 5, 6])}[blocks]
    assert at == {0: [], 1: res3, 2: res4, 3: []}
    added = len(res3) * count_parameters(NonLocal(512)) + len(res4) * count_parameters(NonLocal(1024))
    assert count_parameters(network) - count_parameters(on_meta(C2D)) == added


def test_weights_of_images_load_by_name_and_a_still_video_is_its_image():
    torch.manual_seed(0)
    images = ResNet("bottleneck", TINY["layers"], 5, widths=TINY["widths"]).eval()
    network = C2D(**TINY).eval()
    theirs = {
        name.replace("stem.0.conv", "conv1").replace("stages.0", "layer1"): v for name, v in images.state_dict().items()
    }
    network.load_state_dict(translate(theirs, KEYS), strict=True)
    x = torch.rand(2, 3, 64, 48)
    torch.testing.assert_close(network(x[:, :, None].expand(-1, -1, 8, -1, -1)), images(x))


def test_non_local_blocks_start_silent_and_then_look_across_frames():
    torch.manual_seed(0)
    network, plain = non_local_c2d(10, **TINY).eval(), C2D(**TINY).eval()
    missing, unexpected = network.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all("_attached." in name for name in missing)
    x = torch.rand(1, 3, 16, 32, 32)
    torch.testing.assert_close(network(x), plain(x))
    for block in network.modules():
        if isinstance(block, NonLocal):
            torch.nn.init.ones_(block.norm.weight)
            torch.nn.init.ones_(block.value.weight)
            torch.nn.init.ones_(block.out.weight)
    other = x.clone()
    other[:, :, 12:] = 0
    plain_first, first = (n.forward_features(x)[2][:, :, 0] for n in (plain, network))
    plain_other, changed = (n.forward_features(other)[2][:, :, 0] for n in (plain, network))
    assert torch.equal(plain_first, plain_other) and not torch.allclose(first, changed)


def test_only_the_papers_numbers_of_blocks():
    with value_error("the paper has 1, 5 or 10 blocks"):
        non_local_places(C2D(**TINY), 3)

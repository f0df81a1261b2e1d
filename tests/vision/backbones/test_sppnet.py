import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.nn import MLP, Staged, count_parameters
from ziggurat.nn.operators.spatial_pyramid_pool import SpatialPyramidPool
from ziggurat.vision.backbones.efficientnet_lite import EfficientNetLite0
from ziggurat.vision.backbones.mobilenet_v2 import MobileNetV2
from ziggurat.vision.backbones.resnet import ResNet
from ziggurat.vision.backbones.sppnet import RandomSize, SPPNet, sppnet_vgg16
from ziggurat.vision.backbones.vgg import VGG
from ziggurat.vision.backbones.wide_resnet import WideResNet

BACKBONES = {
    "resnet": lambda: ResNet("basic", (1, 1), widths=(4, 8), stem="cifar"),
    "mobilenet_v2": lambda: MobileNetV2(table=((1, 8, 1, 1), (2, 8, 2, 2)), stem=8, last=16),
    "vgg": lambda: VGG((1, 1), (4, 8), hidden=16),
    "wide_resnet": lambda: WideResNet(10, 1),
    "efficientnet_lite0": EfficientNetLite0,
}


@pytest.mark.parametrize("name", BACKBONES)
def test_any_backbone_takes_any_size(name):
    backbone = BACKBONES[name]()
    network = SPPNet(backbone, 5, levels=(3, 1), hidden=(7,)).eval()
    for size in ((48, 48), (40, 72), (33, 90)):
        x = torch.rand(2, 3, *size)
        features = network.forward_features(x)
        want = backbone.eval().forward_features(x)
        assert all(torch.equal(a, b) for a, b in zip(features, want, strict=True))
        assert network(x).shape == (2, 5) and network.forward_head(features, pre_logits=True).shape == (2, 7)
    names = {name.split(".")[0] + "." + name.split(".")[1] for name, _ in network.named_parameters()}
    assert names <= {"backbone.stem", "backbone.stages", "head.layers", "head.classifier"}
    assert count_parameters(backbone) > count_parameters(network.backbone)


def test_what_the_fully_connected_layers_see():
    backbone = BACKBONES["resnet"]()
    network = SPPNet(backbone, 0, hidden=()).eval()
    x = torch.rand(2, 3, 30, 22)
    assert torch.equal(network(x), SpatialPyramidPool()(backbone.eval().forward_features(x)[-1]))
    assert network.num_features == 8 * 50
    network.checkpointing = True
    assert network.backbone.checkpointing and torch.equal(network.train()(x), network.train()(x))


def test_a_network_that_is_not_sequential_keeps_all_but_its_head():
    class Twice(Staged):
        sequential = False

        def __init__(self):
            super().__init__()
            self.stem, self.side = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
            self.stages, self.head = nn.ModuleList([nn.Conv2d(4, 4, 1)]), nn.Linear(4, 2)
            self.channels, self.strides, self.num_features = (4,), (1,), 4

        def forward_features(self, x):
            return [self.stages[0](self.stem(x) + self.side(x))]

    backbone = Twice()
    network, x = SPPNet(backbone, 3, (2, 1), ()), torch.rand(1, 3, 5, 5)
    assert torch.equal(network.forward_features(x)[0], backbone.forward_features(x)[0])
    assert not list(network.backbone.head.parameters()) and network(x).shape == (1, 3)


def test_vgg16_has_a_pyramid_in_place_of_its_last_pooling():
    with torch.device("meta"):
        network = sppnet_vgg16()
        assert network.forward_features(torch.empty(1, 3, 224, 224))[-1].shape == (1, 512, 14, 14)
    assert network.strides == (2, 4, 8, 16, 16) and network.smallest == 16
    vgg = 14_714_688  # convolutions of VGG-16
    assert count_parameters(network) == vgg + (512 * 50 + 1) * 4096 + 4097 * 4096 + 4097 * 1000


def test_a_batch_gets_one_of_the_sizes():
    resize, x = RandomSize((24, (16, 40))), torch.rand(2, 3, 24, 24)
    sizes = {tuple(resize(x).shape[2:]) for _ in range(20)}
    assert sizes == {(24, 24), (16, 40)}
    assert torch.equal(RandomSize((24,))(x), x)


def test_mistakes_are_named():
    with value_error("no network of images"):
        SPPNet(MLP(8, 3))
    with value_error("at least one size"):
        RandomSize(())

import pytest
import torch

from ziggurat.catalogue import translate
from ziggurat.nn import count_parameters
from ziggurat.nn.operators.global_context import GCBlock
from ziggurat.vision.backbones.gcnet import KEYS, GCNet, gcnet50, gcnet101
from ziggurat.vision.backbones.resnet import ResNet, resnet101

SMALL = {"layers": (1, 2, 1), "num_classes": 5, "widths": (4, 8, 16), "ratio": 4}


@pytest.mark.fact("gcnet", 2)
def test_published_parameters():
    with torch.device("meta"):
        network, deep, plain = gcnet50(), gcnet101(), resnet101()
    assert count_parameters(network) == 25_557_032 + 2_521_741 == 28_078_773
    blocks = [sum(isinstance(m, GCBlock) for m in stage.modules()) for stage in network.stages]
    assert blocks == [0, 4, 6, 3]
    assert count_parameters(deep) - count_parameters(plain) == 4 * 33_889 + 23 * 133_313 + 3 * 528_769


def test_blocks_stand_before_the_addition():
    torch.manual_seed(0)
    unit = GCNet(**SMALL).stages[1][1].eval()
    unit.attention.transform[-1].bias.data.fill_(3.0)
    x = torch.rand(2, 32, 4, 4)
    branch = unit.bn3(unit.conv3(unit.act2(unit.bn2(unit.conv2(unit.act1(unit.bn1(unit.conv1(x))))))))
    torch.testing.assert_close(unit(x), torch.relu(branch + 3.0 + x))


def test_starts_as_the_residual_network_and_takes_its_weights():
    torch.manual_seed(0)
    network, plain = (make.eval() for make in (GCNet(**SMALL), ResNet("bottleneck", (1, 2, 1), 5, widths=(4, 8, 16))))
    theirs = {
        name.replace("stem.0.conv", "conv1").replace("stem.0.norm", "bn1").replace("head.fc", "fc"): value
        for name, value in plain.state_dict().items()
    }
    missing, unexpected = network.load_state_dict(translate(theirs, KEYS), strict=False)
    assert not unexpected and all(".attention." in name for name in missing)
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(network(x), plain(x))

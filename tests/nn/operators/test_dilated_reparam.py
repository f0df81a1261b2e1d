import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.nn import count_parameters
from ziggurat.nn.operators.dilated_reparam import BRANCHES, DilatedReparamBlock, reparameterized, spread


def learned(kernel: int, channels: int = 6) -> DilatedReparamBlock:
    """A block as after some training: scales, shifts and statistics of its normalisations are not those of the start."""
    block = DilatedReparamBlock(channels, kernel).double().eval()
    for part in block.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.normal_(part.bias)
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return block


@pytest.mark.fact("overlock", 3)
@pytest.mark.parametrize("kernel", BRANCHES)
@torch.no_grad()
def test_merging_leaves_the_output_as_it_was(kernel):
    block, x = learned(kernel), torch.randn(2, 6, 21, 9, dtype=torch.float64)
    want = block(x)
    network = nn.Sequential(block)
    merged = reparameterized(network)
    torch.testing.assert_close(merged(x), want)
    assert len(network[0].branches) == len(BRANCHES[kernel])  # the original is as it was
    assert block.reparameterize() is block and block.reparameterize() is block
    torch.testing.assert_close(block(x), want)
    again = DilatedReparamBlock(6, kernel, merged=True).double()
    again.load_state_dict(block.state_dict())
    torch.testing.assert_close(again(x), want)
    assert count_parameters(again) == 6 * (kernel**2 + 1)


@pytest.mark.fact("overlock", 6)
def test_branches_of_the_official_code():
    listed = {
        17: "5/1 7/1 9/2 3/4 3/5 3/7",
        15: "5/1 7/1 7/2 3/3 3/5 3/7",
        13: "5/1 7/1 7/2 3/3 3/4 3/5",
        7: "5/1 3/1 3/2 3/3",
        5: "3/1 3/2",
    }
    for kernel, text in listed.items():
        block = DilatedReparamBlock(2, kernel)
        made = " ".join(f"{b.conv.kernel_size[0]}/{b.conv.dilation[0]}" for b in block.branches)
        assert made == text and all(isinstance(b.norm, nn.BatchNorm2d) for b in block.branches)
        assert all(d * (k - 1) + 1 <= kernel for k, d in BRANCHES[kernel])


def test_a_dilated_kernel_as_a_plain_one():
    weight = torch.arange(1.0, 10).view(1, 1, 3, 3)
    plain = spread(weight, 2, 7)[0, 0]
    assert torch.equal(plain[1:6:2, 1:6:2], weight[0, 0]) and plain.count_nonzero() == 9


def test_other_kernels_are_refused():
    with value_error("one of .5, 7, 9"):
        DilatedReparamBlock(4, 6)

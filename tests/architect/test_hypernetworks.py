import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from tests.typecheck import value_error
from ziggurat.architect import HyperConv2d, HyperLSTM, HyperLSTMCell, HyperResNet, KernelGenerator
from ziggurat.architect.hypernetworks import tile
from ziggurat.nn import count_parameters
from ziggurat.vision.backbones.wide_resnet import WideResNet


@pytest.mark.fact("hypernetworks", 1)
def test_count_of_the_large_kernel():
    assert count_parameters(KernelGenerator(4, 7)) == 4_240
    assert count_parameters(nn.Conv2d(16, 16, 7, bias=False)) == 12_544


@pytest.mark.fact("hypernetworks", 2)
def test_count_of_the_basic_kernel():
    assert count_parameters(KernelGenerator(64, 3)) == 75_920


@pytest.mark.fact("hypernetworks", 3)
def test_counts_of_wide_networks():
    with torch.device("meta"):
        assert count_parameters(WideResNet(40, 1)) == 563_930
        thin, wide = HyperResNet(40, 1), HyperResNet(40, 2)
    assert thin.embeddings.shape == (242, 64) and count_parameters(thin) == 97_770
    assert count_parameters(wide) == 155_626


@pytest.mark.fact("hypernetworks", 4)
def test_counts_of_recurrent_networks():
    with torch.device("meta"):
        cell = HyperLSTMCell(50, 1000, 128, 4)
    softmax = 1000 * 50 + 50
    assert count_parameters(cell) + softmax == 4_911_874
    assert 4 * 1000 * (50 + 1000) + 4 * 1000 + softmax == 4_254_050


@pytest.mark.fact("hypernetworks", 5)
def test_at_the_start_a_step_is_a_scaled_lstm_step():
    torch.manual_seed(0)
    cell = HyperLSTMCell(3, 5, 4, 2).double()
    with torch.no_grad():
        cell.bias.copy_(torch.randn(4, 5))
    x = torch.randn(2, 3, dtype=torch.float64)
    (h, c), small = cell.start(x)
    h, c = torch.randn_like(h), torch.randn_like(c)
    (new_h, new_c), _ = cell(x, ((h, c), small))
    y = 0.1 * (h @ cell.hidden.weight.T + x @ cell.input.weight.T) + cell.bias.flatten()
    i, g, f, o = y.chunk(4, 1)
    want_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    torch.testing.assert_close(new_c, want_c)
    torch.testing.assert_close(new_h, o.sigmoid() * want_c.tanh())


@pytest.mark.fact("hypernetworks", 6)
def test_the_same_embedding_gives_the_same_kernel_and_every_embedding_learns():
    torch.manual_seed(0)
    generator = KernelGenerator(6, 3, 4)
    first, second = HyperConv2d(generator, 4, 8), HyperConv2d(generator, 4, 8, stride=2)
    z = torch.randn(2, 6)
    assert torch.equal(first.weight(z), second.weight(z))
    network = HyperResNet(10, 1, 3, embedding=6, basic=4)
    network(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert (network.embeddings.grad.abs().sum(1) > 0).all()
    assert all(float(p.grad.abs().sum()) > 0 for p in network.generator.parameters())


def test_kernels_against_plain_loops():
    torch.manual_seed(0)
    generator = KernelGenerator(5, 3, 2).double()
    nn.init.normal_(generator.bias)
    z = torch.randn(6, 5, dtype=torch.float64)
    basic = generator(z)
    for t in range(6):
        for i in range(2):
            a = generator.weight[i] @ z[t] + generator.bias[i]
            slice_i = generator.out.weight @ a + generator.out.bias
            torch.testing.assert_close(basic[t, :, i], slice_i.view(2, 3, 3))
    whole = tile(basic, 2)  # 2 × 3 tiles: 4 out, 6 in
    assert whole.shape == (4, 6, 3, 3)
    for r in range(2):
        for q in range(3):
            assert torch.equal(whole[2 * r : 2 * r + 2, 2 * q : 2 * q + 2], basic[3 * r + q])
    layer = HyperConv2d(generator, 6, 4)
    x = torch.randn(1, 6, 7, 7, dtype=torch.float64)
    torch.testing.assert_close(layer(x, z), conv2d(x, whole, padding=1))


def test_generated_kernels_start_at_the_usual_scale():
    torch.manual_seed(0)
    network = HyperResNet(40, 1)
    deviations = [float(k.std()) for k in network.kernels()]
    want = (2 / (9 * 16)) ** 0.5
    assert sum(deviations) / len(deviations) == pytest.approx(want, rel=0.25)


def test_recurrent_network_against_its_formulas_and_in_parts():
    torch.manual_seed(0)
    cell = HyperLSTMCell(3, 5, 4, 2, layer_norm=True).double().eval()
    for p in cell.parameters():
        nn.init.normal_(p)
    lstm, x = HyperLSTM(cell), torch.randn(2, 6, 3, dtype=torch.float64)
    whole, last = lstm(x)
    state = cell.start(x[:, 0])
    for t in range(6):
        (h, c), (hh, cc) = state
        i, g, f, o = cell.small(torch.cat([h, x[:, t], hh], 1)).chunk(4, 1)
        cc = (f + 1).sigmoid() * cc + i.sigmoid() * g.tanh()
        hh = o.sigmoid() * cc.tanh()
        gates = []
        for k in range(4):
            rows = slice(5 * k, 5 * k + 5)
            z = cell.scales(hh)
            z_h, z_x, z_b = z[:, 2 * k : 2 * k + 2], z[:, 8 + 2 * k : 10 + 2 * k], cell.shift(hh)[:, 2 * k : 2 * k + 2]
            y = (z_h @ cell.to_hidden[k].T) * (h @ cell.hidden.weight[rows].T)
            y = y + (z_x @ cell.to_input[k].T) * (x[:, t] @ cell.input.weight[rows].T)
            gates.append(cell.gate_norm[k](y + z_b @ cell.to_bias[k].T + cell.bias[k]))
        c = gates[2].sigmoid() * c + gates[0].sigmoid() * gates[1].tanh()
        h = gates[3].sigmoid() * cell.cell_norm(c).tanh()
        state = (h, c), (hh, cc)
        torch.testing.assert_close(whole[:, t], h)
    first, middle = lstm(x[:, :4])
    second, end = lstm(x[:, 4:], middle)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(end[0][1], last[0][1])


def test_mistakes_are_named():
    with value_error("multiples of the basic 16"):
        HyperConv2d(KernelGenerator(4), 16, 20)
    with value_error("tiled from 2 kernels"):
        HyperConv2d(KernelGenerator(4), 16, 32).weight(torch.zeros(1, 4))
    with value_error("depth must be 6n"):
        HyperResNet(41)
    with value_error("x must be"):
        HyperLSTM(HyperLSTMCell(3, 4, 2))(torch.zeros(2, 5, 4))

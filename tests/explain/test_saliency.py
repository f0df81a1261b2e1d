import itertools

import numpy as np
import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.explain import class_model_visualisation, deconvnet_map, saliency_map, saliency_segmentation
from ziggurat.explain.saliency import score_gradient
from ziggurat.explain.segmentation import largest_component, mask_boxes, minimum_cut
from ziggurat.vision.backbones.resnet import cifar_resnet


def linear(channels=3, size=4, classes=5):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes))


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * 4, 4),
    )  # fmt: skip


@pytest.mark.fact("saliency", 1)
def test_of_a_linear_classifier_is_its_weight_whatever_the_image():
    network = linear()
    expected = network[1].weight.view(5, 3, 4, 4).abs().amax(1)
    for x in (torch.zeros(2, 3, 4, 4), torch.randn(2, 3, 4, 4)):
        torch.testing.assert_close(saliency_map(network, x, 3), expected[3].expand(2, 4, 4))


@pytest.mark.fact("saliency", 2)
def test_is_the_largest_absolute_gradient_over_channels():
    network, x = small().double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    classes = network(x).argmax(1)
    for i in range(2):
        image = x[i : i + 1].clone().requires_grad_()
        network(image)[0, classes[i]].backward()
        expected = torch.zeros(8, 8, dtype=torch.float64)
        for a, b in itertools.product(range(8), range(8)):
            expected[a, b] = max(abs(float(image.grad[0, c, a, b])) for c in range(3))
        torch.testing.assert_close(saliency_map(network, x)[i], expected)


class Changed(nn.Module):
    def __init__(self, network, scale=1.0, shift=0.0):
        super().__init__()
        self.network, self.scale, self.shift = network, scale, shift

    def forward(self, x):
        return self.network(x) * self.scale + self.shift


@pytest.mark.fact("saliency", 3)
def test_shift_of_all_logits_changes_nothing_and_scale_scales():
    network, x = small(), torch.randn(2, 3, 8, 8)
    base = saliency_map(network, x, 1)
    torch.testing.assert_close(saliency_map(Changed(network, shift=7.0), x, 1), base)
    torch.testing.assert_close(saliency_map(Changed(network, scale=-2.5), x, 1), 2.5 * base)
    softmax = nn.Sequential(network, nn.Softmax(1))
    shifted = nn.Sequential(Changed(network, shift=7.0), nn.Softmax(1))
    torch.testing.assert_close(saliency_map(shifted, x, 1), saliency_map(softmax, x, 1), atol=1e-6, rtol=1e-4)


@pytest.mark.fact("saliency", 4)
def test_without_relu_the_deconvnet_is_the_gradient_and_with_it_the_rule_differs():
    x = torch.randn(2, 3, 8, 8)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    torch.testing.assert_close(deconvnet_map(plain, x, 2), score_gradient(plain, x, 2))
    rectified = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    signal = (rectified[3].weight[2].view(4, 6, 6)).clamp_min(0).expand(2, 4, 6, 6)
    expected = nn.functional.conv_transpose2d(signal, rectified[0].weight)
    torch.testing.assert_close(deconvnet_map(rectified, x, 2), expected)
    assert not torch.allclose(deconvnet_map(rectified, x, 2), score_gradient(rectified, x, 2))


def test_leaves_the_network_as_it_was():
    network = cifar_resnet(8, widths=(4, 4, 4))
    network.stem.requires_grad_(False)
    before = [p.requires_grad for p in network.parameters()]
    statistics = network.stem[0].norm.running_mean.clone()
    saliency_map(network, torch.rand(2, 3, 8, 8))
    assert network.training and [p.requires_grad for p in network.parameters()] == before
    assert torch.equal(statistics, network.stem[0].norm.running_mean)
    assert all(p.grad is None for p in network.parameters())


def test_class_model_of_a_linear_score_is_its_weight_over_twice_the_penalty():
    network = linear()
    image = class_model_visualisation(network, 2, (3, 4, 4), penalty=0.1, steps=200)
    torch.testing.assert_close(image, network[1].weight[2].view(3, 4, 4) / 0.2, atol=1e-5, rtol=1e-4)
    mean = torch.tensor([1.0, 2.0, 3.0])
    shifted = class_model_visualisation(network, 2, (3, 4, 4), penalty=0.1, steps=200, mean=mean)
    torch.testing.assert_close(shifted - image, mean.view(3, 1, 1).expand(3, 4, 4), atol=1e-5, rtol=1e-4)


def test_minimum_cut_against_all_labellings():
    rng = np.random.default_rng(0)
    image, outside, inside = rng.random((2, 3, 3)), rng.random((2, 3)) * 3, rng.random((2, 3)) * 3

    def energy(labels):
        total = np.where(labels, inside, outside).sum()
        edges, differences = [], []
        for (a, b), (c, d) in itertools.combinations(itertools.product(range(2), range(3)), 2):
            if max(abs(a - c), abs(b - d)) == 1:
                edges.append(((a, b), (c, d)))
                differences.append(((image[a, b] - image[c, d]) ** 2).sum())
        for ((a, b), (c, d)), difference in zip(edges, differences, strict=True):
            if labels[a, b] != labels[c, d]:
                total += 0.7 * np.exp(-difference / (2 * np.mean(differences))) / np.hypot(a - c, b - d)
        return total

    best = min(energy(np.array(bits).reshape(2, 3)) for bits in itertools.product([False, True], repeat=6))
    assert energy(minimum_cut(image, outside, inside, 0.7)) == pytest.approx(best, abs=1e-2)


def test_cuts_a_coloured_square_out_of_a_few_salient_pixels():
    torch.manual_seed(0)
    images = 0.2 + 0.05 * torch.rand(1, 3, 32, 32)
    images[0, 0, 8:20, 10:26] += 0.7
    maps = 0.01 * torch.rand(1, 32, 32)
    maps[0, 11:17, 13:22] += torch.rand(6, 9)
    masks, boxes = saliency_segmentation(images, maps)
    truth = torch.zeros(32, 32, dtype=torch.bool)
    truth[8:20, 10:26] = True
    assert (masks[0] & truth).sum() / (masks[0] | truth).sum() > 0.95
    assert (boxes[0] - torch.tensor([10.0, 8.0, 26.0, 20.0])).abs().max() <= 1


def test_largest_component_and_boxes():
    mask = np.zeros((6, 6), dtype=bool)
    mask[0, 0] = mask[3:5, 2:5] = True
    assert largest_component(mask).sum() == 6
    assert mask_boxes(torch.tensor(np.stack([mask, np.zeros_like(mask)]))).tolist() == [[0, 0, 5, 5], [0, 0, 0, 0]]
    assert not largest_component(np.zeros((3, 3), dtype=bool)).any()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: saliency_map(linear(), torch.rand(1, 3, 4, 4), 9), "0 … 4"),
        (lambda: saliency_map(nn.Conv2d(3, 2, 1), torch.rand(1, 3, 4, 4)), "classifier on top"),
        (lambda: saliency_segmentation(torch.rand(1, 3, 200, 200), torch.rand(1, 200, 200)), "128 pixels"),
        (
            lambda: saliency_segmentation(torch.rand(1, 3, 8, 8), torch.rand(1, 8, 8), 0.2, 0.5),
            "background < foreground",
        ),
    ],
)
def test_mistakes_are_named(call, says):
    with value_error(says):
        call()

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.explain.fid_classes import (
    draw,
    draw_stratified,
    effective_size,
    fid_sensitivity_map,
    match_histogram,
    resample_to_match,
    top_n_features,
    with_one_more,
)
from ziggurat.metrics.frechet import frechet, frechet_distance, gaussian
from ziggurat.vision.backbones.resnet import cifar_resnet


def test_ones_at_the_largest_or_at_the_middle_ranks():
    logits = torch.tensor([[0.1, 3.0, 2.0, -1.0, 0.5]])
    assert top_n_features(logits, 2).tolist() == [[0, 1, 1, 0, 0]]
    assert top_n_features(logits, 1, skip=2).tolist() == [[0, 0, 0, 0, 1]]


@pytest.mark.fact("fid_classes", 4)
def test_top_1_weights_make_the_histograms_equal():
    real, pool = torch.randint(0, 6, (500,)), torch.randint(0, 5, (900,)) // 2 * 2  # 1, 3 and 5 are lost
    weights = match_histogram(real, pool)
    found = torch.zeros(6, dtype=torch.float64).index_add(0, pool, weights)
    wanted = torch.bincount(real, minlength=6).double()
    wanted[1::2] = 0
    torch.testing.assert_close(found, wanted / wanted.sum())
    order = pool.argsort(stable=True)  # classes side by side: each is a run of neighbours
    for make, tolerance in ((draw_stratified, 1.0), (draw, 5 * 1000**0.5)):
        drawn = pool[order][make(weights[order], 1000, torch.Generator().manual_seed(0))]
        assert (torch.bincount(drawn, minlength=6) - 1000 * found).abs().max() <= tolerance


def test_matching_finds_the_weights_that_were_hidden():
    """The pool has two groups in wrong shares; the weights bring them to the real ones and the distance down."""
    real = torch.randn(600, 3) + 4 * (torch.arange(600) < 480)[:, None]
    pool = torch.randn(800, 3) + 4 * (torch.arange(800) < 200)[:, None]
    weights = resample_to_match(real, pool, steps=150)
    assert float(weights.sum()) == pytest.approx(1) and float(weights.min()) >= 0
    assert float(weights[:200].sum()) > 0.5  # from 0.25; the tails of the other group do the rest
    assert float(frechet_distance(real, pool, weights)) < 1e-3 * float(frechet_distance(real, pool))
    assert 50 < effective_size(weights) < 400 and effective_size(torch.full((8,), 1 / 8)) == pytest.approx(8)


def test_matching_of_binary_vectors_comes_down():
    """Classes in other shares, and most of the pool in a few of them."""
    logits = torch.randn(2, 1500, 30)
    logits[0, :, :10] += 1
    logits[1, :, 20:] += 1
    real, pool = (top_n_features(x, 5) for x in logits)
    weights = resample_to_match(real, pool, steps=100)
    assert float(frechet_distance(real, pool, weights)) < 0.25 * float(frechet_distance(real, pool))
    assert effective_size(weights) > 30


def test_one_more_is_the_gaussian_of_all():
    x = torch.randn(20, 4).double()
    found = with_one_more(gaussian(x[:19]), x[19:].expand(2, -1))
    whole = gaussian(x)
    for b in range(2):
        torch.testing.assert_close(found.mean[b], whole.mean)
        torch.testing.assert_close(found.covariance[b], whole.covariance)
    assert found.size == 20


def test_map_against_its_definition_image_by_image():
    torch.manual_seed(0)
    network = cifar_resnet(8, 4, widths=(4, 4, 6)).train()
    x = torch.rand(3, 3, 16, 16)
    real, others = gaussian(torch.randn(40, 6)), gaussian(torch.randn(30, 6) + 1)
    maps = fid_sensitivity_map(network, x, real, others)
    assert maps.shape == (3, 16, 16) and float(maps.min()) >= 0
    assert network.training and all(p.grad is None for p in network.parameters())
    network.eval()
    features = network.forward_features(x[1:2])[-1].detach()
    step, plane = 1e-4, features.shape[2] * features.shape[3]
    pooled = features.double().mean((2, 3))
    slope = torch.zeros(6, dtype=torch.float64)
    for c in range(6):
        values = []
        for sign in (1, -1):
            moved = pooled.clone()
            moved[0, c] += sign * step
            values.append(float(frechet(real, with_one_more(others, moved))))
        slope[c] = (values[0] - values[1]) / (2 * step) / plane
    expected = (slope[:, None, None] * features[0].double()).sum(0).abs()
    up = torch.nn.functional.interpolate(expected[None, None], (16, 16), mode="bilinear")[0, 0]
    torch.testing.assert_close(maps[1].double(), up, rtol=1e-3, atol=1e-7)


def test_mistakes_are_named():
    with value_error("do not fit 4 classes"):
        top_n_features(torch.rand(2, 4), 3, 2)
    with value_error("contains none"):
        match_histogram(torch.tensor([1, 1]), torch.tensor([0, 0]))
    with value_error("lr positive"):
        resample_to_match(torch.rand(5, 2), torch.rand(5, 2), lr=0)
    with value_error("same network"):
        network = cifar_resnet(8, 4, widths=(4, 4, 6))
        fid_sensitivity_map(network, torch.rand(1, 3, 16, 16), gaussian(torch.rand(9, 3)), gaussian(torch.rand(9, 6)))

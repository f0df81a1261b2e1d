import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.whitening import GCNZCA, contrast_normalize


def images(count=400, seed=0):
    """Smooth images: neighbouring pixels go together."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 2, 2, generator=g, dtype=torch.float64)
    smooth = torch.nn.functional.interpolate(coarse, 4, mode="bilinear")
    return smooth + 0.05 * torch.rand(count, 3, 4, 4, generator=g, dtype=torch.float64)


def test_contrast_of_every_image_against_a_loop():
    x = images(5)
    for image, got in zip(x, contrast_normalize(x, 55.0)):
        values = image.flatten().tolist()
        mean = sum(values) / len(values)
        norm = sum((v - mean) ** 2 for v in values) ** 0.5
        torch.testing.assert_close(got, 55 * (image - mean) / norm)
    assert not contrast_normalize(torch.full((2, 3, 4, 4), 0.7)).any()


def test_whitened_pixels_are_not_correlated():
    x = images()
    white = GCNZCA(3, 4, scale=0.0, bias=0.0).double().fit(x)
    rows = white(x).flatten(1)
    torch.testing.assert_close(rows.mean(0), torch.zeros(48, dtype=torch.float64), atol=1e-8, rtol=0)
    torch.testing.assert_close(rows.T @ rows / len(rows), torch.eye(48, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(white.matrix, white.matrix.T)
    turn = torch.linalg.qr(torch.randn(48, 48, dtype=torch.float64))[0]  # any other whitening is this one, turned
    centred = x.flatten(1) - white.mean
    assert (rows - centred).norm() < (rows @ turn - centred).norm()


def test_bias_holds_small_variances_down():
    x = images()
    rows = GCNZCA(3, 4).normalized(x)
    values, vectors = torch.linalg.eigh(torch.cov(rows.T, correction=0))
    white = GCNZCA(3, 4).double().fit(x)
    along = (white(x).flatten(1) @ vectors).var(0, correction=0)
    torch.testing.assert_close(along, values.clamp_min(0) / (values.clamp_min(0) + 0.1))


def test_it_is_a_module_in_front_of_a_network():
    torch.manual_seed(0)
    x = images().float()
    network = torch.nn.Sequential(GCNZCA(3, 4).fit(x), torch.nn.Conv2d(3, 2, 3))
    other = torch.nn.Sequential(GCNZCA(3, 4), torch.nn.Conv2d(3, 2, 3))
    other.load_state_dict(network.state_dict())
    assert torch.equal(network(x[:3]), other(x[:3])) and len(list(network[0].parameters())) == 0
    assert torch.allclose(network[0](x[:1]), network[0](x)[:1], atol=1e-4)


def test_mistakes_are_named():
    with value_error(r"images of \(3, 4, 4\), got \(1, 4, 4\)"):
        GCNZCA(3, 4)(torch.rand(2, 1, 4, 4))
    with value_error("two images or more"):
        GCNZCA(3, 4).fit(torch.rand(1, 3, 4, 4))
    with value_error("needs a bias above 0"):
        GCNZCA(3, 4, bias=0.0).fit(torch.rand(20, 3, 4, 4))
    with value_error("scale and bias must be 0 or more"):
        GCNZCA(bias=-1.0)


@pytest.mark.parametrize("scale", [0.0, 55.0])
def test_as_it_comes_it_does_not_whiten(scale):
    x = images(3).float()
    got = GCNZCA(3, 4, scale=scale)(x)
    torch.testing.assert_close(got, contrast_normalize(x, scale) if scale else x)

import math

import numpy as np
import pytest
import torch
from sklearn.base import clone

from tests.typecheck import value_error
from ziggurat.data.datasets import Images
from ziggurat.data.descriptors import (
    BagOfPatches,
    colour_histogram,
    described,
    hog,
    ink_profiles,
    lbp,
    orientation_maps,
    uniform_patterns,
)


def images(n=2, channels=3, height=16, width=24, seed=0):
    return torch.rand(n, channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def naive_orientations(x, bins, whole):
    channels, height, width = x.shape
    maps = np.zeros((bins, height, width))
    for i in range(height):
        for j in range(width):
            best = (-1.0, 0.0, 0.0)
            for c in range(channels):
                down = x[c, i + 1, j] - x[c, i - 1, j] if 0 < i < height - 1 else 0.0
                right = x[c, i, j + 1] - x[c, i, j - 1] if 0 < j < width - 1 else 0.0
                best = max(best, (math.hypot(down, right), down, right))
            angle = math.degrees(math.atan2(best[1], best[2])) % whole
            maps[min(int(angle / (whole / bins)), bins - 1), i, j] = best[0]
    return maps


@pytest.mark.parametrize(("bins", "signed"), [(9, False), (8, True)])
def test_orientations_against_a_loop(bins, signed):
    x = images()
    found = orientation_maps(x, bins, signed)
    for i in range(2):
        np.testing.assert_allclose(found[i], naive_orientations(x[i].numpy(), bins, 360 if signed else 180), atol=1e-12)


def test_hog_against_a_loop():
    x = images()
    found = hog(x, cell=4, block=2, bins=6)
    for i in range(2):
        maps = naive_orientations(x[i].numpy(), 6, 180)
        cells = np.zeros((4, 6, 6))
        for r in range(4):
            for c in range(6):
                cells[r, c] = maps[:, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4].mean((1, 2))
        rows = []
        for r in range(3):
            for c in range(5):
                v = cells[r : r + 2, c : c + 2].ravel()
                v = np.minimum(v / math.sqrt((v**2).sum() + 1e-10), 0.2)
                rows.append(v / math.sqrt((v**2).sum() + 1e-10))
        np.testing.assert_allclose(found[i], np.concatenate(rows), atol=1e-12)


def test_hog_is_that_of_scikit_image():
    feature = pytest.importorskip("skimage.feature", reason="peer: scikit-image is absent")
    x = images(height=32, width=40)
    wanted = [feature.hog(i.permute(1, 2, 0).numpy(), 9, (8, 8), (2, 2), "L2-Hys", channel_axis=2) for i in x]
    np.testing.assert_allclose(hog(x), np.stack(wanted), atol=1e-6)


def test_patterns_against_a_loop():
    x = images(2, 1, 7, 6)
    found = uniform_patterns(x)
    for image, codes in zip(x[:, 0].numpy(), found.numpy(), strict=True):
        padded = np.pad(image, 2)
        for i in range(7):
            for j in range(6):
                bits = []
                for p in range(8):
                    y, z = i + 2 - math.sin(math.pi * p / 4), j + 2 + math.cos(math.pi * p / 4)
                    a, b = math.floor(y + 1e-9), math.floor(z + 1e-9)
                    u, v = y - a, z - b
                    value = (1 - u) * ((1 - v) * padded[a, b] + v * padded[a, b + 1])
                    value += u * ((1 - v) * padded[a + 1, b] + v * padded[a + 1, b + 1])
                    bits.append(value >= image[i, j])
                changes = sum(bits[p] != bits[p - 1] for p in range(8))
                assert codes[i, j] == (sum(bits) if changes <= 2 else 9)


@pytest.mark.filterwarnings("ignore:Applying `local_binary_pattern`")
def test_patterns_are_those_of_scikit_image():
    feature = pytest.importorskip("skimage.feature", reason="peer: scikit-image is absent")
    x = images(2, 1)
    wanted = [feature.local_binary_pattern(i[0].numpy(), 8, 1, "uniform") for i in x]
    np.testing.assert_array_equal(uniform_patterns(x), np.stack(wanted))


def test_lbp_counts_patterns_by_region():
    x = images(2, 1, 8, 8)
    found, codes = lbp(x, 2).view(2, 2, 2, 10), uniform_patterns(x)
    for r in range(2):
        for c in range(2):
            part = codes[1, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4]
            wanted = torch.bincount(part.flatten(), minlength=10) / 16
            torch.testing.assert_close(found[1, r, c], wanted)


def test_colours_are_counted():
    x = torch.zeros(1, 3, 2, 2)
    x[0, :, 0, 0] = torch.tensor([1.0, 0.0, 0.3])
    found = colour_histogram(x, 4)
    assert found.shape == (1, 64) and float(found[0, 0]) == 0.75 and float(found[0, 3 + 1 * 16]) == 0.25


def test_ink_of_rows_and_columns():
    page = torch.ones(1, 1, 4, 4)
    page[0, 0, 1] = 0
    torch.testing.assert_close(ink_profiles(page, 4)[0], torch.tensor([0.0, 1, 0, 0, 0.25, 0.25, 0.25, 0.25]))


def test_patches_against_a_loop():
    x = images(1, 1, 12, 12).float()
    found = BagOfPatches(cell=4, stride=2, grid=2, bins=8).patches(x)
    maps = naive_orientations(x[0].numpy().astype(np.float64), 8, 360)
    assert found.shape == (1, 3, 3, 32)
    for r in range(3):
        for c in range(3):
            v = np.zeros((8, 2, 2))
            for a in range(2):
                for b in range(2):
                    top, left = 2 * r + 4 * a, 2 * c + 4 * b
                    v[:, a, b] = maps[:, top : top + 4, left : left + 4].mean((1, 2))
            v = np.minimum(v.ravel() / np.linalg.norm(v), 0.2)
            np.testing.assert_allclose(found[0, r, c], v / np.linalg.norm(v), atol=1e-5)


def test_words_are_the_nearest_and_counted_by_region():
    x = images(6, 1, 16, 16).float()
    bag = BagOfPatches(words=5, cell=2, stride=2, grid=2, levels=(1, 2), random_state=3).fit(x)
    found = bag.transform(x).reshape(6, 5, 5)
    patches = bag.patches(x)
    word = (patches[..., None, :] - bag.codebook_).square().sum(-1).argmin(-1)
    shares = torch.stack([torch.bincount(w.flatten(), minlength=5) for w in word]) / word[0].numel()
    np.testing.assert_allclose(found[:, 0] ** 2 / (found[:, 0] ** 2).sum(1, keepdims=True), shares, atol=1e-5)
    first = torch.stack([torch.bincount(w[:4, :4].flatten(), minlength=5) for w in word]) / 16
    np.testing.assert_allclose(found[:, 1] ** 2 / (found[:, 1] ** 2).sum(1, keepdims=True), first, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.reshape(6, -1), axis=1), 1, atol=1e-5)
    again = clone(bag).fit(x)
    assert torch.equal(again.codebook_, bag.codebook_)


def test_a_data_set_is_described_in_blocks():
    data = Images((255 * images(300, 3, 8, 8)).byte(), torch.zeros(300, dtype=torch.int64), ("one",), "noise")
    whole = colour_histogram(data.inputs(slice(None)), 2)
    np.testing.assert_allclose(described(data, lambda x: colour_histogram(x, 2)), whole)


def test_mistakes_are_named():
    for call, says in (
        (lambda: hog(images(), cell=16), "smaller cells"),
        (lambda: BagOfPatches(stride=3).fit(images()), "must divide the cell"),
        (lambda: BagOfPatches(words=1000).fit(images()), "fewer words"),
        (lambda: BagOfPatches().transform(images()), "call fit"),
    ):
        with value_error(says):
            call()

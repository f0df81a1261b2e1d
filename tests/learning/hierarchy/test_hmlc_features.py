import math

import numpy as np
import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.feeds import feed
from ziggurat.learning.hierarchy.hmlc_features import (
    AHMLC,
    GHMLC,
    HMLC,
    FixedMasks,
    HMLCLoss,
    LevelAttention,
    class_moments,
    fisher_ratios,
    gaussian_masks,
    representatives,
)
from ziggurat.nn.fitting import fit
from ziggurat.nn.losses.supcon import SupConLoss
from ziggurat.testing.examples import example_images
from ziggurat.vision.backbones.resnet import cifar_resnet

LABELS = torch.tensor([[0, 0], [0, 1], [1, 2], [0, 0], [1, 2], [1, 3], [0, 1], [0, 0]])
LEVELS = [[0, 0], [0, 1], [1, 2], [1, 3]]


def views(seed=0):
    return torch.randn(8, 2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network():
    torch.manual_seed(0)
    return cifar_resnet(8, 4, widths=(4, 4, 8))


def batch():
    return next(iter(feed(example_images(8), HMLC(network(), LEVELS).feed, 8)))


@pytest.mark.fact("hmlc_features", 1)
def test_masks_of_one_are_no_masks():
    loss = HMLCLoss(balanced=True)
    plain = HMLC(network(), LEVELS, loss=loss).eval()
    hard = GHMLC(network(), LEVELS, loss=loss).eval()
    soft = AHMLC(network(), LEVELS, loss=loss).eval()
    for head in soft.attention.heads:  # sigmoid(40) is 1 in float32
        torch.nn.init.zeros_(head[2].weight)
        torch.nn.init.constant_(head[2].bias, 40.0)
    want = plain.losses(batch())["levels"]
    for learner in (hard, soft):
        torch.testing.assert_close(learner.losses(batch())["levels"], want, atol=1e-6, rtol=0)


def supcon_by_a_loop(z, labels, temperature=0.07):
    """Of every anchor that has a positive the mean over its positives, by the definition."""
    unit = (z / z.norm(dim=1, keepdim=True)).tolist()
    cosine = [[sum(a * b for a, b in zip(u, v, strict=True)) for v in unit] for u in unit]
    found = []
    for i, own in enumerate(labels):
        others = sum(math.exp(cosine[i][k] / temperature) for k in range(len(unit)) if k != i)
        terms = [math.log(others) - cosine[i][p] / temperature for p, its in enumerate(labels) if p != i and its == own]
        found += [sum(terms) / len(terms)] if terms else []
    return sum(found) / len(found)


def released_with_one_level(z, classes):
    """The released loss of views (B, V, D) with one level of classes; with more it also drops samples between the levels.

    Its labels have one more column, the number of the image. Before level l it covers the last l columns, and samples alike in the others
    are positives; it divides by the number of columns.
    """
    columns, total = list(zip(classes, range(len(z)), strict=True)), 0.0
    for level in range(1, len(columns[0])):
        labels = [row[:-level] for row in columns for _ in range(z.shape[1])]
        total += 2 ** (1 / level) * supcon_by_a_loop(z.flatten(0, 1), labels)
    return total / len(columns[0])


@pytest.mark.fact("hmlc_features", 2)
@pytest.mark.parametrize("constraint", ["hmc", "hmce"])
def test_one_level_is_twice_supcon_and_as_released_supcon_itself(constraint):
    classes = LABELS[:, 1].tolist()
    flat = supcon_by_a_loop(views().flatten(0, 1), [c for c in classes for _ in range(2)])
    assert float(HMLCLoss(constraint=constraint)(views(), LABELS[:, 1:])) == pytest.approx(2 * flat, rel=1e-9)
    assert released_with_one_level(views(), classes) == pytest.approx(flat, rel=1e-9)


def test_the_sum_over_levels():
    z, several = views().flatten(0, 1), LABELS.repeat_interleave(2, 0)
    coarse, fine = (SupConLoss(0.07)(z, several[:, level]) for level in range(2))
    torch.testing.assert_close(HMLCLoss(constraint="hmc")(views(), LABELS), (2 * fine + 2**0.5 * coarse) / 2)
    most = torch.maximum(coarse, fine)
    torch.testing.assert_close(HMLCLoss()(views(), LABELS), (2 * fine + 2**0.5 * most) / 2)


@pytest.mark.fact("hmlc_features", 3)
@pytest.mark.parametrize("seed", range(5))
def test_hmce_does_not_fall_from_fine_to_coarse(seed):
    labels = torch.cat([torch.arange(8)[:, None] // 4, LABELS + 10 * (torch.arange(8)[:, None] // 4)], 1)
    free, bound = HMLCLoss(constraint="hmc"), HMLCLoss(constraint="hmce")
    levels = bound.by_level(views(seed), labels)
    assert (levels[:-1] >= levels[1:]).all()  # the coarsest comes first
    assert (levels >= free.by_level(views(seed), labels)).all()
    assert bound(views(seed), labels) >= free(views(seed), labels)


@pytest.mark.fact("hmlc_features", 4)
def test_the_length_of_a_mask_does_not_matter():
    masks = torch.rand(2, 6, dtype=torch.float64)
    scale = torch.tensor([[3.0], [0.2]], dtype=torch.float64)
    torch.testing.assert_close(HMLCLoss()(views(), LABELS, scale * masks), HMLCLoss()(views(), LABELS, masks))


def test_each_level_looks_at_its_own_coordinates():
    masks = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], dtype=torch.float64)
    several = LABELS.repeat_interleave(2, 0)
    found = HMLCLoss(constraint="hmc").by_level(views(), LABELS, masks)
    for level in range(2):
        own = views().flatten(0, 1)[:, 3 * level : 3 * level + 3]
        torch.testing.assert_close(found[level], SupConLoss(0.07)(own, several[:, level]))
    for shape in ((8, 2, 6), (8, 2, 2, 6)):
        each = masks.expand(*shape) if len(shape) == 4 else masks.expand(8, 2, 6)
        torch.testing.assert_close(HMLCLoss(constraint="hmc").by_level(views(), LABELS, each), found)


def test_dropped_duplicates_leave_one_of_each_finer_class():
    kept = representatives(LABELS)
    assert kept[0].nonzero().flatten().tolist() == [0, 1, 2, 5] and kept[1].all()
    loss = HMLCLoss(constraint="hmc", drop_duplicates=True)
    z = views()[kept[0]].flatten(0, 1)
    want = SupConLoss(0.07)(z, LABELS[kept[0], 0].repeat_interleave(2))
    torch.testing.assert_close(loss.by_level(views(), LABELS)[0], want)


def planted(noise=0.3):
    """Vectors of which the first 6 coordinates tell the coarse classes, the next 10 the fine ones within them."""
    rng = np.random.default_rng(0)
    target = np.repeat(np.arange(4), 30)
    coarse, fine = target // 2, target % 2
    z = np.concatenate(
        [np.repeat(coarse[:, None] * 2.0, 6, 1), np.repeat((fine[:, None] + target[:, None] % 2) * 1.0, 10, 1)], 1
    )
    return torch.from_numpy(z + noise * rng.normal(size=z.shape)), torch.from_numpy(target)


def test_ratios_against_a_loop():
    z, target = planted()
    ratios = fisher_ratios(class_moments(z, target, 4), torch.tensor(LEVELS))
    for level in range(2):
        labels = torch.tensor(LEVELS)[target, level]
        for d in range(16):
            groups = [z[labels == k, d].numpy() for k in labels.unique()]
            want = np.var([g.mean() for g in groups]) / np.mean([g.var() for g in groups])
            assert float(ratios[level, d]) == pytest.approx(want, abs=1e-4, rel=1e-4)


def test_masks_find_planted_coordinates():
    z, target = planted()
    masks = gaussian_masks(fisher_ratios(class_moments(z, target, 4), torch.tensor(LEVELS)))
    assert masks[0].nonzero().flatten().tolist() == list(range(6))
    assert masks[1].nonzero().flatten().tolist() == list(range(6, 16))


def test_every_level_keeps_a_quarter_of_its_share():
    ratios = torch.ones(2, 32, dtype=torch.float64)
    ratios[0, :31] = 2 + torch.rand(31)
    ratios[1, 31] = 9
    masks = gaussian_masks(ratios)
    assert (masks.sum(1) >= 32 / 8).all() and masks.max(0).values.all()


def test_masks_are_fitted_after_some_epochs_only():
    data = example_images(16)
    learner = GHMLC(network(), LEVELS, every=2)
    fit(learner, feed(data, learner.feed, 8), epochs=1)
    assert (learner.fixed == 1).all() and not learner.number.any()
    learner = GHMLC(network(), LEVELS, every=2)
    fit(learner, feed(data, learner.feed, 8), epochs=2)
    assert set(learner.fixed.unique().tolist()) == {0, 1}
    z = learner.represent(data.inputs(slice(None)))
    want = gaussian_masks(fisher_ratios(class_moments(z.detach(), data.labels, 4), torch.tensor(LEVELS)), learner.seed)
    assert torch.equal(learner.refit(z, data.labels), want)


def test_attention_is_a_gate_for_each_level():
    attention = LevelAttention(6, 3, 4)
    masks = attention(views()[:, 0].float())
    assert masks.shape == (8, 3, 6) and ((masks > 0) & (masks < 1)).all()


def test_mistakes_are_named():
    with value_error("temperature"):
        HMLCLoss(0)
    with value_error("constraint"):
        HMLCLoss(constraint="hme")
    with value_error("a mask for each level"):
        HMLCLoss()(views(), LABELS, torch.ones(3, 6, dtype=torch.float64))
    with value_error("1 epoch or more"):
        GHMLC(network(), LEVELS, every=0)
    with value_error("tell every class apart"):
        FixedMasks(network(), [[0], [0]], torch.ones(1, 8))

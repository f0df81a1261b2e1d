from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import Normalizer
from sklearn.svm import LinearSVC
from torch import nn

from tests.typecheck import value_error
from ziggurat.learning.cnn_off_the_shelf import (
    FeatureExtractor,
    OffTheShelfClassifier,
    SpatialSearch,
    jittered,
    patches,
    signed_root,
    whitened,
)
from ziggurat.testing.examples import example_images
from ziggurat.vision.backbones.resnet import ResNet
from ziggurat.vision.backbones.vgg import VGG


def network():
    torch.manual_seed(0)
    return ResNet("basic", (1, 1), 3, 3, (4, 8))


def extractor(layer="pre_logits"):
    return FeatureExtractor(network(), layer, batch_size=3)


def photographs(n=4, height=24, width=36, seed=0):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


class Pixels:
    """A stand-in for an extractor: the mean colour and some pixels, at length one."""

    def transform(self, x):
        small = nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
        return nn.functional.normalize(small, dim=1).numpy()


def clusters(n=30, classes=3, views=1, seed=0, spread=0.3):
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(7).normal(size=(classes, 6))
    y = np.arange(n) % classes
    return (means[y][:, None] + spread * rng.normal(size=(n, views, 6))).astype(np.float32), y


@pytest.mark.fact("cnn_off_the_shelf", 1)
def test_whitened_training_vectors_have_the_identity_as_covariance():
    x = np.random.default_rng(0).normal(size=(60, 8)) @ np.diag([9, 4, 3, 2, 1, 1, 0.5, 0.1])
    steps = whitened(5).fit(x)
    found = steps[:-1].transform(x)
    np.testing.assert_allclose(np.cov(found.T), np.eye(5), atol=1e-8)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(np.cov(unit.T))
    by_hand = (unit - unit.mean(0)) @ vectors[:, ::-1][:, :5] / np.sqrt(values[::-1][:5])
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(steps.transform(x)), np.abs(by_hand), atol=1e-8)
    assert isinstance(steps[1], PCA) and steps[1].whiten


@pytest.mark.fact("cnn_off_the_shelf", 2)
def test_one_level_is_the_distance_of_whole_images():
    take, gallery, queries = extractor(), photographs(5), photographs(2, seed=1)
    search = SpatialSearch(take, levels=1)
    search.add(np.arange(5), gallery)
    a, b = take.transform(queries), take.transform(gallery)
    wanted = np.linalg.norm(a[:, None] - b[None], axis=2)
    ids, away = search.search(queries, 5)
    np.testing.assert_allclose(np.take_along_axis(wanted, ids, 1), away, atol=1e-5)
    np.testing.assert_array_equal(ids, wanted.argsort(1))


@pytest.mark.fact("cnn_off_the_shelf", 3)
def test_distance_is_zero_for_patches_that_are_there_and_not_symmetric():
    image = photographs(1)
    whole, part = SpatialSearch(Pixels(), 2), SpatialSearch(Pixels(), 1)
    whole.add(np.array([3]), image)
    part.add(np.array([3]), image)
    there = float(whole.distances(part.vectors(image, 1))[0, 0])
    back = float(part.distances(whole.vectors(image, 2))[0, 0])
    assert there < 1e-3 and back > 0.02


def test_distance_against_a_loop():
    search = SpatialSearch(Pixels(), levels=3, query_levels=2)
    search.add(np.array([10, 20, 30]), photographs(3))
    queries = search.vectors(photographs(2, seed=1), 2)
    references = search.vectors(photographs(3), 3)
    found = search.distances(queries)
    for i, query in enumerate(queries):
        for j, reference in enumerate(references):
            total = sum(min(np.linalg.norm(p - s) for s in reference) for p in query) / len(query)
            assert found[i, j] == pytest.approx(total, abs=1e-5)
    ids, away = search.search(photographs(2, seed=1), 2)
    assert ids.shape == (2, 2) and (np.diff(away) >= 0).all() and set(ids.ravel()) <= {10, 20, 30}


@pytest.mark.fact("cnn_off_the_shelf", 4)
def test_number_of_patches():
    search = SpatialSearch(Pixels(), 4)
    assert search.vectors(photographs(1), 4).shape[1] == 30 == sum(i * i for i in range(1, 5))


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_patches_cover_the_image_and_overlap_by_half(level):
    places = torch.arange(40 * 60).view(1, 1, 40, 60).float()
    cut = patches(places, level)
    assert cut.shape == (1, level**2, 1, round(80 / (level + 1)), round(120 / (level + 1)))
    assert len(cut.unique()) == 2400
    if level == 3:
        shared = np.intersect1d(cut[0, 0].numpy(), cut[0, 1].numpy())
        assert len(shared) == cut[0, 0].numel() / 2


def test_processing_stands_between_patches_and_distances():
    processing = whitened(4).fit(Pixels().transform(photographs(40, seed=5)))
    search = SpatialSearch(Pixels(), 2, processing=processing)
    found = search.vectors(photographs(2), 2)
    np.testing.assert_allclose(found[:, 0], processing.transform(Pixels().transform(photographs(2))), atol=1e-6)


def test_vectors_have_length_one_whatever_the_layer():
    x = photographs(5, 16, 16)
    for layer, width in (("pre_logits", 8), (0, 4), (-1, 8), ("stages.0", 4)):
        take = extractor(layer)
        found = take.fit(x).transform(x)
        assert found.shape == (5, width) and found.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    means = network().eval().forward_features(x)[0].mean((2, 3))
    np.testing.assert_allclose(extractor(0).transform(x), nn.functional.normalize(means).detach(), atol=1e-5)


def test_a_fully_connected_layer_by_its_name():
    torch.manual_seed(0)
    vgg = VGG((1, 1), (4, 4), 3, hidden=10, size=2).eval()
    x = photographs(2, 16, 16)
    found = FeatureExtractor(vgg, "head.layers.2").transform(x)
    first = vgg.head.layers[:3](vgg.head.pool(vgg.forward_features(x)[-1]))
    np.testing.assert_allclose(found, nn.functional.normalize(first, dim=1).detach(), atol=1e-5)


def test_it_is_a_transformer_and_leaves_the_network_alone():
    take = FeatureExtractor(network().train(), prepare=partial(torch.mul, other=2.0))
    before = {k: v.clone() for k, v in take.backbone.state_dict().items()}
    x = photographs(3, 16, 16)
    found = clone(take).transform(x)
    np.testing.assert_allclose(take.transform(x), found, atol=1e-6)
    assert take.get_params()["layer"] == "pre_logits" and take.backbone.training
    assert all(torch.equal(v, before[k]) for k, v in take.backbone.state_dict().items())
    np.testing.assert_allclose(FeatureExtractor(network()).transform(2 * x), found, atol=1e-5)


def test_bytes_are_read_as_shares():
    data = example_images(6, classes=3, size=16)
    np.testing.assert_allclose(
        extractor().transform(data.images), extractor().transform(data.inputs(slice(None))), atol=1e-6
    )


def test_the_root_may_follow_the_first_normalisation():
    x = np.random.default_rng(0).normal(size=(5, 4))
    again = Normalizer().transform
    np.testing.assert_allclose(again(signed_root(again(x))), again(np.sign(x) * np.abs(x) ** 0.5))


def test_sixteen_views():
    x = photographs(2, 18, 24)
    views = jittered(x)
    assert views.shape == (2, 16, 3, 18, 24)
    assert torch.equal(views[:, 0], x) and torch.equal(views[:, 8:], views[:, :8].flip(4))
    corner = nn.functional.interpolate(x[:, :, :12, :16], (18, 24), mode="bilinear", antialias=True)
    torch.testing.assert_close(views[:, 1], corner)
    assert not torch.allclose(views[:, 6], views[:, 7])


def test_one_strength_is_a_linear_svm_on_unit_vectors():
    x, y = clusters()
    ours = OffTheShelfClassifier((0.5,)).fit(x[:, 0], y)
    unit = x[:, 0] / np.linalg.norm(x[:, 0], axis=1, keepdims=True)
    peer = LinearSVC(C=0.5, random_state=0, max_iter=5000).fit(unit, y)
    np.testing.assert_allclose(ours.decision_function(x[:, 0]), peer.decision_function(unit), atol=1e-2)
    np.testing.assert_allclose(ours.decision_function(7 * x[:, 0]), ours.decision_function(x[:, 0]), atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_strength_is_chosen_by_cross_validation(seed):
    x, y = clusters(60, spread=1.5, seed=seed)
    strengths = {"C": [0.01, 0.1, 1.0, 10.0]}
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    unit = Normalizer().transform(x[:, 0])
    peer = GridSearchCV(LinearSVC(random_state=0, max_iter=5000), strengths, cv=folds).fit(unit, y)
    assert OffTheShelfClassifier(strengths["C"]).fit(x[:, 0], y).strength_ == peer.best_params_["C"]


def test_of_equal_strengths_the_smallest_is_taken():
    x, y = clusters(spread=0.01)
    assert OffTheShelfClassifier((2.0, 1.0)).fit(x[:, 0], y).strength_ == 1.0


def test_scores_are_summed_over_views():
    x, y = clusters(24, views=5, spread=1.5)
    ours = OffTheShelfClassifier((1.0,)).fit(x, y)
    assert len(ours.machines_.estimators_) == 3
    summed = sum(ours.decision_function(x[:, v]) for v in range(5))
    np.testing.assert_allclose(ours.decision_function(x), summed, atol=1e-4)
    np.testing.assert_array_equal(ours.predict(x), summed.argmax(1))


def test_one_svm_for_each_label():
    x, y = clusters(40, classes=4)
    labels = np.stack([y < 2, y % 2 == 0], 1).astype(int)
    ours = OffTheShelfClassifier().fit(x[:, 0], labels)
    assert ours.predict(x[:, 0]).shape == (40, 2) and (ours.predict(x[:, 0]) == labels).mean() > 0.9


def test_two_classes_keep_their_names():
    x, y = clusters(20, classes=2)
    names = np.where(y == 1, "yes", "no")
    assert (OffTheShelfClassifier((1.0,)).fit(x[:, 0], names).predict(x[:, 0]) == names).mean() > 0.9


def test_mistakes_are_named():
    x, y = clusters()
    search = SpatialSearch(Pixels())
    search.add(np.array([1]), photographs(1))
    for call, says in (
        (lambda: extractor(7).transform(photographs(1, 16, 16)), "stages 0 to 1"),
        (lambda: extractor("fc9").transform(photographs(1, 16, 16)), "no part 'fc9'"),
        (lambda: extractor().transform(photographs(1, 16, 16)[0]), r"\(N, C, H, W\)"),
        (lambda: OffTheShelfClassifier().predict(x[:, 0]), "call fit"),
        (lambda: OffTheShelfClassifier((1.0,)).fit(x[:, 0], y).predict(x[:, 0, :2]), "2 features"),
        (lambda: OffTheShelfClassifier().fit(x[:, 0], y[:3]), "as many y as X"),
        (lambda: OffTheShelfClassifier().fit(x[:, None], y), r"\(N, V, D\)"),
        (lambda: SpatialSearch(Pixels(), 0), "levels must be 1"),
        (lambda: SpatialSearch(Pixels()).search(photographs(1), 1), "call add"),
        (lambda: search.add(np.array([1]), photographs(1)), r"\[1\] are taken"),
        (
            lambda: search.add_vectors(np.array([2, 2, 3]), np.ones((2, 1, 12), np.float32)),
            "2 of 3 ids differ, for 2 images",
        ),
    ):
        with value_error(says):
            call()


def test_a_backbone_in_training_stays_so_after_a_mistake():
    take = extractor(7)
    with value_error("stages 0 to 1"):
        take.extract(photographs(1, 16, 16))
    assert take.backbone.training


def test_tokens_are_averaged_over_their_places():
    class Tokens(nn.Module):
        def forward(self, x):
            return x.flatten(2).transpose(1, 2)

    images = photographs(2, 4, 5)
    found = FeatureExtractor(nn.Sequential(Tokens(), nn.Identity()), "0").transform(images)
    wanted = images.mean((2, 3))
    np.testing.assert_allclose(found, nn.functional.normalize(wanted, dim=1).numpy(), atol=1e-6)
    with value_error("gives no vectors, tokens or maps"):
        FeatureExtractor(nn.Sequential(nn.Identity(), nn.Unflatten(3, (5, 1))), "1").transform(images)

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid
from torch.nn.functional import normalize

from tests.typecheck import value_error
from ziggurat.data import Episodes, feed
from ziggurat.learning.fewshot.protonet import (
    AttributePrototypes,
    Conv4,
    MatchingNetwork,
    PrototypeClassifier,
    PrototypicalNetwork,
    cosine_distance,
    matching_logits,
    prototypes,
    prototypical_logits,
    prototypical_loss,
    squared_euclidean,
)
from ziggurat.nn import count_parameters
from ziggurat.testing import example_images


def episode(ways=4, shots=3, queries=10, d=5):
    g = torch.Generator().manual_seed(0)
    return (
        torch.randn(ways, shots, d, generator=g, dtype=torch.float64),
        torch.randn(queries, d, generator=g, dtype=torch.float64),
    )


@pytest.mark.fact("protonet", 1)
@pytest.mark.parametrize(("channels", "count"), [(1, 111_936), (3, 113_088)])
def test_published_parameter_counts(channels, count):
    assert count_parameters(Conv4(channels)) == count


@pytest.mark.fact("protonet", 2)
@pytest.mark.parametrize(("channels", "size", "width"), [(1, 28, 64), (3, 84, 1600), (3, 32, 256)])
def test_size_of_the_embedding(channels, size, width):
    network = Conv4(channels, image_size=size).eval()
    assert network(torch.rand(1, channels, size, size)).shape == (1, width) and network.num_features == width


@pytest.mark.fact("protonet", 3)
def test_is_a_linear_classifier():
    support, query = episode()
    c = prototypes(support)
    linear = query @ (2 * c).T - c.square().sum(1)
    torch.testing.assert_close(prototypical_logits(support, query).softmax(1), linear.softmax(1), atol=1e-12, rtol=0)


@pytest.mark.fact("protonet", 4)
def test_one_shot_is_the_nearest_support_and_prototypes_ignore_order_and_duplicates():
    support, query = episode(shots=1)
    nearest = torch.cdist(query, support[:, 0]).argmin(1)
    assert torch.equal(prototypical_logits(support, query).argmax(1), nearest)
    torch.testing.assert_close(
        matching_logits(support, query, squared_euclidean), prototypical_logits(support, query).log_softmax(1)
    )
    support, _ = episode()
    torch.testing.assert_close(prototypes(support[:, [2, 0, 1]]), prototypes(support))
    torch.testing.assert_close(prototypes(torch.cat([support, support], 1)), prototypes(support))


@pytest.mark.fact("protonet", 5)
def test_equals_the_nearest_centroid_of_scikit_learn():
    rng = np.random.default_rng(0)
    x, y, new = rng.normal(size=(60, 4)), rng.integers(0, 5, 60), rng.normal(size=(50, 4))
    ours = PrototypeClassifier().fit(x, y)
    assert np.array_equal(ours.predict(new), NearestCentroid().fit(x, y).predict(new))
    np.testing.assert_allclose(ours.predict_proba(new).sum(1), 1)


def test_attributes_make_prototypes_of_length_one_that_learn_classes_without_examples():
    """Images are a map of their class's attributes, of any length; classes that were never seen are told by theirs."""
    g = torch.Generator().manual_seed(0)
    attributes, world = torch.randn(60, 6, generator=g), torch.randn(6, 5, generator=g)
    images = attributes @ world
    head = AttributePrototypes(6, 5)
    found = head(attributes)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(60))
    torch.testing.assert_close(found, normalize(head.fc(attributes), dim=1))
    seen, new = slice(0, 50), torch.arange(50, 60)
    optimizer = torch.optim.Adam(head.parameters(), 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        prototypical_loss(head(attributes[seen])[:, None], images[seen], torch.arange(50)).mean().backward()
        optimizer.step()
    logits = prototypical_logits(head(attributes[new])[:, None], images[new])
    assert (logits.argmax(1) == torch.arange(10)).float().mean() >= 0.9


def test_a_scale_that_is_not_positive_is_refused():
    with value_error("scale must be positive, got 0."):
        PrototypicalNetwork(Conv4(width=4), scale=0.0)


def test_loss_and_distances_against_loops():
    support, query = episode()
    target = torch.arange(10) % 4
    losses = prototypical_loss(support, query, target)
    for i in range(10):
        d = [sum((query[i, j] - support[k, :, j].mean()) ** 2 for j in range(5)) for k in range(4)]
        expected = d[int(target[i])] + torch.logsumexp(-torch.stack(d), 0)
        torch.testing.assert_close(losses[i], expected)
    cos = cosine_distance(query, prototypes(support))
    a, b = query[2], support[1].mean(0)
    torch.testing.assert_close(cos[2, 1], 1 - a @ b / a.norm() / b.norm())


def test_matching_adds_up_attention_by_class():
    support, query = episode()
    flat = -cosine_distance(query, support.flatten(0, 1))
    p = flat.softmax(1).view(10, 4, 3).sum(2)
    torch.testing.assert_close(matching_logits(support, query).exp(), p)


def test_learners_embed_support_and_queries_in_one_pass():
    data = example_images(40, classes=4)
    network = Conv4(3, 8, 16)
    learner = PrototypicalNetwork(network, ways=3, shots=2, queries=4).eval()
    assert learner.feed == Episodes(3, 2, 4, 100)
    batch = next(iter(feed(data, learner.feed, 1)))
    z = network(batch.support.flatten(0, 1)).view(3, 2, -1)
    torch.testing.assert_close(
        learner.logits(batch), prototypical_logits(z, network(batch.inputs[0])), atol=1e-5, rtol=1e-4
    )
    matching = MatchingNetwork(network, 3, 2, 4).eval()
    torch.testing.assert_close(
        matching.logits(batch), matching_logits(z, network(batch.inputs[0])), atol=1e-5, rtol=1e-4
    )
    scaled = PrototypicalNetwork(network, 3, 2, 4, distance=cosine_distance, scale=10.0).eval()
    expected = -10 * cosine_distance(network(batch.inputs[0]), z.mean(1))
    torch.testing.assert_close(scaled.logits(batch), expected, atol=1e-4, rtol=1e-4)
    assert count_parameters(scaled) == count_parameters(network) + 1


def test_the_rate_is_halved_over_the_run():
    schedule = PrototypicalNetwork(Conv4(1, 4)).recipe().schedule
    assert [schedule(f) for f in (0, 0.19, 0.21, 0.99, 1.0)] == [1, 1, 0.5, 1 / 16, 1 / 16]


def test_mistakes_are_named():
    with value_error("16 pixels"):
        Conv4(image_size=8)
    with value_error("without a classifier"):
        Conv4().reset_classifier(5)
    with value_error("call fit"):
        PrototypeClassifier().predict(np.zeros((1, 2)))
    with value_error("3 columns"):
        PrototypeClassifier().fit(np.eye(2), np.arange(2)).predict(np.zeros((1, 3)))

import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.data.datasets import Table
from ziggurat.data.feeds import feed
from ziggurat.data.shots_feed import Guided, WebAndShots
from ziggurat.testing.examples import example_images


def table(values, labels):
    x = torch.tensor(values)[:, None].float()
    return Table(x, torch.tensor(labels), ("a", "b"), "numbers")


def both():
    return WebAndShots(table([1, 2, 3, 4], [0, 1, 0, 1]), table([10, 20], [0, 1]))


def test_shots_stand_behind_the_web():
    data = both()
    assert len(data) == 6 and data.is_shot.tolist() == [False] * 4 + [True] * 2
    assert data.labels.tolist() == [0, 1, 0, 1, 0, 1] and data.kind == "table" and data.classes == ("a", "b")
    assert data.inputs([5, 0, 4, 3])[:, 0].tolist() == [20, 1, 10, 4]
    assert data.describe().endswith("2 shots")


def test_relabelled_keeps_all_shots():
    data = both().relabelled(torch.tensor([True, False, True, False, False, False]), torch.tensor([1, 1, 0, 0, 1, 1]))
    assert data.inputs(slice(None))[:, 0].tolist() == [1, 3, 10, 20]
    assert data.labels.tolist() == [1, 0, 0, 1] and data.is_shot.tolist() == [False, False, True, True]


def test_views_and_who_is_a_shot():
    kind = Guided(strong=lambda x: -x)
    batch = next(iter(feed(both(), kind, 6, normalize=None)))
    weak, strong = batch.views
    assert torch.equal(weak, batch.inputs[0]) and torch.equal(strong, -weak)
    assert torch.equal(batch.is_shot, weak[:, 0] >= 10) and torch.equal(batch.is_shot, batch.index >= 4)
    torch.testing.assert_close(batch.to("cpu").is_shot, batch.is_shot)


def test_images_without_shots_and_normalisation():
    stats = torch.full((3,), 0.5), torch.full((3,), 2.0)
    batch = next(iter(feed(example_images(8), Guided(nn.Identity()), 8, normalize=stats)))
    assert not batch.is_shot.any()
    torch.testing.assert_close(batch.views[0], batch.inputs[0])
    torch.testing.assert_close(batch.views[1], (example_images(8).inputs(batch.index) - 0.5) / 2)


def test_other_classes_are_refused():
    with value_error("give both the same"):
        WebAndShots(table([1], [0]), example_images(8))

import inspect

import pytest
import torch
from torch.nn.functional import normalize

from tests.typecheck import value_error
from ziggurat.data.datasets import Table
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.shots_feed import WebAndShots
from ziggurat.learning.weak.fopro import FeatureQueue, FoPro, RelationModule, among, follow, instance_contrast
from ziggurat.nn.fitting import fit
from ziggurat.nn.mlp import MLP
from ziggurat.nn.profile import count_parameters

CLASSES = 4


def drawn(per_class=30, wrong=0.3, shift=1.0, seed=0):
    """Four Gaussian classes: a shifted web whose labels are partly wrong, its true labels, and three real shots a class."""
    g = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(CLASSES, 8, generator=g)
    truth = torch.arange(CLASSES).repeat(per_class)
    other = (truth + torch.randint(1, CLASSES, truth.shape, generator=g)) % CLASSES
    labels = torch.where(torch.rand(truth.shape, generator=g) < wrong, other, truth)
    names = tuple("abcd")
    web = Table(centres[truth] + torch.randn(len(truth), 8, generator=g) + shift, labels, names, "web")
    sure = torch.arange(CLASSES).repeat(3)
    shots = Table(centres[sure] + torch.randn(len(sure), 8, generator=g), sure, names, "shots")
    return WebAndShots(web, shots), truth


def learner(**options):
    torch.manual_seed(0)
    return FoPro(MLP(8, CLASSES, (16,)), CLASSES, dim=6, hidden=12, queue=32, lr=0.01, **options)


def guided(stage=2, **options):
    made = learner(**options)
    data, _ = drawn()
    made.guide(data.shots.x, data.shots.labels)
    made.enter(stage)
    return made


def one_batch(made, size=64):
    return next(iter(feed(drawn()[0], made.feed, size)))


@pytest.mark.fact("fopro", 2)
def test_scores_are_probabilities():
    made = guided().double()
    t = made.scores(
        torch.randn(20, CLASSES, dtype=torch.float64), normalize(torch.randn(20, 6, dtype=torch.float64), dim=1)
    )
    torch.testing.assert_close(t.sum(1), torch.ones(20, dtype=torch.float64))


@pytest.mark.fact("fopro", 3)
def test_prototypes_follow_on_the_sphere():
    g = torch.Generator().manual_seed(0)
    c, z = (normalize(torch.randn(n, 6, generator=g, dtype=torch.float64), dim=1) for n in (4, 40))
    labels = torch.randint(3, (40,), generator=g)
    assert torch.equal(follow(c, z, labels, 1.0), c)
    moved = follow(c, z, labels, 0.999)
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(4, dtype=torch.float64))
    assert torch.equal(moved[3], c[3]) and not torch.equal(moved[0], c[0])
    torch.testing.assert_close(
        follow(c, z[:1], labels[:1], 0.9)[labels[0]], normalize(0.9 * c[labels[0]] + 0.1 * z[0], dim=0)
    )
    for k in range(3):
        slow = c[k]
        for row in z[labels == k]:  # one after the other, as the authors do
            slow = 0.999 * slow + 0.001 * row
        assert float(normalize(slow, dim=0) @ moved[k]) > 1 - 1e-6


@pytest.mark.fact("fopro", 4)
def test_relation_module_on_pairs():
    relation = RelationModule(128)
    assert count_parameters(relation) == 256 * 128 + 128 + 128 + 1 == 33_025
    made = guided()
    z = normalize(torch.randn(3, 6), dim=1)
    for i in range(3):
        for k in range(CLASSES):
            pair = torch.cat([z[i], made.prototypes[k]])
            torch.testing.assert_close(made.relations(z)[i, k], made.relation.layers(pair)[0])


@pytest.mark.fact("fopro", 5)
def test_defaults():
    given = {name: p.default for name, p in inspect.signature(FoPro).parameters.items()}
    want = {"temperature": 0.1, "dim": 128, "queue": 8192, "momentum": 0.999, "prototype_momentum": 0.999}
    assert {name: given[name] for name in want} == want
    assert (given["threshold"], given["alpha"]) == (0.8, 0.5)


def test_queue_goes_round():
    queue = FeatureQueue(5, 2)
    torch.testing.assert_close(queue.vectors.norm(dim=1), torch.ones(5))
    queue.push(torch.arange(6.0).view(3, 2))
    queue.push(torch.arange(6.0, 14).view(4, 2))
    assert queue.vectors[:, 0].tolist() == [10, 12, 4, 6, 8] and int(queue.place) == 2
    queue.push(torch.arange(16.0).view(8, 2))
    assert sorted(queue.vectors[:, 0].tolist()) == [6, 8, 10, 12, 14] and int(queue.place) == 2


def test_instance_contrast_one_by_one():
    z, key, queue = (normalize(torch.randn(n, 3, dtype=torch.float64), dim=1) for n in (4, 4, 7))
    for i, loss in enumerate(instance_contrast(z, key, queue, 0.2)):
        others = sum(torch.exp(z[i] @ q / 0.2) for q in queue)
        own = torch.exp(z[i] @ key[i] / 0.2)
        torch.testing.assert_close(loss, -torch.log(own / (own + others)))


def test_mean_over_the_chosen():
    values, chosen = torch.tensor([1.0, 5.0, 3.0]), torch.tensor([True, False, True])
    assert float(among(values, chosen).mean()) == 2 and float(among(values, torch.zeros(3) > 0).sum()) == 0


def test_prototypes_are_means_of_shots():
    made, (data, _) = learner(), drawn()
    made.guide(data.shots.x, data.shots.labels)
    z = made.keys(data.shots.x)
    for k in range(CLASSES):
        torch.testing.assert_close(made.prototypes[k], normalize(z[data.shots.labels == k].mean(0), dim=0))
    with value_error("needs a shot or more"):
        made.guide(data.shots.x[1:2], data.shots.labels[1:2])


@pytest.mark.parametrize("stage", [2, 3])
def test_losses_one_by_one(stage):
    made = guided(stage, strong=lambda x: 1.1 * x).double()
    batch = one_batch(made)
    batch.views = tuple(x.double() for x in batch.views)
    terms = {name: float(value.detach().mean()) for name, value in made.losses(batch).items()}
    sums, counts = dict.fromkeys(terms, 0.0), dict.fromkeys(terms, 0)
    with torch.no_grad():
        for x, strong, y, shot in zip(*batch.views, batch.target, batch.is_shot, strict=True):
            f = made.network(x[None])
            z, h = normalize(made.projector(f), dim=1)[0], made.classifier(f)[0]
            key = normalize(made.projector(made.follower(strong[None])), dim=1)[0]
            t = 0.5 * h.softmax(0) + 0.5 * (made.prototypes @ z / 0.1).softmax(0)
            r = torch.stack([made.relation(z, c) for c in made.prototypes])
            by_hand = int(t.argmax()) if t.max() > 0.8 and not shot else int(y)
            sure = bool(shot) or bool(t.max() > 0.8)
            if stage == 2:
                label, keep = by_hand, sure or bool(t[y] > 1 / CLASSES)
            else:
                s = r.sigmoid()
                label = int(y) if shot or s[y] > 0.8 or t.max() <= 0.8 else int(t.argmax())
                keep = sure or bool(s[y] > 0.8)
            others = [(-r[k]).sigmoid().log() for k in range(CLASSES) if k != by_hand]
            values = {
                "classify": (-h.log_softmax(0)[label], keep),
                "prototype": (-(made.prototypes @ z / 0.1).log_softmax(0)[label], keep),
                "low_dim": (-(made.low_dim(z) / 0.1).log_softmax(0)[label], keep),
                "instance": (instance_contrast(z[None], key[None], made.queue.vectors, 0.1)[0], True),
                "reconstruct": ((made.reconstructor(z) - f[0]).square().mean(), True),
                "relation": (-r[by_hand].sigmoid().log() / 2 - sum(others) / (2 * len(others)), sure),
            }
            for name, (value, counted) in values.items():
                sums[name] += float(value) * counted
                counts[name] += counted
    assert terms.keys() == values.keys()
    for name, value in terms.items():
        assert value == pytest.approx(sums[name] / counts[name], rel=1e-9), name


def gradients(made, name):
    made.zero_grad()
    made.losses(one_batch(made))[name].mean().backward()
    return {k.split(".")[0] for k, p in made.named_parameters() if p.grad is not None and p.grad.any()}


def test_what_must_not_reach_the_encoder():
    made = guided()
    assert gradients(made, "relation") == {"relation"} and gradients(made, "reconstruct") == {"reconstructor"}
    assert gradients(made, "instance") == {"network", "projector"}
    assert gradients(learner(), "reconstruct") == {"projector", "reconstructor"}


UNUSED = {
    1: {"low_dim", "relation"},
    2: set(),
    3: set(),
    4: {"network", "projector", "reconstructor", "low_dim", "relation"},
}


@pytest.mark.parametrize(("stage", "still"), UNUSED.items())
def test_every_stage_trains_its_own(stage, still):
    made = guided(stage)
    terms = made.losses(one_batch(made))
    torch.stack([value.mean() for value in terms.values()]).sum().backward()
    without = {k.split(".")[0] for k, p in made.named_parameters() if p.grad is None} - {"follower"}
    assert without == still
    assert all(p.requires_grad == (p.grad is not None) for p in made.parameters())


def test_a_step_moves_what_follows():
    made = guided(2, prototype_momentum=0.9, momentum=0.5)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    batch = one_batch(made)
    fit(made, [batch], steps=1)
    after = made.state_dict()
    for name in ("follower.network.stages.0.0.weight", "prototypes", "queue.vectors"):
        assert not torch.equal(before[name], after[name]), name
    weight = "network.stages.0.0.weight"
    torch.testing.assert_close(after[f"follower.{weight}"], (before[weight] + after[weight]) / 2)
    torch.testing.assert_close(made.prototypes.norm(dim=1), torch.ones(CLASSES))


def test_stage_four_leaves_the_network_alone():
    made = guided(4)
    before = {name: value.clone() for name, value in made.state_dict().items() if not name.startswith("classifier")}
    fit(made, feed(drawn()[0], made.feed, 64), steps=4)
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in before.items())
    made.train()
    assert not made.network.training and made.classifier.training


def test_four_stages_clean_the_web():
    made, (data, truth) = learner(momentum=0.9), drawn(per_class=100)
    batches = feed(data, made.feed, 64)
    fit(made, batches, steps=60)
    made.guide(data.shots.x, data.shots.labels)
    made.enter(2)
    fit(made, batches, steps=200)
    made.enter(3)
    made.lr = 0.003
    fit(made, batches, steps=60)
    found = made.clean(batches)
    assert torch.equal(found.sample, torch.arange(len(data))) and torch.equal(found.label, data.labels)
    assert found.keep[data.is_shot].all() and torch.equal(found.new_label[data.is_shot], data.shots.labels)
    web = found.keep[: len(truth)]
    right = float((found.new_label[: len(truth)] == truth)[web].float().mean())
    assert float(web.float().mean()) > 0.9 and right > 0.95 and float((data.web.labels == truth).float().mean()) < 0.75
    cleaned = data.relabelled(found.keep, found.new_label)
    made.enter(4)
    fit(made, feed(cleaned, made.feed, 64), steps=30)
    assert float((made.predict(data.web.x).argmax(1) == truth).float().mean()) > 0.95


def test_mistakes_are_named():
    made = learner(stage=2)
    with value_error("call guide"):
        made.losses(one_batch(made))
    with value_error("feed.dataset, learner.feed"):
        made.clean(feed(drawn()[0], Labelled(), 8))
    with value_error("1, 2, 3 and 4"):
        learner(stage=5)
    with value_error("threshold"):
        learner(threshold=2)
    with value_error("temperature"):
        learner(temperature=0)
    with value_error("1 embedding or more"):
        FeatureQueue(0, 4)

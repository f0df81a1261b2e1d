import itertools
from functools import partial

import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.data import Batch
from ziggurat.data.feeds import PerClass
from ziggurat.learning.metric.distances import squared_euclidean
from ziggurat.learning.metric.facenet import (
    FaceNet,
    HarmonicFaceNet,
    HarmonicTripletLoss,
    TripletLoss,
    hardest_triplets,
    harmonic_triplets,
    random_triplets,
    semi_hard_or_random_triplets,
    semi_hard_triplets,
    to_bytes,
)
from ziggurat.learning.metric.miners import margin_triplets
from ziggurat.nn import fit
from ziggurat.nn.losses.tuplets import mean_of_active
from ziggurat.vision.backbones.resnet import cifar_resnet

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])


def unit(seed=0, rows=9, width=4):
    g = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(rows, width, generator=g, dtype=torch.float64), dim=1)


def tiny(**named):
    torch.manual_seed(0)
    return FaceNet(cifar_resnet(8, 5, widths=(4, 4, 8)), dim=6, **named)


def batch(seed=0):
    g = torch.Generator().manual_seed(seed)
    return Batch((torch.rand(9, 3, 16, 16, generator=g),), LABELS, torch.arange(9))


def as_set(triplets):
    return {tuple(row) for row in triplets.tolist()}


@pytest.mark.fact("facenet", 1)
def test_embeddings_lie_on_the_sphere():
    z = tiny().eval().represent(*batch().inputs).detach()
    torch.testing.assert_close(z.norm(dim=1), torch.ones(9))
    d = squared_euclidean(z, z)
    torch.testing.assert_close(d, 2 - 2 * z @ z.T, atol=1e-5, rtol=0)
    assert float(d.min()) >= 0 and float(d.max()) <= 4 + 1e-5
    opposite = squared_euclidean(z[:1], -z[:1])
    assert float(opposite) == pytest.approx(4, abs=1e-5)


@pytest.mark.fact("facenet", 2)
def test_collapse_costs_the_margin_and_teaches_nothing():
    z = unit(rows=1).expand(9, -1).clone().requires_grad_()
    triplets = hardest_triplets(squared_euclidean(z, z), LABELS)
    losses = TripletLoss()(z, triplets)
    torch.testing.assert_close(losses, torch.full_like(losses, 0.2))
    losses.sum().backward()
    assert float(z.grad.abs().max()) < 1e-12


def test_hardest_negatives_push_together_what_semi_hard_ones_do_not():
    """On embeddings in which a negative is nearer than the positive, only the semi-hard miner leaves that negative alone."""
    z = torch.tensor([[0.0], [0.5], [0.1], [0.6]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1])
    d = squared_euclidean(z, z)
    assert (0, 1, 2) in as_set(hardest_triplets(d, labels))
    assert (0, 1, 3) in as_set(semi_hard_triplets(d, labels))


@pytest.mark.fact("facenet", 3)
@pytest.mark.parametrize(("people", "images"), [(3, 3), (5, 2), (2, 7)])
def test_number_of_ordered_positive_pairs(people, images):
    labels = torch.arange(people).repeat_interleave(images)
    z = unit(rows=len(labels))
    count = people * images * (images - 1)
    d = squared_euclidean(z, z)
    for miner in (hardest_triplets, random_triplets, semi_hard_or_random_triplets):
        triplets = miner(d, labels)
        assert len(triplets) == count == len({(a, p) for a, p, _ in triplets.tolist()})
        assert (labels[triplets[:, 0]] == labels[triplets[:, 1]]).all()
        assert (labels[triplets[:, 0]] != labels[triplets[:, 2]]).all()
    assert len(semi_hard_triplets(d, labels, 1e9)) <= count


@pytest.mark.fact("facenet", 4)
@pytest.mark.parametrize("margin", [0.05, 0.2, 1.0])
def test_semi_hard_negatives_lie_in_the_open_shell(margin):
    z = unit(3)
    d = squared_euclidean(z, z)
    found = {(a, p): n for a, p, n in semi_hard_triplets(d, LABELS, margin).tolist()}
    for a, p in itertools.permutations(range(9), 2):
        if LABELS[a] != LABELS[p]:
            continue
        shell = [n for n in range(9) if LABELS[n] != LABELS[a] and d[a, p] < d[a, n] < d[a, p] + margin]
        assert ((a, p) in found) == bool(shell)
        if shell:
            assert found[a, p] == min(shell, key=lambda n: float(d[a, n]))
    chosen = {(a, p, n) for (a, p), n in found.items()}
    assert chosen <= as_set(margin_triplets(d, LABELS, margin, "semi_hard"))
    filled = semi_hard_or_random_triplets(d, LABELS, margin, torch.Generator().manual_seed(0))
    assert chosen <= as_set(filled) and len(filled) == 18


def test_the_shell_is_open_at_both_ends():
    d = torch.tensor([[0, 0.3, 0.3], [0.3, 0, 0.5], [0.3, 0.5, 0]], dtype=torch.float64)
    assert semi_hard_triplets(d, torch.tensor([0, 0, 1]), 0.2).tolist() == []
    assert semi_hard_triplets(d, torch.tensor([0, 0, 1]), 0.21).tolist() == [[1, 0, 2]]


def test_random_negatives_are_uniform_and_drawn_from_the_generator():
    d = torch.zeros(9, 9)
    draw = partial(random_triplets, d, LABELS)
    state = torch.get_rng_state()
    many = torch.cat([draw(generator=torch.Generator().manual_seed(i)) for i in range(200)])
    assert torch.equal(state, torch.get_rng_state())
    share = torch.bincount(many[many[:, 0] == 0][:, 2], minlength=9) / 400
    torch.testing.assert_close(share, torch.tensor([0, 0, 0] + [1 / 6] * 6), atol=0.06, rtol=0)


@pytest.mark.fact("facenet", 5)
def test_harmonic_loss_of_equal_networks_is_the_triplet_loss():
    z = unit(3)
    ordinary = mean_of_active(TripletLoss()(z, semi_hard_triplets(squared_euclidean(z, z), LABELS)))
    triplets = harmonic_triplets(z, z, LABELS)
    assert float(ordinary) > 0
    torch.testing.assert_close(mean_of_active(HarmonicTripletLoss()(z, z, triplets)), ordinary)
    only_new = semi_hard_triplets(squared_euclidean(z, z), LABELS)
    torch.testing.assert_close(HarmonicTripletLoss()(z, unit(8), only_new), TripletLoss()(z, only_new))


def test_harmonic_triplets_mix_both_versions():
    new, old = unit(3), unit(4)
    triplets = harmonic_triplets(new, old, LABELS, 0.5)
    both = torch.cat([new, old])
    d = squared_euclidean(both, both)
    for a, p, n in triplets.tolist():
        assert a % 9 != p % 9 and LABELS[a % 9] == LABELS[p % 9] != LABELS[n % 9]
        assert d[a, p] < d[a, n] < d[a, p] + 0.5 and min(a, p, n) < 9
    mixed = {tuple(i >= 9 for i in row) for row in triplets.tolist()}
    assert (True, True, True) not in mixed and len(mixed) > 4
    old = old.requires_grad_()
    assert not HarmonicTripletLoss()(new, old, triplets).requires_grad


def test_learner_takes_the_mean_over_active_triplets():
    learner = tiny().eval()
    z = learner.represent(*batch().inputs)
    losses = TripletLoss()(z, semi_hard_triplets(squared_euclidean(z, z), LABELS))
    torch.testing.assert_close(learner.losses(batch())["triplet"], losses[losses > 0].mean())
    assert learner.feed == PerClass(4)
    every = tiny(miner=partial(margin_triplets, strategy="all")).eval()
    active = TripletLoss()(z, margin_triplets(squared_euclidean(z, z), LABELS, 0.2))
    torch.testing.assert_close(every.losses(batch())["triplet"], active[active > 0].mean())


def test_every_semi_hard_negative_costs_what_the_peers_does():
    reason = "peer: pytorch-metric-learning is absent"
    losses, miners, distances = (
        pytest.importorskip(f"pytorch_metric_learning.{part}", reason=reason)
        for part in ("losses", "miners", "distances")
    )
    z, square = unit(3).float(), distances.LpDistance(power=2)
    mined = miners.TripletMarginMiner(margin=0.2, distance=square, type_of_triplets="semihard")(z, LABELS)
    expected = losses.TripletMarginLoss(margin=0.2, distance=square)(z, LABELS, mined)
    triplets = margin_triplets(squared_euclidean(z, z), LABELS, 0.2, "semi_hard")
    assert as_set(triplets) == as_set(torch.stack(mined, 1))
    torch.testing.assert_close(mean_of_active(TripletLoss()(z, triplets)), expected)


def test_harmonic_learner_keeps_the_old_network_and_lets_the_body_wait():
    old, new = tiny(), tiny().network
    before = {k: v.clone() for k, v in old.state_dict().items()}
    body = [p.clone() for p in new.parameters()]
    learner = HarmonicFaceNet(new, old, alone=1.0)
    first = learner.embedding.weight.detach().clone()
    fit(learner, [batch(i) for i in range(3)], steps=3)
    assert all(torch.equal(v, before[k]) for k, v in old.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(body, new.parameters(), strict=True))
    assert not torch.equal(first, learner.embedding.weight)
    learner.train()
    assert learner.network.training and not old.training
    fit(HarmonicFaceNet(new, old, alone=0.0), [batch()], steps=1)
    assert any(not torch.equal(a, b) for a, b in zip(body, new.parameters(), strict=True))


def test_bytes_keep_the_distances():
    z = unit(5, rows=200, width=128)
    small = to_bytes(z)
    assert small.dtype == torch.int8 and small[0].nbytes == 128
    back = small.double() / 127
    assert float((back - z).abs().max()) <= 0.5 / 127
    assert float((squared_euclidean(back, back) - squared_euclidean(z, z)).abs().max()) < 0.1


def test_mistakes_are_named():
    with value_error("margin must be positive"):
        TripletLoss(0)
    with value_error("2 or more"):
        tiny(samples=1)
    with value_error("num_features"):
        FaceNet(nn.Flatten())
    with value_error("divide the embeddings"):
        to_bytes(torch.full((1, 2), 3.0))
    with value_error("between 0 and 1"):
        HarmonicFaceNet(tiny().network, tiny(), alone=2)

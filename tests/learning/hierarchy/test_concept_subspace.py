import math

import networkx
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.typecheck import value_error
from ziggurat.data import Batch
from ziggurat.learning.hierarchy.concept_subspace import (
    ConceptSubspace,
    ConceptSubspaceLearner,
    ConceptSubspaceNetwork,
    HierarchicalConceptLearner,
    affine_basis,
    project,
    subspace_alignment,
    tree_edit_distance,
)

LEVELS = [[0, 0], [0, 1], [1, 2], [1, 3], [1, 4]]


def points(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(concepts=(2, 5), dim=8, seed=0):
    torch.manual_seed(seed)
    return ConceptSubspaceNetwork((6,), concepts, dim, (12,)).double()


def batch(count=7, classes=(2, 5)):
    target = torch.stack([torch.arange(count) % c for c in classes], 1)
    return Batch((points(count, 6, seed=3),), target, torch.arange(count))


@pytest.mark.fact("concept_subspace", 1)
def test_alignment_of_a_plane_with_itself_and_with_an_orthogonal_one():
    q = affine_basis(points(5, 9))
    assert float(subspace_alignment(q, q)) == pytest.approx(1 / 4)
    eye = torch.eye(9, dtype=torch.float64)
    assert float(subspace_alignment(eye[:, :4], eye[:, 5:])) == 0
    r = affine_basis(points(3, 9, seed=1))
    assert float(subspace_alignment(q, r)) == pytest.approx(float(subspace_alignment(r, q)))
    found = network().alignment()
    torch.testing.assert_close(found, found.T)


@pytest.mark.fact("concept_subspace", 2)
def test_projection_and_probabilities_that_it_does_not_change():
    p, z = points(4, 7), points(6, 7, seed=1)
    once = project(z, p)
    torch.testing.assert_close(project(once, p), once)
    torch.testing.assert_close(project(p, p), p)
    torch.manual_seed(0)
    concept = ConceptSubspace(4, 7).double()
    p, whole = concept.prototypes.detach(), torch.cdist(z, concept.prototypes.detach()).square()
    inside = torch.stack([(project(z, p) - row).square().sum(1) for row in p], 1)
    torch.testing.assert_close(concept.distances(z), inside)
    off = concept.residual(z).square().sum(1, keepdim=True)
    torch.testing.assert_close(whole - concept.distances(z), off.expand(6, 4))
    torch.testing.assert_close(concept(z), (-whole).log_softmax(1))
    torch.testing.assert_close(concept.coordinates(z).square().sum(1), (project(z, p) - p[0]).square().sum(1))


@pytest.mark.fact("concept_subspace", 3)
def test_mean_alignment_is_a_property_of_the_planes_and_the_maximum_is_not():
    a, b = points(4, 9), points(5, 9, seed=1)
    q, r = affine_basis(a), affine_basis(b)
    mean = subspace_alignment(q, r)
    assert float(mean) == pytest.approx(float(torch.linalg.matrix_norm(q.T @ r) ** 2) / (3 * 4))
    turn, _ = torch.linalg.qr(points(9, 9, seed=2))
    order = torch.tensor([2, 0, 3, 1])
    for other, beside in ((a[order], b), (a.flip(0), b), (a @ turn, b @ turn)):
        torch.testing.assert_close(subspace_alignment(affine_basis(other), affine_basis(beside)), mean)
    largest = [float((affine_basis(x).T @ r).square().max()) for x in (a, a[order])]
    assert abs(largest[0] - largest[1]) > 1e-3


@pytest.mark.fact("concept_subspace", 4)
def test_planes_need_no_more_dimensions_than_prototypes_less_one():
    made = ConceptSubspaceNetwork((6,), (10, 6, 2), 32, (8,)).double()
    bases = [concept.basis() for concept in made.concepts]
    assert [b.shape[1] for b in bases] == [9, 5, 1]
    assert int(torch.linalg.matrix_rank(torch.cat(bases, 1))) == 15
    points_of = [concept.prototypes for concept in made.concepts]
    assert [int(torch.linalg.matrix_rank(p[1:] - p[0])) for p in points_of] == [9, 5, 1]


@pytest.mark.fact("concept_subspace", 5)
def test_one_concept_without_kl_and_alignment_is_a_prototype_case_network():
    made, given = network((3,)).eval(), batch(7, (3,))
    learner = ConceptSubspaceLearner(made, 2.0, 0.5, 0.3, 0.4, kl=0.0).eval()
    terms = learner.losses(given)
    z = made.encode(given.inputs[0])[0]
    distances = torch.cdist(z, made.concepts[0].prototypes).square()
    target = given.target[:, 0]
    torch.testing.assert_close(terms["classification"], 2 * cross_entropy(-distances, target, reduction="none"))
    recon = (made.decoder(z) - given.inputs[0]).square().mean(1)
    torch.testing.assert_close(terms["reconstruction"], 0.5 * recon)
    assert not terms["kl"].any() and not terms["alignment"].any()


def test_losses_against_a_loop():
    made, given = network().eval(), batch()
    learner = ConceptSubspaceLearner(made, [1, 2], 0.1, [0.3, 0.4], [0.5, 0.6], [0.7, 0.8], alignment=3.0).eval()
    terms = learner.losses(given)
    mean, log_variance = made.encode(given.inputs[0])
    spread, near, reach = [0.0] * 7, [0.0] * 7, 0.0
    for k, p in enumerate(c.prototypes for c in made.concepts):
        inside = project(mean, p)
        d = torch.cdist(inside, p).square()
        reach += [0.5, 0.6][k] * float(d.min(0).values.mean())
        for b in range(7):
            near[b] += [0.3, 0.4][k] * float(d[b].min())
            for s, r in zip(log_variance[b].tolist(), (mean - inside)[b].tolist(), strict=True):
                spread[b] += [0.7, 0.8][k] * 0.5 * (math.exp(s) - s - 1 + r**2) / 8
    assert terms["kl"].tolist() == pytest.approx(spread)
    assert terms["to_prototype"].tolist() == pytest.approx(near)
    assert float(terms["to_sample"]) == pytest.approx(reach)
    bases = [c.basis() for c in made.concepts]
    assert float(terms["alignment"]) == pytest.approx(3 * float(subspace_alignment(*bases)))


def test_off_the_plane_all_prototypes_of_a_concept_are_equally_far():
    """So «softly the nearest prototype» of the KL term needs no softmax."""
    concept, mean = network().concepts[1], points(4, 8)
    p = concept.prototypes
    off = [(mean - row) - (project(mean, p) - row) for row in p]
    for one in off:
        torch.testing.assert_close(one, concept.residual(mean))


def test_several_prototypes_of_a_class_add_probability():
    torch.manual_seed(0)
    concept, z = ConceptSubspace(3, 8, 2).double(), points(4, 8)
    each = (-torch.cdist(z, concept.prototypes).square()).softmax(1)
    want = torch.stack([each[:, 2 * c] + each[:, 2 * c + 1] for c in range(3)], 1)
    torch.testing.assert_close(concept(z).exp(), want)


def test_noise_only_while_training():
    made, x = network(), points(3, 6)
    assert torch.equal(made.eval()(x).z, made.encode(x)[0])
    assert not torch.equal(made.train()(x).z, made.encode(x)[0])
    assert made(x).recon.shape == x.shape and [p.shape for p in made(x).log_probs] == [(3, 2), (3, 5)]


def test_own_encoder_and_decoder():
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 12))
    made = ConceptSubspaceNetwork((1, 4, 4), (3,), 6, (8,), encoder=encoder)
    assert made(torch.rand(2, 1, 4, 4)).recon.shape == (2, 1, 4, 4)


def test_hierarchy_learns_among_siblings_and_multiplies_down():
    made = network()
    learner = HierarchicalConceptLearner(made, LEVELS).double().eval()
    x, target = points(5, 6), torch.arange(5)
    z = made.encode(x)[0]
    coarse, fine = (concept(z).exp() for concept in made.concepts)
    want = torch.stack(
        [
            torch.stack([(coarse[b, p] * fine[b, c] / fine[b, [i for i, (q, _) in enumerate(LEVELS) if q == p]].sum()) for p, c in LEVELS])
            for b in range(5)
        ]
    )  # fmt: skip
    torch.testing.assert_close(learner.predict(x).exp(), want)
    torch.testing.assert_close(learner.predict(x).exp().sum(1), torch.ones(5).double())
    terms = learner.losses(Batch((x,), target, target))
    torch.testing.assert_close(terms["classification"], -want.log().diagonal())
    nearest = [torch.cdist(z, concept.prototypes).square().amin(1) for concept in made.concepts]  # in the whole space
    torch.testing.assert_close(terms["to_prototype"], 0.01 * (nearest[0] + nearest[1]))


def test_tree_and_its_edit_distance():
    made = network()
    right = torch.zeros(7, 8, dtype=torch.float64)
    right[0, 0], right[1, 0] = -5, 5
    right[2:4, 0], right[4:7, 0] = -5, 5
    right[2:, 1:6] = torch.eye(5)
    with torch.no_grad():
        made.concepts[0].prototypes.copy_(right[:2])
        made.concepts[1].prototypes.copy_(right[2:])
    tree, levels = made.tree(), torch.tensor(LEVELS)
    assert networkx.is_tree(tree) and set(tree) == {(0, i) for i in range(2)} | {(1, i) for i in range(5)}
    assert tree_edit_distance(tree, levels) == 0 or tree.number_of_edges() == 6
    assert {frozenset(e) for e in tree.edges} >= {frozenset({(0, p), (1, c)}) for p, c in LEVELS}
    star = networkx.Graph([((0, 0), (1, c)) for c in range(5)] + [((0, 0), (0, 1))])
    assert tree_edit_distance(star, levels) == 6
    assert tree_edit_distance(networkx.Graph(), levels) == 5


def test_mistakes_are_named():
    with value_error("two classes"):
        ConceptSubspace(1, 4)
    with value_error("span 5 dimensions"):
        ConceptSubspace(6, 4)
    with value_error("give each weight one number, or 2"):
        ConceptSubspaceLearner(network(), classification=[1, 2, 3])
    with value_error("do not fit 2 concepts"):
        ConceptSubspaceLearner(network()).losses(batch(classes=(2,)))
    with value_error("must be the same"):
        HierarchicalConceptLearner(network((3, 5)), LEVELS)

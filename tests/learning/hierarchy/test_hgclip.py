import inspect

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from torch_geometric.nn import GATConv

from tests.typecheck import value_error
from ziggurat.data.feeds import feed
from ziggurat.data.taxonomies import CIFAR10, numbered
from ziggurat.learning.hierarchy.hgclip import (
    HGCLIP,
    HierarchyEncoder,
    HierarchyGraphHead,
    MappedText,
    PromptedText,
    class_attention,
    class_aware,
    hierarchy_edges,
    node_prototypes,
    nodes_above,
)
from ziggurat.nn.fitting import fit
from ziggurat.testing.examples import example_images
from ziggurat.vision.backbones.resnet import cifar_resnet

LEVELS = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [1, 3, 4]])
# 0, 1 general;  2 … 5 middle;  6 … 10 classes
PARENT = {2: 0, 3: 0, 4: 1, 5: 1, 6: 2, 7: 2, 8: 3, 9: 4, 10: 5}
NODES, DIM = 11, 6


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def head(levels=LEVELS, **options):
    torch.manual_seed(0)
    nodes = int(nodes_above(levels).max()) + 1
    text = MappedText(randn(nodes, 4, seed=1), DIM)
    made = HierarchyGraphHead(text, randn(nodes, DIM, seed=2), levels, hidden=5, heads=2, **options)
    return made.double()


def no_edges():
    return torch.zeros(2, 0, dtype=torch.int64)


@pytest.mark.fact("hgclip", 1)
def test_the_graph_of_cifar10():
    levels = numbered([CIFAR10[name] for name in sorted(CIFAR10)])
    edges = hierarchy_edges(levels)
    assert levels.amax(0).tolist() == [1, 6, 9] and int(nodes_above(levels).max()) + 1 == 19
    assert edges.shape == (2, 34) and len(edges.unique(dim=1).T) == 34
    assert {tuple(e) for e in edges.T.tolist()} == {tuple(e) for e in edges.flip(0).T.tolist()}


def test_edges_of_a_small_tree():
    both = {(a, b) for a, b in PARENT.items()} | {(b, a) for a, b in PARENT.items()}
    assert {tuple(e) for e in hierarchy_edges(LEVELS).T.tolist()} == both
    assert hierarchy_edges(torch.arange(3)[:, None]).shape == (2, 0)


def test_prototypes_take_all_descendants():
    features, labels = randn(20, DIM), torch.arange(20) % 5
    means = node_prototypes(features, labels, LEVELS)
    for node in range(NODES):
        at = [i for i, c in enumerate(labels.tolist()) if node in nodes_above(LEVELS)[c]]
        torch.testing.assert_close(means[node], features[at].mean(0))
    with value_error("node 3 has none"):
        node_prototypes(features[labels != 2], labels[labels != 2], LEVELS)


@pytest.mark.fact("hgclip", 2)
def test_attention_over_classes():
    spatial, prototypes = randn(3, 7, DIM), randn(NODES, DIM, seed=1)
    a = class_attention(spatial, prototypes, 2.0)
    torch.testing.assert_close(a.sum(-1), torch.ones(3, 7, dtype=torch.float64))
    order = torch.randperm(7)
    aware = class_aware(spatial, prototypes, 2.0)
    torch.testing.assert_close(class_aware(spatial[:, order], prototypes, 2.0), aware)
    for b in range(3):
        rows = []
        for f in spatial[b]:
            share = torch.stack([torch.exp(2 * f @ p) for p in prototypes])
            rows.append((share / share.sum()) @ prototypes)
        rows = torch.stack(rows)
        torch.testing.assert_close(aware[b], rows.mean(0) + rows.max(0).values)


@pytest.mark.parametrize("conv", ["gat", "gcn", "sage"])
@pytest.mark.fact("hgclip", 3)
def test_without_edges_every_node_is_by_itself(conv):
    encoder = HierarchyEncoder(DIM, 5, 2, conv).double()
    x = randn(NODES, DIM)
    moved = x.clone()
    moved[3] += 1
    differs = (encoder(x, no_edges()) != encoder(moved, no_edges())).any(1)
    assert differs.tolist() == [k == 3 for k in range(NODES)]


@pytest.mark.fact("hgclip", 3)
def test_renaming_classes_renames_the_logits():
    made, (image, spatial) = head(), (randn(4, DIM, seed=3), randn(4, 9, DIM, seed=4))
    # leaves c d e b a, middle nodes 0 → 2, 1 → 0, 2 → 1, 3 → 3, general ones exchanged
    leaf, middle, general = torch.tensor([2, 3, 4, 1, 0]), torch.tensor([1, 2, 0, 3]), torch.tensor([1, 0])
    place = middle.argsort()
    levels = torch.stack([1 - LEVELS[leaf, 0], place[LEVELS[leaf, 1]], torch.arange(5)], 1)
    nodes = torch.cat([general, 2 + middle, 6 + leaf])
    other = head(levels)
    other.load_state_dict({k: v for k, v in made.state_dict().items() if "encoder" in k or "map" in k}, strict=False)
    other.text.vectors.copy_(made.text.vectors[nodes])
    other.prototypes.copy_(made.prototypes[nodes])
    got, want = other(image, spatial), made(image, spatial)
    for a, b, order in zip(got, want, (general, middle, leaf), strict=True):
        torch.testing.assert_close(a, b[:, order])
    assert other.consistency(got) == made.consistency(want)


@pytest.mark.fact("hgclip", 4)
@pytest.mark.parametrize("conv", ["gat", "gcn", "sage"])
def test_three_layers_reach_three_hops(conv):
    encoder, edges = HierarchyEncoder(DIM, 5, 2, conv).double(), hierarchy_edges(LEVELS)
    adjacency = torch.eye(NODES, dtype=torch.bool)
    adjacency[edges[0], edges[1]] = True
    reach = (adjacency.double().matrix_power(3) > 0)[6]
    x = randn(NODES, DIM)
    for k in range(NODES):
        moved = x.clone()
        moved[k] += 1
        assert bool((encoder(x, edges)[6] != encoder(moved, edges)[6]).any()) == bool(reach[k])
    assert reach[7] and not reach[8]  # a sibling is two hops away, a cousin four


@pytest.mark.fact("hgclip", 5)
def test_defaults():
    given = {name: p.default for name, p in inspect.signature(HierarchyGraphHead).parameters.items()}
    assert (given["sharpness"], given["weight"], given["factor"], given["heads"], given["hidden"]) == (
        2,
        0.2,
        100,
        8,
        1024,
    )
    layers = HierarchyEncoder(4).layers
    assert len(layers) == 3 and all(isinstance(layer, GATConv) and layer.heads == 8 for layer in layers)


def test_logits_one_by_one():
    made, image, spatial = head(scale=3.0, weight=0.5, factor=2.0), randn(4, DIM, seed=3), randn(4, 9, DIM, seed=4)
    texts = normalize(made.text_encoder(made.text(), hierarchy_edges(LEVELS)), dim=1)
    prototypes = made.image_encoder(made.prototypes, hierarchy_edges(LEVELS))
    aware = class_aware(spatial, prototypes, 2.0)
    logits = made(image, spatial)
    assert [one.shape[1] for one in logits] == [2, 4, 5]
    flat = torch.cat(logits, 1)
    for b in range(4):
        for k in range(NODES):
            want = 3 * image[b] @ texts[k] / image[b].norm() + aware[b] @ texts[k]
            torch.testing.assert_close(flat[b, k], want)


def test_residual_and_no_attention():
    encoder, x = HierarchyEncoder(DIM, 5, 2, residual=True).double(), randn(NODES, DIM)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    torch.testing.assert_close(encoder(x, no_edges()), x)
    plain = head(weight=0.0)
    assert plain.image_encoder is None
    image, one, other = randn(2, DIM), randn(2, 9, DIM), randn(2, 9, DIM, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(plain(image, one), plain(image, other), strict=True))


def test_consistency():
    logits = [torch.eye(2)[[0, 0, 1]], torch.eye(4)[[0, 1, 2]], torch.eye(5)[[1, 1, 3]]]
    assert head().consistency(logits) == pytest.approx(2 / 3)  # the second image's class is below another middle node
    parents = [
        torch.tensor([PARENT[k] - first for k in nodes]) for nodes, first in ((range(2, 6), 0), (range(6, 11), 2))
    ]
    predicted = [one.argmax(1) for one in logits]
    assert torch.stack([parents[0][predicted[1]] == predicted[0], parents[1][predicted[2]] == predicted[1]]).all(
        0
    ).tolist() == [True, False, True]


def test_prompts_are_learnt_in_front_of_the_name():
    class Tower(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, DIM)
            self.seen = None

        def forward(self, x):
            self.seen = x
            return self.linear(x.mean(1))

    tower, tokens = Tower(), randn(NODES, 4, 3).float()
    text = PromptedText(tokens, tower, contexts=2)
    text().sum().backward()
    assert text.context.grad.any() and tower.linear.weight.grad is None
    assert torch.equal(tower.seen[:, [0, 3, 4, 5]], tokens)
    assert torch.equal(tower.seen[5, 1:3], text.context)
    with value_error("contexts"):
        PromptedText(tokens, tower, contexts=0)


def learner(size=8):
    network = cifar_resnet(8, 4, widths=(4, 4, 8))
    levels = torch.tensor([[0, 0], [0, 1], [1, 2], [1, 3]])
    made = HierarchyGraphHead(MappedText(torch.eye(6), size), torch.zeros(6, size), levels, hidden=16, conv="sage")
    return HGCLIP(network, made, lr=0.01), levels


def test_learner_trains_the_head_alone():
    made, levels = learner()
    images = example_images(16)
    made.set_prototypes(images.inputs(slice(None)), images.labels)
    image, spatial = made.encode(images.inputs(slice(None)))
    assert spatial.shape == (16, 16, 8)
    torch.testing.assert_close(image, spatial.mean(1))
    torch.testing.assert_close(made.head.prototypes, node_prototypes(image, images.labels, levels))
    batch = next(iter(feed(images, made.feed, 8)))
    logits = made.head(*made.encode(*batch.inputs))
    for n, loss in enumerate(made.losses(batch).values()):
        torch.testing.assert_close(loss, cross_entropy(logits[n], levels[batch.target, n], reduction="none"))
    before = {name: value.clone() for name, value in made.network.state_dict().items()}
    fit(made, feed(images, made.feed, 8), steps=200)
    assert all(torch.equal(value, made.network.state_dict()[name]) for name, value in before.items())
    assert float((made.predict(images.inputs(slice(None))).argmax(1) == images.labels).float().mean()) > 0.8
    made.train()
    assert not made.network.training and made.head.training


def test_mistakes_are_named():
    with value_error("11 nodes, and there are 10 prototypes"):
        HierarchyGraphHead(MappedText(randn(11, 4), DIM), randn(10, DIM), LEVELS)
    with value_error("without gaps"):
        hierarchy_edges(2 * LEVELS)
    with value_error("the class itself"):
        hierarchy_edges(LEVELS.flip(0))
    with value_error("gat, gcn, sage"):
        HierarchyEncoder(DIM, conv="mean")
    with value_error("names node 11"):
        HierarchyEncoder(DIM)(randn(11, DIM).float(), torch.tensor([[11], [0]]))

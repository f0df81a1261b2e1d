import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.graphs.attacks import dice, meta_gradient, random_add
from ziggurat.data.graphs.generators import planted, stochastic_blocks


def pairs(edges):
    return {frozenset(e) for e in edges.T.tolist()}


def graph():
    edges, y = stochastic_blocks([20, 20], planted(0.2, 0.02, 2), 0)
    x = torch.nn.functional.one_hot(y, 6) + 0.7 * torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    return x, edges, y


def test_random_edges_are_new_and_undirected():
    _, edges, _ = graph()
    more = random_add(edges, 40, 25, seed=1)
    assert torch.equal(more[:, : edges.shape[1]], edges)
    assert len(pairs(more)) == len(pairs(edges)) + 25 and more.shape[1] == edges.shape[1] + 50
    assert (more[0] != more[1]).all()
    assert torch.equal(more, random_add(edges, 40, 25, seed=1)) and not torch.equal(more, random_add(edges, 40, 25, 2))


def test_dice_deletes_within_classes_and_adds_between_them():
    _, edges, y = graph()
    attacked = dice(edges, y, deleted=10, added=15)
    gone, new = pairs(edges) - pairs(attacked), pairs(attacked) - pairs(edges)
    assert len(gone) == 10 and len(new) == 15
    assert all(len({int(y[n]) for n in pair}) == 1 for pair in gone)
    assert all(len({int(y[n]) for n in pair}) == 2 for pair in new)


def test_meta_gradients_hurt_more_than_random_flips():
    x, edges, y = graph()
    train = torch.arange(40) % 4 == 0
    attacked = meta_gradient(x, edges, y, train, budget=6)
    changed = pairs(edges) ^ pairs(attacked)
    assert len(changed) == 6 and (attacked[0] != attacked[1]).all()
    assert torch.equal(attacked, attacked[:, (attacked[0] * 40 + attacked[1]).argsort()])
    assert pairs(attacked.flip(0)) == pairs(attacked) and len(pairs(attacked)) * 2 == attacked.shape[1]
    between = [len({int(y[n]) for n in pair}) == 2 for pair in changed if pair not in pairs(edges)]
    assert sum(between) >= 0.8 * len(between)
    unseen = torch.where(train, y, 1 - y)
    assert torch.equal(meta_gradient(x, edges, unseen, train, budget=2), meta_gradient(x, edges, y, train, budget=2))


@pytest.mark.parametrize("attack", [random_add])
def test_mistakes_are_named(attack):
    x, edges, y = graph()
    with value_error("0 or more"):
        attack(edges, 40, -1)
    with value_error("add fewer"):
        attack(edges, 40, 40 * 39)
    with value_error("delete fewer"):
        dice(edges, y, 10_000, 0)
    with value_error("cut the graph"):
        meta_gradient(x, edges, y, torch.arange(40) < 9, 1, largest=10)
    with value_error("budget"):
        meta_gradient(x, edges, y, torch.arange(40) < 9, -1)

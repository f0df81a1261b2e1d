import pytest
import torch

from tests.typecheck import value_error
from ziggurat.architect.nasnet_space import NASNetSearchSpace, random_search
from ziggurat.vision.backbones.nasnet import NASNet
from ziggurat.vision.backbones.nasnet_cells import NASNET_A


def generator(seed):
    return torch.Generator().manual_seed(seed)


def test_decisions_and_genotypes_are_the_same_thing():
    space = NASNetSearchSpace()
    assert len(space.choices) == 2 * 5 * 5
    for seed in range(20):
        genotype = space.sample(generator(seed))
        assert space.decode(space.encode(genotype)) == genotype
    decoded = space.decode(space.encode(NASNET_A))
    assert decoded.normal.blocks == NASNET_A.normal.blocks and decoded.reduction.blocks == NASNET_A.reduction.blocks


def test_size_of_the_space():
    assert NASNetSearchSpace(1, ("identity", "sep3")).size == (2 * 2 * 2 * 2 * 2) ** 2


def test_states_that_nobody_reads_are_the_outputs():
    for seed in range(20):
        for cell in (NASNetSearchSpace().sample(generator(seed)).normal,):
            read = {state for block in cell.blocks for _, state in (block.left, block.right)}
            assert set(cell.outputs) == set(range(7)) - read and 6 in cell.outputs


@pytest.mark.parametrize("seed", range(4))
def test_every_random_cell_makes_a_network(seed):
    genotype = NASNetSearchSpace().sample(generator(seed))
    for stem in ("cifar", "imagenet"):
        network = NASNet(3, cells=1, width=4, genotype=genotype, stem=stem, stem_width=5, skip=seed % 2 == 1)
        x = torch.randn(2, 3, 37, 33)
        features = network.forward_features(x)
        assert tuple(f.shape[1] for f in features) == network.channels
        network(x).sum().backward()
        assert all(p.grad is not None for p in network.parameters())


def test_random_search_returns_the_best_first():
    space = NASNetSearchSpace(2)
    found = random_search(space, lambda g: float(sum(space.encode(g))), 6, generator(0))
    scores = [score for score, _ in found]
    assert len(found) == 6 and scores == sorted(scores, reverse=True)
    again = random_search(space, lambda g: float(sum(space.encode(g))), 6, generator(0))
    assert found == again


def test_mistakes_are_named():
    space = NASNetSearchSpace(1)
    with value_error("10 decisions make a genotype, got 3"):
        space.decode([0, 0, 0])
    with value_error("decision 2 is one of 13, got 13"):
        space.decode([0, 0, 13, 0, 0, 0, 0, 0, 0, 0])
    with value_error("'conv' is no operation"):
        NASNetSearchSpace(operations=("conv",))
    with value_error("at least 1, got 0"):
        NASNetSearchSpace(0)

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data import Batch
from ziggurat.data.feeds import feed
from ziggurat.learning.hierarchy.ml_capsnet import (
    CapsuleDecoder,
    ChainedMLCapsNet,
    MarginLoss,
    MLCapsNet,
    MLCapsNetLearner,
    level_weights,
)
from ziggurat.nn.capsules import lengths, squash
from ziggurat.nn.fitting import fit
from ziggurat.testing.examples import example_images

LEVELS = [[0, 0], [0, 1], [1, 2], [1, 3]]


def small(cls=MLCapsNet, sizes=(2, 4), iterations=2):
    torch.manual_seed(0)
    return cls(sizes, 3, 16, width=8, types=2, dim=4, out_dim=6, kernel=5, iterations=iterations)


def learner(**options):
    return MLCapsNetLearner(small(), LEVELS, (3, 16, 16), decoder=(16,), **options)


@pytest.mark.fact("ml_capsnet", 2)
def test_counts_of_the_published_front_end():
    with torch.device("meta"):
        network = MLCapsNet((2, 6, 10))
    assert [level.weight.shape[0] for level in network.levels] == [1152] * 3
    assert sum(level.weight.numel() for level in network.levels) == 2_654_208
    assert network.stem[0].weight.shape == (256, 1, 9, 9) and network.primary.conv.weight.shape == (256, 256, 9, 9)


@pytest.mark.fact("ml_capsnet", 4)
def test_one_level_is_capsnet():
    network, x = small(sizes=(4,), iterations=3).double(), torch.rand(2, 3, 16, 16, dtype=torch.float64)
    maps = network.primary.conv(torch.relu(network.stem[0](x)))
    u = squash(maps.reshape(2, 2, 4, 4, 4).permute(0, 1, 3, 4, 2).reshape(2, 32, 4))
    votes = torch.stack([torch.stack([u[:, i] @ w.T for w in network.levels[0].weight[i]], 1) for i in range(32)], 1)
    b = torch.zeros(2, 32, 4, dtype=torch.float64)
    for _ in range(3):  # as CapsNet's procedure 1 has it
        v = squash((b.softmax(2)[..., None] * votes).sum(1))
        b = b + (votes * v[:, None]).sum(3)
    torch.testing.assert_close(network(x)[0], lengths(v))
    one = MLCapsNetLearner(small(sizes=(4,)), [[0], [1], [2], [3]], (3, 16, 16), decoder=(16,))
    assert one.weights.tolist() == [1.0]
    target = torch.tensor([1, 3])
    terms = one.losses(Batch((x.float(),), target, torch.arange(2)))
    margin = MarginLoss()(one.network(x.float())[0], target)
    torch.testing.assert_close(terms["level0"], (1 - 0.0005) * margin)
    drawn = one.reconstruct(x.float(), target[:, None])
    torch.testing.assert_close(terms["reconstruction"], 0.0005 * (drawn - x.float()).square().sum((1, 2, 3)))


@pytest.mark.fact("ml_capsnet", 5)
def test_margin_loss():
    loss, target = MarginLoss(), torch.tensor([1])
    assert (
        float(loss(torch.tensor([[0.1, 0.9, 0.0]]), target))
        == 0
        == float(loss(torch.tensor([[0.0, 1.0, 0.1]]), target))
    )
    assert (
        float(loss(torch.tensor([[0.1, 0.89, 0.0]]), target))
        > 0
        < float(loss(torch.tensor([[0.11, 0.9, 0.0]]), target))
    )
    assert float(loss(torch.zeros(1, 3), target)) == pytest.approx(0.81)
    assert float(loss(torch.tensor([[0.5, 0.6, 0.2]]), target)) == pytest.approx(0.3**2 + 0.5 * (0.4**2 + 0.1**2))


def test_the_decoder_sees_the_capsules_of_the_classes_only():
    decoder, capsules = CapsuleDecoder((2, 3), 4, (1, 5, 5), (8,)), [torch.randn(1, 2, 4), torch.randn(1, 3, 4)]
    classes = torch.tensor([[1, 2]])
    drawn = decoder(capsules, classes)
    assert drawn.shape == (1, 1, 5, 5) and ((drawn > 0) & (drawn < 1)).all()
    changed = [capsules[0].clone(), capsules[1].clone()]
    changed[0][:, 0] += 1
    changed[1][:, :2] += 1
    assert torch.equal(decoder(changed, classes), drawn)
    changed[1][:, 2] += 1
    assert not torch.equal(decoder(changed, classes), drawn)


def test_reconstruction_takes_the_predicted_classes_where_none_are_given():
    own, x = learner(), torch.rand(3, 3, 16, 16)
    predicted = torch.stack([v.argmax(1) for v in own.network(x)], 1)
    assert torch.equal(own.reconstruct(x), own.reconstruct(x, predicted))


def test_weights_move_from_coarse_to_fine():
    start = torch.tensor([0.5, 0.3, 0.2])
    torch.testing.assert_close(level_weights(torch.zeros(3), start, start), start)
    moved = level_weights(torch.tensor([0.9, 0.5, 0.0]), start, start)
    torch.testing.assert_close(moved, torch.tensor([0.05, 0.15, 0.2]) / 0.4)
    assert torch.equal(level_weights(torch.ones(3), start, moved), moved)
    assert learner().weights.tolist() == pytest.approx([2 / 3, 1 / 3])  # 1 / |K|, normalised
    assert learner(adaptive=False).weights.tolist() == [0.5, 0.5]


def test_accuracies_of_the_epoch_make_the_weights():
    data, own = example_images(8), learner(lr=1e-3)
    fit(own, feed(data, own.feed, 8), epochs=1)
    torch.manual_seed(0)
    with torch.no_grad():
        before = learner().network(data.inputs(slice(None)))
    right = torch.stack([(v.argmax(1) == own.levels[data.labels, n]).float().mean() for n, v in enumerate(before)])
    torch.testing.assert_close(own.weights, level_weights(right, own.start, own.start))
    assert not own.seen and not own.right.any()


def test_a_chain_hears_the_level_above():
    network, x = small(ChainedMLCapsNet), torch.rand(2, 3, 16, 16)
    before = network(x)
    assert [tuple(v.shape) for v in before] == [(2, 2), (2, 4)]
    with torch.no_grad():
        network.parents[0].weight.add_(1)
    assert torch.equal(network(x)[0], before[0]) and not torch.equal(network(x)[1], before[1])
    with torch.no_grad():  # silent parents: the votes are zero, and so the sum is that of the primary capsules alone
        network.parents[0].weight.zero_()
    single = small(ChainedMLCapsNet, iterations=1)
    with torch.no_grad():
        single.parents[0].weight.zero_()
        plain = small(iterations=1)
        plain.load_state_dict({k: v for k, v in single.state_dict().items() if not k.startswith("parents")})
        for got, want in zip(single(x), plain(x), strict=True):
            torch.testing.assert_close(got, want)


def test_mistakes_are_named():
    with value_error("too small for two kernels of 9"):
        MLCapsNet((2, 4), image_size=16)
    with value_error("tau"):
        learner(tau=1.0)
    with value_error("build it for these"):
        MLCapsNetLearner(small(sizes=(2, 3)), LEVELS, (3, 16, 16))
    with value_error("in this order"):
        MLCapsNetLearner(small(), [[0, 1], [0, 0], [1, 2], [1, 3]], (3, 16, 16))

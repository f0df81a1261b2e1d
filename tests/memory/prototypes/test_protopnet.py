import math
from itertools import product

import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.data import Batch
from ziggurat.data.feeds import Labelled, feed
from ziggurat.memory.prototypes.protopnet import (
    ProtoPNet,
    activation_boxes,
    add_logits,
    explain,
    log_similarity,
    patch_distances,
)
from ziggurat.memory.prototypes.protopnet_training import (
    LastLayer,
    ProtoPNetLearner,
    evidence,
    nearest_images,
    own_and_other,
    prune,
    purity,
    push,
    train_protopnet,
)
from ziggurat.nn import MLP
from ziggurat.testing.examples import example_images
from ziggurat.vision.backbones.resnet import cifar_resnet


def network(classes=4, per_class=3, width=6):
    torch.manual_seed(0)
    return ProtoPNet(cifar_resnet(8, 4, widths=(4, 6, 8)), classes, per_class, width).eval()


def plain(count=24):
    """Batches of seven, in a random order, of images of four classes."""
    return feed(example_images(count), Labelled(), 7, 1)


@pytest.mark.fact("protopnet", 1)
def test_pushed_prototypes_are_patches():
    made, data = network().double(), example_images(24)
    batches = [
        Batch((b.inputs[0].double(),), b.target, b.index + 100) for b in feed(data, Labelled(), 7, 1)
    ]  # ids are not rows
    x = data.inputs(slice(None)).double()
    before = made.distances(x).detach()
    moved = push(made, batches)
    maps = made.distances(x).detach()
    assert float(maps.flatten(2).amin((0, 2)).max()) < 1e-5
    for j in range(12):
        own = (data.labels == made.head.owner[j]).nonzero().flatten()
        image = int(made.head.source[j]) - 100
        best, place = before[own, j].flatten().min(0)
        assert image == own[int(place) // maps[0, 0].numel()]
        assert float(moved[j]) == pytest.approx(float(best))
        row, column = divmod(int(maps[image, j].argmin()), maps.shape[3])
        assert float(maps[image, j, row, column]) < 1e-5
        left, top, right, bottom = made.head.source_box[j].tolist()
        stride = 16 / maps.shape[3]
        assert left < (column + 1) * stride and right > column * stride
        assert top < (row + 1) * stride and bottom > row * stride


def test_push_in_evaluation_mode_and_without_a_class():
    made = network().train()
    kept = made.head.prototypes.detach().clone()
    push(made, [b for b in plain() if (b.target < 3).any()][:0])
    torch.testing.assert_close(made.head.prototypes.detach(), kept)
    stats = {k: v.clone() for k, v in made.state_dict().items() if "running" in k or "tracked" in k}
    batch = next(iter(plain()))
    some = batch.target < 3
    push(made, [Batch((batch.inputs[0][some],), batch.target[some], batch.index[some])])
    torch.testing.assert_close(made.head.prototypes[9:].detach(), kept[9:])
    assert (made.head.source[9:] == -1).all()
    assert made.training and all(torch.equal(v, made.state_dict()[k]) for k, v in stats.items())


@pytest.mark.fact("protopnet", 2)
def test_similarity_falls_from_log_of_one_over_eps_to_zero():
    d = torch.linspace(0, 50, 500, dtype=torch.float64)
    g = log_similarity(d)
    assert float(g[0]) == pytest.approx(math.log(1e4)) == pytest.approx(9.2103, abs=1e-4)
    assert (g.diff() < 0).all()
    assert float(log_similarity(torch.tensor([1e12]).double())) == pytest.approx(0, abs=1e-11)


@pytest.mark.fact("protopnet", 3)
def test_published_counts():
    with torch.device("meta"):
        made = ProtoPNet(cifar_resnet(8, 10), 200, 10, 128)
    assert made.head.prototypes.numel() == 256_000 and made.head.last.weight.numel() == 400_000
    assert made.head.last.bias is None


@pytest.mark.fact("protopnet", 4)
def test_logits_are_a_sum_of_evidence():
    made, x = network().double().requires_grad_(False), torch.rand(5, 3, 16, 16).double()
    least = made.distances(x).flatten(2).amin(2)
    weight = made.head.last.weight
    assert weight[2].tolist() == [-0.5] * 6 + [1.0] * 3 + [-0.5] * 3
    for i, k in product(range(5), range(4)):
        total = sum(
            float(weight[k, j]) * math.log((float(least[i, j]) + 1) / (float(least[i, j]) + 1e-4)) for j in range(12)
        )
        assert float(made(x)[i, k]) == pytest.approx(total)
    lines = explain(made, x[0], target=1, count=12)
    assert sum(line.contribution for line in lines) == pytest.approx(float(made(x)[0, 1]))
    assert [line.contribution for line in lines] == sorted((line.contribution for line in lines), reverse=True)
    torch.testing.assert_close(made.activation_maps(x).flatten(2).amax(2), log_similarity(least))


@pytest.mark.fact("protopnet", 5)
def test_distances_by_convolution_equal_a_loop():
    z, p = torch.rand(2, 128, 3, 2), torch.rand(5, 128)
    got = patch_distances(z, p)
    for i, j, r, c in product(range(2), range(5), range(3), range(2)):
        assert float(got[i, j, r, c]) == pytest.approx(float((z[i, :, r, c] - p[j]).square().sum()), abs=1e-4)
    assert not patch_distances(p[:, :, None, None], p).lt(0).any()


def test_own_and_other_distances():
    d = torch.tensor([[3.0, 1, 4, 1.5], [5, 9, 2, 6]])
    own, other = own_and_other(d, torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1]))
    assert own.tolist() == [1, 2] and other.tolist() == [1.5, 5]


def test_the_separation_term_is_lost_less_when_other_prototypes_are_far():
    made = network()
    learner = ProtoPNetLearner(made, cluster=0.8, separation=0.08).eval()
    batch = next(iter(plain()))
    terms = learner.losses(batch)
    own, other = own_and_other(made.distances(batch.inputs[0]).flatten(2).amin(2), made.head.owner, batch.target)
    torch.testing.assert_close(terms["cluster"], 0.8 * own)
    torch.testing.assert_close(terms["separation"], -0.08 * other)
    assert not made.head.last.weight.requires_grad and made.head.prototypes.requires_grad


def test_the_backbone_waits_for_its_turn():
    recipe = ProtoPNetLearner(network(), warm=0.4, backbone_lr=2e-4, lr=1e-2).recipe()
    assert [group["lr"] for group in recipe.optimizer.param_groups] == [2e-4, 1e-2]
    assert [recipe.schedule[0](f) for f in (0, 0.39, 0.4, 0.69, 0.7)] == [0, 0, 1, 1, 0.1]
    assert recipe.schedule[1](0.1) == recipe.schedule[1](0.9) == 1


def test_rounds_train_everything_and_end_with_real_patches():
    made = network()
    before = {name: value.detach().clone() for name, value in made.named_parameters()}
    learner = ProtoPNetLearner(made, warm=0.5, backbone_lr=1e-3, lr=1e-2)
    train_protopnet(learner, plain(), plain(), rounds=2, epochs=4, last_epochs=10, last_lr=1e-2)
    assert all(not torch.equal(value, before[name]) for name, value in made.named_parameters())
    data = example_images(24)
    assert float(made.distances(data.inputs(slice(None))).flatten(2).amin((0, 2)).max()) < 1e-3
    assert not made.training and (made.head.source >= 0).all()


def test_last_layer_loses_cross_entropy_and_the_weights_of_others():
    made = network()
    table = evidence(made, plain())
    assert table.x.shape == (24, 12)
    learner = LastLayer(made.head.last, ~made.head.owns(), l1=0.5)
    index = torch.arange(6)
    terms = learner.losses(Batch((table.x[index],), table.labels[index], index))
    assert float(terms["sparsity"]) == pytest.approx(0.5 * 0.5 * 36)
    assert terms["cross_entropy"].shape == (6,)


def test_nearest_images_purity_and_pruning():
    made, data = network(), example_images(24)
    push(made, plain())
    least = made.distances(data.inputs(slice(None))).flatten(2).amin(2)
    found = nearest_images(made, plain(), 6)
    torch.testing.assert_close(found.distances, least.T.sort(1).values[:, :6], atol=1e-5, rtol=1e-4)
    same = (data.labels[found.images] == made.head.owner[:, None]).float()
    torch.testing.assert_close(purity(made, plain(), 6), same.mean(1))
    made.head.owner[0] = 3  # a prototype that stands for another class than its images
    kept = (data.labels[found.images] == made.head.owner[:, None]).sum(1) >= 5
    want = made.head.last(log_similarity(least) * kept)
    removed = prune(made, plain(), 6, 5)
    assert removed == int((~kept).sum()) >= 1 and made.num_features == 12 - removed
    torch.testing.assert_close(made(data.inputs(slice(None))), want, atol=1e-3, rtol=1e-3)


def test_boxes_hold_the_peak():
    maps = torch.zeros(2, 4, 4)
    maps[0, 1, 2] = 1
    maps[1, 3, 0] = 1
    left, top, right, bottom = activation_boxes(maps, (16, 16)).unbind(1)
    assert left[0] >= 6 and right[0] <= 14 and top[0] >= 2 and bottom[0] <= 10
    assert left[1] == 0 and bottom[1] == 16 and right[1] < 8 and top[1] > 8


@pytest.mark.parametrize("mode", [True, False])
def test_an_explanation_is_that_of_evaluation_and_leaves_the_network_alone(mode):
    made, x = network(), torch.rand(3, 16, 16)
    want = explain(made, x, count=12)
    made.train(mode)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    assert explain(made, x, count=12) == want
    assert made.training is mode and made.backbone.training is mode
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in before.items())
    with value_error("no class 9"):
        explain(made, x, target=9)
    assert made.training is mode


def test_ensembles_add():
    a, b, x = network(), network(per_class=2), torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(add_logits([a, b], x), a(x) + b(x))


def test_mistakes_are_named():
    with value_error("no network of images"):
        ProtoPNet(MLP(8, 2), 2)
    with value_error("per_class must be 1"):
        network(per_class=0)
    with value_error("two classes or more"):
        ProtoPNetLearner(network(classes=0))
    with value_error("fraction of the run"):
        ProtoPNetLearner(network(), warm=1.0)
    with value_error("no class 9"):
        explain(network(), torch.rand(3, 16, 16), target=9)
    with value_error("no classes to explain"):
        explain(network(classes=0), torch.rand(3, 16, 16))
    with value_error("fewer than 30 images"):
        nearest_images(network(), plain(), 30)
    with value_error("0 \\(similarities\\)"):
        network().reset_classifier(-1)
    assert isinstance(network(classes=0).head.last, nn.Identity)

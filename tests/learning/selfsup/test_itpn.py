import pytest
import torch
from torch.nn.functional import layer_norm

from tests.typecheck import value_error
from ziggurat.data import Batch, Images, feed
from ziggurat.learning.selfsup.itpn import IntegralPretraining, unit_pixels
from ziggurat.nn import fit
from ziggurat.nn.masking import random_masking
from ziggurat.vision.backbones.resnet import cifar_resnet
from ziggurat.vision.backbones.transformers.hivit import ITPN, HiViT


def learner(**options):
    torch.manual_seed(0)
    network = ITPN(HiViT(32, 1, 2, 4, 0, image_size=32, token=2, relative_bias=False), 16)
    return IntegralPretraining(network, 32, **{"width": 32, "depth": 1, "heads": 4, **options})


def images(count=4, size=32):
    torch.manual_seed(1)
    return Batch((torch.rand(count, 3, size, size),), torch.zeros(count, dtype=torch.int64), torch.arange(count))


@pytest.mark.fact("itpn", 5)
def test_a_quarter_of_the_units_is_kept():
    kept, hidden = random_masking(3, 196, 0.75)
    assert kept.shape == (3, 49) == (3, int(196 * 0.25)) and (hidden.sum(1) == 147).all()


def test_the_backbone_sees_the_kept_units_only():
    model, seen = learner(), []
    for network in (model.network, model.teacher.network):
        network.stages[0].register_forward_hook(lambda *given: seen.append(given[2].tokens.shape))
    model.losses(images())
    assert seen == [(4, 4, 4, 4, 8), (4, 16, 4, 4, 8)]  # the slow copy sees everything


def test_pixel_loss_counts_hidden_units_only():
    model, batch = learner(feature_weight=0.0).eval(), images()
    drawn = []
    model.decoder.register_forward_hook(lambda *given: drawn.append((given[1][1].kept, given[2])))
    loss = model.losses(batch)["pixels"]
    (kept, predicted), target = drawn[0], unit_pixels(batch.inputs[0], 8)
    for i in range(4):
        hidden = [n for n in range(16) if n not in kept[i].tolist()]
        want = torch.stack([((predicted[i, n] - target[i, n]) ** 2).mean() for n in hidden]).mean()
        torch.testing.assert_close(loss[i], want)


def test_hidden_pixels_do_not_reach_the_prediction():
    model, batch = learner().eval(), images()
    drawn = []
    model.decoder.register_forward_hook(lambda *given: drawn.append((given[1][1].kept, given[2].detach())))
    torch.manual_seed(3)
    model.losses(batch)
    hidden = torch.ones(4, 16, dtype=torch.bool).scatter(1, drawn[0][0], False)
    mask = hidden.view(4, 1, 4, 1, 4, 1).expand(4, 3, 4, 8, 4, 8).reshape(4, 3, 32, 32)
    batch.inputs = (torch.where(mask, torch.rand(4, 3, 32, 32), batch.inputs[0]),)
    torch.manual_seed(3)
    model.losses(batch)
    assert torch.equal(drawn[0][0], drawn[1][0]) and torch.equal(drawn[0][1], drawn[1][1])


def test_pixels_of_a_unit_are_normalised_and_in_order():
    x = torch.randn(2, 3, 16, 24)
    pixels = unit_pixels(x, 8)
    assert pixels.shape == (2, 6, 192)
    torch.testing.assert_close(
        pixels[1, 4], layer_norm(x[1, :, 8:16, 8:16].permute(1, 2, 0).flatten(), (192,), eps=1e-6)
    )


def test_feature_loss_is_the_sum_over_levels_of_the_error_to_the_slow_copy():
    model, batch = learner(feature_weight=0.5).eval(), images()
    torch.nn.init.normal_(model.teacher.network.stem.proj.weight)
    torch.manual_seed(5)
    got = model.losses(batch)["features"]
    torch.manual_seed(5)
    kept, _ = random_masking(4, 16)
    levels = model.network.neck(model.network.encode(*batch.inputs, kept))
    tokens = model.teacher.network.encode(*batch.inputs)[-1].tokens[:, :, 0, 0]
    tokens = (tokens - tokens.mean((0, 1))) / (tokens.var((0, 1), correction=0) + 1e-5).sqrt()
    want = torch.zeros(4)
    for i in range(4):
        for embed, head, level in zip(model.embed, model.predict_features, levels, strict=True):
            want[i] += 0.5 * (head(embed(level.tokens)[i]) - tokens[i, kept[i]]).square().mean()
    torch.testing.assert_close(got, want)
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_targets_vary_however_alike_the_features_are():
    model, batch = learner().eval(), images()
    for p in model.teacher.network.stages[2].parameters():
        p.mul_(0.5)
    wanted = model.wanted(*batch.inputs)
    torch.testing.assert_close(wanted.std((0, 1), correction=0), torch.ones(32), atol=0.01, rtol=0)


def test_the_slow_copy_follows_and_is_left_out_without_features():
    model = learner(momentum=0.5)
    before = model.teacher.network.stem.proj.weight.clone()
    fit(model, [images()], steps=2)
    after, student = model.teacher.network.stem.proj.weight, model.network.stem.proj.weight
    assert not torch.equal(after, before) and not torch.equal(after, student)
    plain = learner(feature_weight=0.0)
    assert plain.teacher is None and list(plain.losses(images())) == ["pixels"]


def test_trains_on_images_and_brings_the_loss_down():
    ramp = torch.arange(32).expand(8, 3, 32, 32) * 8  # every unit of an image rises alike, along one of two axes
    ramps = torch.cat([ramp, ramp.transpose(2, 3)]).to(torch.uint8)
    data = Images(ramps, torch.zeros(16, dtype=torch.int64), ("a",), "ramps")
    model = learner(lr=5e-3, batch_size=256)
    batch = next(iter(feed(data, model.feed, 16)))
    assert batch.inputs[0].shape == (16, 3, 32, 32)

    def loss():
        torch.manual_seed(0)
        return {name: float(value.detach().mean()) for name, value in model.losses(batch).items()}

    before = loss()
    fit(model, [batch], steps=40)
    after = loss()
    assert after["pixels"] < 0.85 < before["pixels"] and after["features"] < before["features"]
    assert model.represent(*batch.inputs).shape == (16, 32)


def test_vectors_are_not_decayed():
    recipe = learner(lr=1e-3, batch_size=128).recipe()
    decayed, plain = recipe.optimizer.param_groups
    assert plain["weight_decay"] == 0 and all(p.ndim <= 1 for p in plain["params"])
    assert decayed["lr"] == 5e-4 and all(p.ndim > 1 for p in decayed["params"])


def test_mistakes_are_named():
    with value_error("an ITPN; got a ResNet"):
        IntegralPretraining(cifar_resnet(8))
    with value_error("multiple of 16 .*, got 24"):
        learner(width=24)
    with value_error("some must be kept and some hidden"):
        learner().losses(images(size=8))

"""Checks of samplers, explainers and indexes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ziggurat.testing.checking import Subject
from ziggurat.testing.examples import example

EPOCHS, CLASSES, DIMENSION = 4, 3, 6


# Samplers: `sampler(epoch)` gives the samples of an epoch, `update(indices, losses)` takes what their visits cost


def scored(s: Subject) -> Any:
    """A fresh sampler that knows a loss of every sample."""
    sampler = s.make()
    sampler.update(torch.arange(sampler.n), torch.linspace(0, 1, sampler.n) ** 2)
    return sampler


def check_draws_are_samples(s: Subject) -> None:
    """An epoch is int64 indices, each a sample, none twice; `len` and iteration agree with it."""
    sampler = scored(s)
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        drawn = sampler(epoch)
        assert drawn.dtype == torch.int64 and len(drawn.unique()) == len(drawn), "a sample is drawn twice in an epoch"
        assert int(drawn.min()) >= 0 and int(drawn.max()) < sampler.n, "an index is no sample"
        assert len(sampler) == len(drawn) and list(sampler) == drawn.tolist(), "len or iteration disagree with the draw"


def check_draws_are_seeded(s: Subject) -> None:
    """Two samplers with the same seed and scores draw the same; asked again for an epoch, the same; the generator stays as it was."""
    first, second = scored(s), scored(s)
    state = torch.get_rng_state()
    for epoch in range(EPOCHS):
        assert torch.equal(first(epoch), second(epoch)), "two samplers with the same seed draw differently"
        assert torch.equal(first(epoch), second(epoch)), "asked again for the same epoch, it draws anew"
    assert torch.equal(state, torch.get_rng_state()), "it draws from torch's global generator"


def check_sampler_state(s: Subject) -> None:
    """A sampler that takes over another's state goes on as that one."""
    first, second = scored(s), s.make()
    first(0)
    second.load_state_dict(first.state_dict())
    for epoch in range(1, EPOCHS):
        assert torch.equal(first(epoch), second(epoch)), "a restored sampler draws something else"


# Explainers: `method(network, x, target=None) -> (B, H, W)`


def network() -> nn.Module:
    """A small classifier in training mode."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(4 * 256, CLASSES),
    ).train()


def check_maps(s: Subject) -> None:
    """One finite map of the image's size for each image, the same twice, of the predicted class where none is named."""
    explain, classifier, (x,) = s.make(), network(), example("image")
    maps = explain(classifier, x)
    assert maps.shape == (len(x), *x.shape[2:]), f"images {tuple(x.shape)} give maps {tuple(maps.shape)}"
    assert torch.isfinite(maps).all() and bool(maps.any()), "a map is not finite, or zero everywhere"
    assert torch.equal(maps, explain(classifier, x)), "two calls differ"
    with torch.no_grad():
        predicted = classifier.eval()(x).argmax(1)
    assert torch.allclose(maps, explain(classifier, x, predicted)), (
        "without a target it must explain the predicted class"
    )


def check_network_is_left_alone(s: Subject) -> None:
    """The network's mode, weights, statistics, gradients and what learns are as before, and so is the image."""
    explain, classifier, (x,) = s.make(), network(), example("image")
    next(iter(classifier.parameters())).requires_grad_(False)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    learns, image = [p.requires_grad for p in classifier.parameters()], x.clone()
    explain(classifier, x)
    assert all(m.training for m in classifier.modules()), "the network is left in evaluation mode"
    assert all(torch.equal(v, before[k]) for k, v in classifier.state_dict().items()), "the network's state is changed"
    assert [p.requires_grad for p in classifier.parameters()] == learns, "what learns is changed"
    assert all(p.grad is None for p in classifier.parameters()), "gradients are left in the parameters"
    assert torch.equal(image, x) and not x.requires_grad, "the image is changed"


def check_bad_class_is_refused(s: Subject) -> None:
    """A class that the network does not have is a `ValueError` that says which there are."""
    explain, classifier, (x,) = s.make(), network(), example("image")
    try:
        explain(classifier, x, CLASSES)
    except ValueError as error:
        assert str(CLASSES - 1) in str(error), f"the error does not name the classes: {error}"
        return
    raise AssertionError("a class that is not there is accepted")


# Indexes


def filled(s: Subject, count: int = 60) -> tuple[Any, np.ndarray]:
    """An index of random vectors under keys that are not their numbers, and the vectors."""
    vectors = np.random.default_rng(0).normal(size=(count, DIMENSION)).astype(np.float32)
    index = s.make()
    index.add(np.arange(count) * 3 + 7, vectors)
    return index, vectors


def check_finds_itself(s: Subject) -> None:
    """Each vector's nearest is itself; rows ascend; there are min(k, those allowed) of them."""
    index, vectors = filled(s)
    keys, away = index.search(vectors[:20], 5)
    assert keys.shape == away.shape == (20, 5) and (keys[:, 0] == np.arange(20) * 3 + 7).all(), (
        "a vector does not find itself"
    )
    assert (np.diff(away, axis=1) >= -1e-6).all(), "distances do not ascend"
    allowed = np.array([10, 13, 16])
    keys, _ = index.search(vectors[:20], 5, allowed)
    assert keys.shape == (20, 3) and set(keys.ravel().tolist()) == set(allowed.tolist()), "a filter is not respected"


def check_forgets(s: Subject) -> None:
    """A removed key never comes back, unknown ones are ignored, and a key that is there cannot be added again."""
    index, vectors = filled(s)
    index.remove(np.array([7, 10, 99_999]))
    assert len(index.keys()) == 58 and not {7, 10} & set(index.search(vectors, 20)[0].ravel().tolist()), (
        "a removed key returns"
    )
    try:
        index.add(np.array([13]), vectors[:1])
    except ValueError as error:
        assert "13" in str(error), f"the error does not name the key: {error}"
        return
    raise AssertionError("a key can be added twice")


SAMPLER = (check_draws_are_samples, check_draws_are_seeded, check_sampler_state)
EXPLAINER = (check_maps, check_network_is_left_alone, check_bad_class_is_refused)
INDEX = (check_finds_itself, check_forgets)

"""Checks of necks, dense networks, segmenters and detectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ziggurat.data.boxes import box_iou
from ziggurat.testing.checking import Subject
from ziggurat.testing.examples import outputs
from ziggurat.testing.networks import LAYER, build, check_meta_device, inputs

HEIGHT, WIDTH = 65, 47


def check_levels_tell_the_truth(s: Subject) -> None:
    """`channels` and `strides` of a neck are what its levels show, finest first."""
    neck = build(s).eval()
    levels = neck(*inputs(s))
    assert len(levels) == len(neck.channels) == len(neck.strides), "levels, channels and strides differ in number"
    for level, channels, stride in zip(levels, neck.channels, neck.strides, strict=True):
        assert level.shape[1] == channels, f"channels says {channels}, the level has {level.shape[1]}"
        honest = all(
            n // stride <= got <= -(-n // stride) for got, n in zip(level.shape[2:], (HEIGHT, WIDTH), strict=True)
        )
        assert honest, f"stride {stride} of {HEIGHT}×{WIDTH} gives {tuple(level.shape[2:])}"


def check_every_pixel_gets_scores(s: Subject) -> None:
    """A segmenter gives logits (B, K, H, W) at the size of the image, odd or even, large or small."""
    network = build(s).eval()
    classes = set()
    for height, width in ((64, 64), (HEIGHT, WIDTH), (33, 96)):
        scores = network(torch.rand(1, 3, height, width))
        assert scores.ndim == 4 and scores.shape[2:] == (height, width), (
            f"an image of {height}×{width} gives {tuple(scores.shape)}"
        )
        classes.add(scores.shape[1])
    assert len(classes) == 1, "the number of classes depends on the size of the image"


def check_size_is_kept(s: Subject) -> None:
    """A dense network gives maps at the size of the image, odd or even; in training also a list of maps, coarse to fine."""
    network = build(s)
    for height, width in ((64, 64), (HEIGHT, WIDTH), (33, 96)):
        images = [torch.rand(2, 3, height, width) for _ in inputs(s)]
        value = network.eval()(*images)
        assert isinstance(value, Tensor) and value.shape[2:] == (height, width), (
            f"an image of {height}×{width} gives {[tuple(v.shape) for v in outputs(value)]}"
        )
        maps = outputs(network.train()(*images))
        sizes = [tuple(m.shape[2:]) for m in maps]
        assert all(m.ndim == 4 for m in maps) and sizes == sorted(sizes), (
            f"training gives maps of {sizes}, not coarse to fine"
        )


# Detectors


def scene(seed: int = 0, size: int = 48) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Two images of different sizes, a bright square (class 0) and a dark one (class 1) on each, nowhere at the same place."""
    images, targets = [], []
    for i in range(2):
        image = torch.full((3, size, size + 16 * i), 0.5)
        boxes = torch.tensor([[[4.0, 6, 20, 22], [26, 20, 42, 36]], [[30.0, 4, 46, 20], [6, 28, 22, 44]]][i])
        for k, (x0, y0, x1, y1) in enumerate(boxes.int().tolist()):
            image[:, y0:y1, x0:x1] = 1.0 - k
        images.append(image + 0.02 * torch.rand(image.shape, generator=torch.Generator().manual_seed(seed + i)))
        targets.append({"boxes": boxes, "labels": torch.tensor([0, 1])})
    return [i.clamp(0, 1) for i in images], targets


def loss(detector: Any, images: list[Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
    """Sum of a detector's losses."""
    return torch.stack(list(detector.train()(images, targets).values())).sum()


def check_losses_of_a_detector(s: Subject) -> None:
    """A training call gives a dict of finite scalars, also where no image has an object, and every parameter that is used learns."""
    detector, (images, targets) = build(s), scene()
    terms = detector.train()(images, targets)
    assert isinstance(terms, dict) and terms, "a training call must give a dict of losses"
    for name, value in terms.items():
        assert value.ndim == 0 and torch.isfinite(value), f"the loss {name} is not a finite scalar"
    loss(detector, images, targets).backward()
    used = {name: p for name, p in detector.named_parameters() if p.requires_grad and "backbone.head" not in name}
    silent = [name for name, p in used.items() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not silent, f"the parameter {silent[0]} gets no finite gradient"
    nothing = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}] * 2
    assert torch.isfinite(loss(detector, images, nothing)), "images without an object give a loss that is not finite"


def check_detections(s: Subject) -> None:
    """An evaluation call gives boxes inside each image, scores that fall, and labels, whatever the sizes of the images."""
    detector, (images, _) = build(s).eval(), scene()
    for given in (images, torch.stack([i[:, :, :48] for i in images])):
        with torch.no_grad():
            found = detector(given)
        assert len(found) == 2, f"two images give {len(found)} results"
        for one, image in zip(found, given, strict=True):
            boxes, height, width = one["boxes"], image.shape[1], image.shape[2]
            assert boxes.shape == (len(one["scores"]), 4) and one["labels"].shape == one["scores"].shape, (
                "boxes, scores and labels differ in number"
            )
            inside = (boxes >= 0).all() and (boxes <= torch.tensor([width, height] * 2)).all()
            assert inside and (boxes[:, 2:] > boxes[:, :2]).all(), "a box lies outside its image or has no area"
            assert (one["scores"].diff() <= 0).all(), "scores do not fall from first to last"
            assert one["labels"].dtype == torch.int64 and (one["labels"] >= 0).all(), "labels are not classes"


def check_detector_is_deterministic(s: Subject) -> None:
    """Evaluation gives the same twice and draws no random numbers; a saved and loaded copy gives it too."""
    detector, (images, _) = build(s).eval(), scene()
    state = torch.get_rng_state()
    other = s.make().eval()
    other.load_state_dict(detector.state_dict(), strict=True)
    torch.set_rng_state(state)
    first = outputs(detector(images))
    for again in (outputs(detector(images)), outputs(other(images))):
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True)), "two calls in evaluation differ"
    assert torch.equal(state, torch.get_rng_state()), "evaluation draws random numbers"


def check_detector_overfits(s: Subject) -> None:
    """Within 150 steps on two images their four objects, two in each, are found among the first three boxes.

    Of three boxes that are the same for both images one image would lack an object. It is looked at every 25 steps, since which of its
    boxes come first still changes from step to step, and with the processor.
    """
    detector, (images, targets) = build(s), scene()
    optimizer = torch.optim.Adam([p for p in detector.parameters() if p.requires_grad], 3e-3)
    best = 0.0
    for step in range(1, 151):
        optimizer.zero_grad()
        loss(detector.train(), images, targets).backward()
        optimizer.step()
        if step % 25 == 0:
            best = max(best, least_overlap(detector.eval(), images, targets))
            if best > 0.5:
                return
    raise AssertionError(f"an object of the two images is found with an overlap of {best:.2f} only")


@torch.no_grad()
def least_overlap(detector: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]]) -> float:
    """Of the objects the one that the first three boxes of its image overlap least."""
    found = [one["boxes"][:3] for one in detector(images)]
    pairs = [(box, boxes) for boxes, target in zip(found, targets, strict=True) for box in target["boxes"]]
    return min(float(box_iou(box[None], boxes).max()) if len(boxes) else 0.0 for box, boxes in pairs)


def check_bad_targets_are_refused(s: Subject) -> None:
    """A training call without targets, or with a box that has no area, is a `ValueError`."""
    detector, (images, targets) = build(s).train(), scene()
    empty = [{**t, "boxes": t["boxes"][:, [0, 1, 0, 3]]} for t in targets]
    for given, word in ((None, "target"), (empty, "area")):
        try:
            detector(images, given)
        except ValueError as error:
            assert word in str(error), f"the error does not say what is wrong: {error}"
        else:
            raise AssertionError(
                f"a training call with {'no targets' if given is None else 'an empty box'} is accepted"
            )


NECK = (*LAYER, check_levels_tell_the_truth)
DENSE = (*LAYER, check_size_is_kept)
SEGMENTER = (*LAYER, check_every_pixel_gets_scores)
DETECTOR = (
    check_losses_of_a_detector,
    check_detections,
    check_detector_is_deterministic,
    check_detector_overfits,
    check_bad_targets_are_refused,
    check_meta_device,
)

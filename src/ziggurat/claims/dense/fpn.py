"""FPN: a top-down path with lateral connections gives every level strong semantics, and so raises recall, most of all of small objects.

Measured on scenes of 96 × 96 pixels: 2 to 6 Fashion-MNIST objects of 8 to 64 pixels, partly hidden, on photographs; 1,500 to train on and
300, with other objects and photographs, to look at. A residual network of widths 16, 32, 64 and 128 (strides 4 to 32) proposes boxes
of any class through the head of a region proposal network, trained for 600 steps of 8 images. Arms, all of neck width 64: the pyramid; the
map of stride 16 alone with the anchors of all sizes; the bottom-up maps with a head each; the top-down path without lateral
connections. The specification's 300 steps leave every arm far from what it can reach.
"""

from __future__ import annotations

import math

import torch

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Boxes
from ziggurat.data.feeds import feed
from ziggurat.data.scenes import scenes
from ziggurat.data.seeds import derive
from ziggurat.learning.detection import Detection
from ziggurat.metrics.detection import average_recall
from ziggurat.metrics.finding import Finding, at_least, floor
from ziggurat.nn.fitting import fit
from ziggurat.vision.backbones.resnet import ResNet
from ziggurat.vision.detection.detector import Detector
from ziggurat.vision.detection.heads import ProposalHead
from ziggurat.vision.necks.fpn import FPN

TRAIN, TEST, STEPS, BATCH, WIDTH, MOST, SMALL = 1_500, 300, 600, 8, 64, 50, 16
SIDES = (8.0, 16.0, 32.0, 64.0)

published = {
    6: "COCO minival AR@1k 48.3 (one map) -> 56.3 (FPN), small 32.0 -> 44.9; Faster R-CNN with ResNet-101 36.2 AP on test-dev"
}
notes = Notes(
    scope="Drawn objects on photographs at 96 pixels and a network from scratch; the paper fine-tunes ResNets on COCO.",
    methodology="Same backbone, width, anchors in number and size, head, steps and images for every arm.",
    origin="0.04 and 0.02 are the specification's; the recalls beside ours are the paper's table 1.",
    easy="The neck is twenty lines.",
    why=(
        "criterion",
        "Over bottom-up maps with a head each the pyramid gains on small objects in the mean of eight seeds, but less than the "
        "specification's estimate of 0.02, and training twice as long does not widen the gap (support).",
    ),
    hard="Objects under 16 pixels have one or two anchors that fit them, so recall at high overlaps is low for every arm.",
)


def data(run: Run, split: str, count: int, seed: int) -> Boxes:
    """Scenes without classes; photographs alternate between the splits."""
    photographs = run.data("photographs")[0 if split == "train" else 1 :: 2]
    drawn = scenes(run.data("fashion_mnist", split), photographs, count, seed=derive(seed, "scenes", split))
    targets = tuple({**t, "labels": torch.zeros_like(t["labels"])} for t in drawn.targets)
    return Boxes(drawn.images, targets, ("object",), drawn.name)


def make(arm: str) -> Detector:
    """The detector of an arm."""
    if arm == "one_map":  # as in the paper, the stages behind the map are not there
        backbone = ResNet("basic", (1, 1, 1), 0, widths=(16, 32, 64))
        return Detector(
            backbone, FPN(backbone.channels[2:], backbone.strides[2:], WIDTH), ProposalHead(WIDTH, [SIDES]), 2
        )
    backbone = ResNet("basic", (1, 1, 1, 1), 0, widths=(16, 32, 64, 128))
    neck = FPN(backbone.channels, backbone.strides, WIDTH, top_down=arm != "bottom_up", lateral=arm != "path")
    return Detector(backbone, neck, ProposalHead(WIDTH, [[s] for s in SIDES], shared=arm != "bottom_up"))


def recalls(arm: str, train: Boxes, test: Boxes, seed: int, steps: int = STEPS) -> dict[str, float]:
    """Recall of an arm after its training: of all objects, the small and the others."""
    torch.manual_seed(seed)
    learner = Detection(make(arm))
    fit(learner, feed(train, learner.feed, BATCH, seed), steps=steps, seed=seed)
    found = []
    with torch.no_grad():
        for index in torch.arange(len(test)).split(50):
            found += learner.predict(test.inputs(index))
    return {
        f"{arm}_recall": average_recall(found, test.targets, most=MOST),
        f"{arm}_recall_small": average_recall(found, test.targets, area=(0, SMALL**2), most=MOST),
        f"{arm}_recall_large": average_recall(found, test.targets, area=(SMALL**2, math.inf), most=MOST),
    }


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Recall of every arm, of all objects and of the small ones."""
    train, test = data(run, "train", TRAIN, seed), data(run, "test", TEST, seed)
    values: dict[str, float] = {}
    for arm in run.progress(("fpn", "one_map", "bottom_up", "path"), "arms"):
        values |= recalls(arm, train, test, seed)
    return values


def measure(run: Run) -> Finding:
    """The pyramid against one map, and against all on small objects."""
    rows = run.each_seed(one_seed)
    others = ("one_map", "bottom_up", "path")
    return Finding(
        clauses=(
            at_least("AR, pyramid − one map", rows["fpn_recall"] - rows["one_map_recall"], 0.04),
            *(
                at_least(
                    f"AR of small objects, pyramid − {arm}",
                    rows["fpn_recall_small"] - rows[f"{arm}_recall_small"],
                    0.02,
                )
                for arm in others
            ),
        ),
        floors=(floor("AR of one map", rows["one_map_recall"], 0.10),),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """Recall of small objects by the pyramid and the bottom-up maps after twice the steps, on the first seed."""
    found: dict[str, list[float]] = {"fpn": [], "bottom_up": []}
    for seed in run.seeds[:1]:
        train, test = data(run, "train", TRAIN, seed), data(run, "test", TEST, seed)
        for arm, values in found.items():
            values.append(recalls(arm, train, test, seed, 2 * STEPS)[f"{arm}_recall_small"])
    return {f"{arm}_recall_small_twice_the_steps": sum(values) / len(values) for arm, values in found.items()}

"""Saliency maps: the input gradient of a class score localises the object in one backward pass, well enough to seed its segmentation.

Measured on scenes of 64 × 64 pixels with one Fashion-MNIST object of 14 to 28 pixels on a photograph: a small plain network trained on the
class labels of 4,000 scenes alone, looked at on 300 scenes with other objects and other photographs. Objects of this size, and not
larger ones, because the centre of the image lies inside most boxes of half the image's side. The map of the predicted class, blurred by
a Gaussian of 2 pixels, points at its maximum. Arms: the same network untrained, the edge magnitude of the image (Sobel), and a box of
the average size in the middle. Boxes and masks come from the minimum cut that the map seeds.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from kornia.filters import gaussian_blur2d, sobel
from torch import Tensor, nn

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.boxes import box_iou
from ziggurat.data.datasets import Boxes, Images
from ziggurat.data.feeds import feed
from ziggurat.data.loading import channel_stats
from ziggurat.data.scenes import scenes
from ziggurat.data.seeds import derive
from ziggurat.explain.saliency import saliency_map
from ziggurat.explain.segmentation import saliency_segmentation
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, floor
from ziggurat.nn.conv import ConvNormAct
from ziggurat.nn.fitting import fit

SIZE, SIDE, TRAIN, TEST, EPOCHS, BLUR = 64, (14, 28), 4_000, 300, 12, 2.0

published = {
    5: "ILSVRC-2013: top-1 / top-5 error 39.7 / 17.7 % (validation); weakly supervised localisation 46.4 % top-5 error (test)"
}
notes = Notes(
    scope="Ten kinds of drawn objects on photographs and a network of five layers; the paper localises ILSVRC-2013 classes.",
    methodology="Same scenes for every arm; other photographs and other objects in the test; boxes are only looked at, never trained on.",
    origin="10 points are the specification's; the errors beside ours are the paper's.",
    easy="One backward pass.",
    hard="Strided layers make the raw gradient coarse-grained: pointing needs the blur.",
)


def one_object(run: Run, split: str, count: int, seed: int) -> tuple[Images, Boxes]:
    """Scenes with one object each, as images with a class and with their boxes; photographs alternate between the splits."""
    photographs = run.data("photographs")[0 if split == "train" else 1 :: 2]
    drawn = scenes(
        run.data("fashion_mnist", split), photographs, count, SIZE, (1, 1), SIDE, seed=derive(seed, "scenes", split)
    )
    labels = torch.cat([t["labels"] for t in drawn.targets])
    return Images(torch.stack(drawn.images), labels, drawn.classes, "scenes"), drawn


def classifier(classes: int) -> nn.Sequential:
    """Four convolutions with pooling between them, and the global average."""
    widths = (3, 16, 32, 64, 96)
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [ConvNormAct(a, b), nn.MaxPool2d(2)]
    return nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


def pointing(maps: Tensor, boxes: Tensor) -> float:
    """Share of maps whose largest value lies inside the box."""
    best = maps.flatten(1).argmax(1)
    x, y = best % maps.shape[2] + 0.5, best // maps.shape[2] + 0.5
    inside = (x > boxes[:, 0]) & (x < boxes[:, 2]) & (y > boxes[:, 1]) & (y < boxes[:, 3])
    return float(inside.float().mean())


def blurred(maps: Tensor) -> Tensor:
    """Maps after a Gaussian of `BLUR` pixels."""
    return gaussian_blur2d(maps[:, None], (13, 13), (BLUR, BLUR))[:, 0]


def mean_iou(masks: Tensor, truth: Tensor) -> float:
    """Mean overlap of masks."""
    shared, either = (masks & truth).sum((1, 2)), (masks | truth).sum((1, 2))
    return float((shared / either.clamp_min(1)).mean())


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Pointing, boxes and masks of every arm."""
    train, _ = one_object(run, "train", TRAIN, seed)
    test, drawn = one_object(run, "test", TEST, seed)
    boxes = torch.cat([t["boxes"] for t in drawn.targets])
    truth = torch.cat([t["masks"] for t in drawn.targets])
    stats = channel_stats(train)
    torch.manual_seed(seed)
    network = classifier(len(train.classes))
    images = test.inputs(slice(None))
    x = (images - stats[0].view(-1, 1, 1)) / stats[1].view(-1, 1, 1)
    maps = {"untrained": saliency_map(network, x), "edges": sobel(images.mean(1, keepdim=True))[:, 0]}
    learner = Supervised(network, lr=3e-3)
    fit(learner, feed(train, learner.feed, 64, seed, stats), epochs=EPOCHS, seed=seed)
    with torch.no_grad():
        accuracy = float((network.eval()(x).argmax(1) == test.labels).float().mean())
    maps["saliency"] = saliency_map(network, x)
    middle = torch.zeros_like(maps["edges"])
    middle[:, SIZE // 2, SIZE // 2] = 1
    side = (boxes[:, 2:] - boxes[:, :2]).mean()
    centre = torch.stack([SIZE / 2 - side / 2] * 2 + [SIZE / 2 + side / 2] * 2)[None]
    values = {f"pointing_{name}": pointing(blurred(m), boxes) for name, m in maps.items()}
    soft = blurred(maps["saliency"])
    cut = saliency_segmentation(images, soft, random_state=seed)
    threshold = soft > soft.flatten(1).quantile(0.95, 1)[:, None, None]
    return {
        **values,
        "pointing_centre": pointing(middle, boxes),
        "accuracy": accuracy,
        "box_rate": float((box_iou(cut.boxes, boxes).diagonal() >= 0.5).float().mean()),
        "box_rate_centre": float((box_iou(centre, boxes)[0] >= 0.5).float().mean()),
        "mask_iou": mean_iou(cut.masks, truth),
        "mask_iou_threshold": mean_iou(threshold, truth),
    }


def measure(run: Run) -> Finding:
    """Saliency against every baseline."""
    rows = run.each_seed(one_seed)
    return Finding(
        clauses=(
            *(
                at_least(
                    f"pointing, saliency − {n}",
                    100 * (rows["pointing_saliency"] - rows[f"pointing_{n}"]),
                    10.0,
                    "points",
                )
                for n in ("centre", "untrained", "edges")
            ),
            at_least(
                "boxes found, cut − centre box", 100 * (rows["box_rate"] - rows["box_rate_centre"]), 10.0, "points"
            ),
            at_least("mask IoU, cut − threshold", 100 * (rows["mask_iou"] - rows["mask_iou_threshold"]), 0.0, "points"),
        ),
        floors=(floor("accuracy of the network", rows["accuracy"], 0.5),),
        measurements=rows,
    )

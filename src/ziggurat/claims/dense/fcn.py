"""FCN: a classifier made convolutional, trained on whole images with skips from shallower maps, segments better and faster than patches.

Measured on CamVid at 120 × 160 (367 training and 233 test frames, 11 classes): a small net of the VGG kind (widths 16, 32, 64, 96 and 128)
from scratch, with no, one and two skips, 600 steps of 8 frames each. Batch normalisation stands behind every convolution: without it, and
without ImageNet weights, all three are still at a mean IU of 0.20 after 300 steps. For the time, a classifier of windows of 190 pixels
without padding scores a frame at CamVid's own size of 720 × 960 (enlarged) at every 32 pixels: all windows one by one, against one pass
as convolutions; the scores must be equal. (In a first measurement the skips were scaled by 0.01 and 0.0001, as the official net for
VGG-16's large activations; behind batch normalisation that switched them off, and all three nets were equal at 0.33. This one replaces it.)
"""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.nn.functional import interpolate

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Segments
from ziggurat.data.feeds import feed
from ziggurat.learning.segmentation import Segmentation
from ziggurat.metrics.finding import Finding, at_least, exactly, floor, seconds_at_most
from ziggurat.metrics.segmentation import confusion, segmentation_scores
from ziggurat.nn.convolutionalize import convolutionalize
from ziggurat.nn.fitting import fit
from ziggurat.vision.backbones.vgg import VGG
from ziggurat.vision.segmentation.fcn import FCN, FCN8s, FCN16s, FCN32s

STEPS, BATCH, LR, HIDDEN, WIDTHS = 600, 8, 2e-3, 256, (16, 32, 64, 96, 128)
SIZE, FRAME, WINDOW, STRIDE, MARGIN = (120, 160), (720, 960), 190, 32, 1e-4
NETS: dict[str, type[FCN]] = {"fcn32s": FCN32s, "fcn16s": FCN16s, "fcn8s": FCN8s}

published = {
    6: "VOC 2011 val mean IU 59.4 (32s), 62.4 (16s), 62.7 (8s); VOC 2012 test 62.2 (conference), 67.2 (journal)"
}
notes = Notes(
    scope="367 frames and a net from scratch; the paper fine-tunes VGG-16 from ImageNet, and each skip from the net before.",
    methodology="Equal steps, frames and rate for the three; every net starts from the same seed.",
    origin="0.02, 0.005, 1e-4 and ten times are the specification's; the mean IUs beside ours are the paper's.",
    easy="A linear layer over a map is a convolution with the same numbers.",
    hard="Zero scores at the start (the paper's) need the optimiser's first steps to wake what lies in front of them.",
)


def frames(run: Run, split: str) -> Segments:
    """CamVid frames at 120 × 160."""
    data = run.data("camvid", split)
    images = interpolate(data.images.float(), SIZE, mode="bilinear", antialias=True).round().to(torch.uint8)
    masks = interpolate(data.masks[:, None].float(), SIZE, mode="nearest")[:, 0].to(torch.uint8)
    return Segments(images, masks, data.classes, data.name, data.ignore)


@torch.no_grad()
def mean_iou(network: FCN, data: Segments) -> float:
    """Mean IU over all pixels of a split."""
    classes = len(data.classes)
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for index in torch.arange(len(data)).split(16):
        counts += confusion(network(data.inputs(index)).argmax(1), data.masks[index].long(), classes, data.ignore)
    return segmentation_scores(counts).mean_iou


@torch.no_grad()
def dense_and_patches(frame: torch.Tensor) -> dict[str, float]:
    """Seconds and scores of one pass, and of all windows; the better of two runs each."""
    network = VGG((1,) * 5, WIDTHS, 11, hidden=HIDDEN, size=4, dropout=0.0, padding=0).eval()
    dense = convolutionalize(network)
    windows = frame.unfold(2, WINDOW, STRIDE).unfold(3, WINDOW, STRIDE)
    rows, columns = windows.shape[2:4]
    windows = windows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    seconds: dict[str, list[float]] = {"dense": [], "patches": []}
    for _ in range(2):
        start = time.perf_counter()
        whole = dense(frame)
        seconds["dense"].append(time.perf_counter() - start)
        start = time.perf_counter()
        single = torch.cat([network(w[None]) for w in windows])
        seconds["patches"].append(time.perf_counter() - start)
    scores = whole[0, :, :rows, :columns].flatten(1).T
    return {
        "difference": float((scores - single).abs().max()),
        "dense_seconds": min(seconds["dense"]),
        "patches_seconds": min(seconds["patches"]),
        "windows": float(len(windows)),
    }


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Mean IU of the three nets, and the two ways to scores."""
    train, test = frames(run, "train"), frames(run, "test")
    torch.manual_seed(seed)
    values = dense_and_patches(interpolate(test.inputs(torch.tensor([0])), FRAME, mode="bilinear"))
    for name, make in run.progress(NETS.items(), "nets"):
        torch.manual_seed(seed)
        encoder = VGG((1, 1, 2, 2, 2), WIDTHS, 0, hidden=0, norm=nn.BatchNorm2d)
        learner = Segmentation(make(len(train.classes), encoder, HIDDEN, 3, dropout=0.1), LR)
        fit(learner, feed(train, learner.feed, BATCH, seed), steps=STEPS, seed=seed, clip=5.0)
        values[name] = mean_iou(learner.network, test)
    return values


def measure(run: Run) -> Finding:
    """Skips, equality and time."""
    rows = run.each_seed(one_seed)
    return Finding(
        clauses=(
            at_least("mean IU, 16s − 32s", rows["fcn16s"] - rows["fcn32s"], 0.02),
            at_least("mean IU, 8s − 16s", rows["fcn8s"] - rows["fcn16s"], -0.005),
            exactly("largest difference of scores, dense − windows", rows["difference"], MARGIN, "<="),
            seconds_at_most("time of one pass / all windows", rows["dense_seconds"] / rows["patches_seconds"], 0.1, ""),
        ),
        floors=(floor("mean IU of FCN-32s", rows["fcn32s"], 0.20),),
        measurements=rows,
        published={"fcn32s": 0.594, "fcn16s": 0.624, "fcn8s": 0.627},
    )

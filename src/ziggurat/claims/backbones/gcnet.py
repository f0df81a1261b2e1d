"""GCNet: where one context serves all positions, a global context block does what a non-local block does, at a small part of its cost.

Measured on scenes of 48 × 48 pixels (6,000 to train on, 1,500 with other objects and photographs to look at): a large Fashion-MNIST
object of 20 to 24 pixels, the key, at a border, and three small ones of 8 to 10 pixels at the opposite border, their centres at least
28 pixels from the key's. Each object is of one of two groups, drawn evenly: clothes, or shoes. For every cell of a small object on the
map of stride 4 the answer is its own group xor the key's. Three 3×3 convolutions (widths 16, 32 and 64) see 15 pixels, so never the
key from a small object; behind them stands a non-local block (embedded Gaussian), a global context block with r = 8, or nothing, and
then two 1×1 convolutions. Positions are compared on 200 scenes that no arm was trained on.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images, Segments
from ziggurat.data.feeds import feed
from ziggurat.data.scenes import INK
from ziggurat.data.seeds import derive
from ziggurat.learning.segmentation import Segmentation
from ziggurat.metrics.finding import Finding, at_least, at_most, exactly, floor
from ziggurat.nn.conv import ConvNormAct
from ziggurat.nn.fitting import fit
from ziggurat.nn.operators.global_context import GCBlock, attention_agreement
from ziggurat.nn.operators.non_local import NonLocal
from ziggurat.nn.profile import count_parameters, macs

TRAIN, TEST, SIZE, CELL, WIDTH, EPOCHS, BATCH, RATE = 6_000, 1_500, 48, 4, 64, 4, 32, 3e-3
GROUPS = ((0, 1, 2, 3, 4, 6), (5, 7, 9))
"""Classes of Fashion-MNIST: clothes, and shoes."""
BLOCKS = {"none": lambda width: nn.Identity(), "nl": NonLocal, "gc": partial(GCBlock, ratio=8)}

published: dict[int, str] = {}
notes = Notes(
    scope="Drawn scenes in which one context is all that is needed; the paper has COCO, ImageNet and Kinetics.",
    methodology="Same network, images, steps and rate for every arm; only the block differs.",
    origin="5 points, 1 point, a quarter and a half are the specification's.",
    easy="The global context block is four lines.",
    hard="The key must be far enough from the small objects that no convolution sees both.",
    why=(
        "criterion",
        "The distance is taken over all positions, while the loss counts cells of small objects only. Over these the attentions lie far "
        "closer together than half of the inputs' distance, elsewhere they do not; and one context for all positions costs almost no "
        "accuracy (support).",
    ),
)


def paste(
    canvas: np.ndarray, glyph: np.ndarray, top: int, left: int, edge: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws a tinted glyph into the canvas (3, H, W); returns where its ink is."""
    grey = np.asarray(Image.fromarray(glyph).resize((edge, edge), Image.Resampling.BILINEAR))
    ink = np.zeros(canvas.shape[1:], bool)
    ink[top : top + edge, left : left + edge] = grey > INK
    window = canvas[:, top : top + edge, left : left + edge]
    window[:, grey > INK] = (grey[grey > INK] * rng.uniform(0.55, 1.0, size=(3, 1))).astype(np.uint8)
    return ink


def draw(glyphs: Images, photographs: tuple[Tensor, ...], count: int, seed: int) -> Segments:
    """The scenes; cells of a small object hold 2 · its group + the key's, others 255."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(np.isin(glyphs.labels.numpy(), group)) for group in GROUPS]
    cells = SIZE // CELL
    images, answers = np.empty((count, 3, SIZE, SIZE), np.uint8), np.full((count, cells, cells), 255, np.uint8)
    for n in range(count):
        photo = photographs[rng.integers(len(photographs))].numpy()
        y, x = (int(rng.integers(side - SIZE + 1)) for side in photo.shape[1:])
        canvas = photo[:, y : y + SIZE, x : x + SIZE].copy()
        upright, mirrored, edge = rng.random() < 0.5, rng.random() < 0.5, int(rng.integers(20, 25))
        groups, places = rng.integers(2, size=4), [(int(rng.integers(SIZE - edge + 1)), 0, edge)]
        for i in range(3):  # each in its own third of the opposite border
            small = int(rng.integers(8, 11))
            places.append(
                (16 * i + int(rng.integers(17 - small)), int(rng.integers(41 - small // 2, SIZE - small + 1)), small)
            )
        for group, (along, across, side) in zip(groups, places, strict=True):
            across = SIZE - side - across if mirrored else across
            top, left = (along, across) if upright else (across, along)
            glyph = glyphs.images[rng.choice(members[group]), 0].numpy()
            ink = paste(canvas, glyph, top, left, side, rng)
            if side < 20:
                share = ink.reshape(cells, CELL, cells, CELL).mean((1, 3))
                answers[n][share >= 0.5] = 2 * group + groups[0]
        images[n] = canvas
    return Segments(torch.from_numpy(images), torch.from_numpy(answers), ("00", "01", "10", "11"), "key scenes")


def make(block: str) -> nn.Sequential:
    """The network of an arm; its fourth part is the block."""
    return nn.Sequential(
        ConvNormAct(3, 16, 3, 2),
        ConvNormAct(16, 32, 3, 2),
        ConvNormAct(32, WIDTH, 3),
        BLOCKS[block](WIDTH),
        ConvNormAct(WIDTH, WIDTH, 1),
        nn.Conv2d(WIDTH, 4, 1),
    )


@torch.no_grad()
def balanced_accuracy(network: nn.Module, data: Segments) -> float:
    """Of own group xor the key's, on the cells of small objects: the mean over both answers, in percent."""
    said = torch.cat([network(data.inputs(index)).softmax(1) for index in torch.arange(len(data)).split(250)])
    different, answer = said[:, 1] + said[:, 2] > 0.5, torch.tensor([0, 1, 1, 0])
    cells = data.masks < 4
    right = different[cells] == answer[data.masks[cells].long()]
    truth = answer[data.masks[cells].long()]
    return 100 * float(torch.stack([right[truth == k].float().mean() for k in (0, 1)]).mean())


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Accuracy of every arm, what the blocks cost, and how far apart positions are for the non-local block."""
    photographs = run.data("photographs")
    train, test = (
        draw(run.data("fashion_mnist", split), photographs[k::2], count, derive(seed, "key scenes", split))
        for k, (split, count) in enumerate((("train", TRAIN), ("test", TEST)))
    )
    values: dict[str, float] = {}
    for arm in run.progress(BLOCKS, "arms"):
        torch.manual_seed(seed)
        learner = Segmentation(make(arm), RATE)
        fit(learner, feed(train, learner.feed, BATCH, seed), epochs=EPOCHS, seed=seed)
        network = learner.network
        values[arm] = balanced_accuracy(network, test)
        values[f"{arm}_parameters"] = count_parameters(network[3])
        values[f"{arm}_macs"] = macs(network[3], torch.zeros(1, WIDTH, SIZE // CELL, SIZE // CELL))
        if arm == "nl":
            x = network[:3](test.inputs(slice(0, 200)))
            values |= {f"distance_{k}": v for k, v in attention_agreement(network[3], x)._asdict().items()}
    return values


def measure(run: Run) -> Finding:
    """What the blocks reach and cost, and whether the non-local block's attention depends on the query."""
    rows = run.each_seed(one_seed)
    return Finding(
        clauses=(
            at_least("accuracy, non-local − nothing", rows["nl"] - rows["none"], 5.0, "points"),
            at_least("accuracy, global context − non-local", rows["gc"] - rows["nl"], -1.0, "points"),
            exactly(
                "parameters, global context / non-local", rows["gc_parameters"] / rows["nl_parameters"], 0.25, "<="
            ),
            at_most("distance, attention / inputs", rows["distance_attention"] / rows["distance_inputs"], 0.5),
        ),
        floors=(floor("non-local", rows["nl"], 60.0),),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """Distances over cells of small objects, the only ones with a loss, and over the others; accuracy if one context served all."""
    photographs, seed = run.data("photographs"), 101
    train, test = (
        draw(run.data("fashion_mnist", split), photographs[k::2], count, derive(seed, "key scenes", split))
        for k, (split, count) in enumerate((("train", TRAIN), ("test", TEST)))
    )
    torch.manual_seed(seed)
    learner = Segmentation(make("nl"), RATE)
    fit(learner, feed(train, learner.feed, BATCH, seed), epochs=EPOCHS, seed=seed)
    network, block, found = learner.network, learner.network[3], {}
    x, small = network[:3](test.inputs(slice(0, 200))).detach(), test.masks[:200].flatten(1) < 4
    for name, maps in (("attention", block.attention(x).detach().transpose(1, 2)), ("inputs", x.flatten(2))):
        unit = maps / maps.norm(dim=1, keepdim=True)
        for where, rows in (("small_objects", small), ("elsewhere", ~small)):
            centres = torch.stack([u[:, r].mean(1) for u, r in zip(unit, rows, strict=True)])
            found[f"distance_{name}_{where}"] = float((1 - centres.square().sum(1)).mean() / 2)
    found["accuracy"], own = balanced_accuracy(network, test), block.weights
    block.weights = lambda queries, keys: own(queries, keys).mean(1, keepdim=True).expand(-1, queries.shape[2], -1)
    return {**found, "accuracy_with_one_context": balanced_accuracy(network, test)}

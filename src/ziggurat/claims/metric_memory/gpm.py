"""GPM: whether batches of places with similar proxies beat random batches, with the same loss and online miner, at next to no cost.

Measured on places cut out of photographs: windows of 64 pixels that overlap by 40 % at most, ten from each of the 120 training
photographs of BSD (those of twelve are kept to choose by), four from each of its 100 test photographs. Eight views of each: another
perspective, brightness and contrast, blur, an occluder; at 32 × 32 pixels. All arms train the same network, a ResNet of two units with
GeM, with the multi-similarity loss on the pairs that its miner keeps, 30 places with 4 images a batch; each takes its rate from two by
recall on the places kept. Random batches come without the proxy branch, and with it and its second loss ("branch"), so that what the branch
teaches is not taken for what the batches teach; GPM must beat both. Proxies have 32 numbers, half as many as descriptors (where the
specification says 128). Looked for among the first views of all test places: the seven other views of each.

A first measurement had no arm with the branch and random batches.

What sampling costs is the time in the sampler (writing, rebuilding, forming batches) over that of the whole training. Beside it, the time
to encode all training images once, over that of an epoch: what offline mining would add to each epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import kornia.augmentation as K
import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ziggurat.claims.choosing import best_on_validation
from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import PerClass, feed
from ziggurat.data.seeds import derive
from ziggurat.data.transforms import BrightnessContrast
from ziggurat.learning.features import encode
from ziggurat.learning.metric.gpm import GPM, GlobalProxySampler, PlaceDescriptor
from ziggurat.metrics.finding import Finding, at_least, floor, seconds_at_most
from ziggurat.metrics.retrieval import nearest_labels, recall_at
from ziggurat.nn.fitting import fit
from ziggurat.vision.backbones.resnet import ResNet

WINDOW, MARGIN, SIZE, OVERLAP, VIEWS = 64, 12, 32, 0.4, 8
PLACES, SAMPLES, EPOCHS, WARM, PROXY = 30, 4, 8, 2, 32
RATES = (1e-3, 5e-3)

published: dict[int, str] = {}
notes = Notes(
    scope="1,080 windows of photographs with drawn changes of view; the paper trains on 67,000 places of GSV-Cities, on four benchmarks.",
    methodology="Same network, loss, online miner, steps and images, and in one of the two baselines the same branch with its loss; each "
    "arm's rate chosen on places of other photographs.",
    origin="1.5 points, 1.5 times and 5 % are the specification's.",
    easy="The sampler is one search among places an epoch.",
    hard="Places must look alike, or random batches are as hard as any: windows of one photograph overlap.",
    why=(
        "scale",
        "What gains is the second loss of the branch. Batches of similar places keep twice as many pairs and teach less, also after three "
        "times as many epochs and where no windows overlap (support). With ten places of each of 108 photographs, a batch of similar ones "
        "may show too few photographs; the paper has 67,000 places.",
    ),
)


def corners(height: int, width: int, count: int, overlap: float, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Corners of random windows, the margin around them inside, none overlapping another by more than the share allowed."""
    found: list[tuple[int, int]] = []
    while len(found) < count:
        top, left = (int(rng.integers(MARGIN, n - WINDOW - MARGIN + 1)) for n in (height, width))
        shared = [max(0, WINDOW - abs(top - t)) * max(0, WINDOW - abs(left - x)) for t, x in found]
        if max(shared, default=0) <= overlap * WINDOW**2:
            found.append((top, left))
    return found


def views(windows: UInt8[Tensor, "N 3 s s"], seed: int) -> UInt8[Tensor, "M 3 S S"]:
    """`VIEWS` changed pictures of each window, one after the other."""
    change = nn.Sequential(
        K.RandomPerspective(0.4, p=1.0),
        BrightnessContrast(0.5, 1.0),
        K.RandomGaussianBlur((5, 5), (0.5, 2.0), p=0.5),
        K.RandomErasing((0.05, 0.2), (0.5, 2.0), 0.5, p=0.5),
    )
    made = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in windows.repeat_interleave(VIEWS, 0).split(500):
            inner = change(part.float() / 255)[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
            small = interpolate(inner, (SIZE, SIZE), mode="bilinear", antialias=True)
            made.append((255 * small.clamp(0, 1)).round().byte())
    return torch.cat(made)


def places(photographs: Sequence[Tensor], each: int, seed: int, overlap: float = OVERLAP) -> Images:
    """`each` places of every photograph, `VIEWS` images of each place."""
    rng, windows, side = np.random.default_rng(seed), [], WINDOW + 2 * MARGIN
    for photo in photographs:
        height, width = photo.shape[1:]
        for top, left in corners(height, width, each, overlap, rng):
            windows.append(photo[:, top - MARGIN :, left - MARGIN :][:, :side, :side])
    labels = torch.arange(len(windows)).repeat_interleave(VIEWS)
    return Images(views(torch.stack(windows), seed), labels, tuple(map(str, range(len(windows)))), "places")


def recalls(z: Float[Tensor, "N D"], labels: Int64[Tensor, " N"]) -> tuple[float, float]:
    """Recall at 1 and 5 of all other views among the first ones."""
    first = torch.arange(len(z)) % VIEWS == 0
    found = nearest_labels(z[~first], z[first], labels[first], 5)
    return recall_at(found, labels[~first], 1), recall_at(found, labels[~first], 5)


class Timed(GlobalProxySampler):
    """The sampler with a clock."""

    seconds = 0.0

    def clocked(self, work: Callable[..., Any], *given: Any) -> Any:
        start = time.perf_counter()
        result = work(*given)
        self.seconds += time.perf_counter() - start
        return result

    def update(self, *given: Any) -> None:
        self.clocked(super().update, *given)

    def rebuild(self) -> None:
        self.clocked(super().rebuild)

    def batches(self, *given: Any) -> list[Tensor]:
        return self.clocked(super().batches, *given)


class Kept(Callback):
    """The miner's share of pairs in every batch after the first epochs."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def on_train_batch_end(self, trainer: Any, learner: Any, *_: Any) -> None:
        if trainer.current_epoch >= WARM:
            self.shares.append(learner.kept)


def train(
    arm: str, rate: float, data: Images, seed: int, epochs: int = EPOCHS
) -> tuple[PlaceDescriptor, dict[str, float]]:
    """A trained arm; the share of pairs its miner kept, its seconds, and those of its sampler."""
    torch.manual_seed(seed)
    network, kept, sampler = ResNet("basic", (1, 1), 0, 3, (32, 64)), Kept(), Timed(len(data.classes), PROXY)
    learner: PlaceDescriptor
    if arm == "random":
        learner = PlaceDescriptor(network, SAMPLES, lr=rate)
    else:
        learner = GPM(network, sampler.places, SAMPLES, PROXY, lr=rate)
        learner.sampler = sampler
    batches = learner.feed if arm == "gpm" else PerClass(SAMPLES)
    loader, start = feed(data, batches, PLACES * SAMPLES, seed), time.perf_counter()
    fit(learner, loader, epochs=epochs, seed=seed, callbacks=[kept])
    values = {"kept": float(np.mean(kept.shares)), "seconds": time.perf_counter() - start, "rate": rate}
    if arm == "gpm":
        values["sampling_seconds"] = sampler.seconds
        values["sampling_bytes"] = sum(b.numel() * b.element_size() for b in sampler.buffers())
    return learner, values


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Recalls of all arms, the share of pairs that was of use, and what sampling cost."""
    photographs = run.data("photographs")
    test_photographs, others = photographs[:100], photographs[100:]
    data = places(others[12:], 10, derive(seed, "train"))
    held = places(others[:12], 10, derive(seed, "held"))
    test = places(test_photographs, 4, derive(seed, "test"))
    values: dict[str, float] = {}
    for arm in run.progress(("random", "branch", "gpm"), "arms"):
        found = []
        for rate in RATES:
            learner, told = train(arm, rate, data, seed)
            found.append((recalls(encode(learner, held), held.labels)[0], learner, told))
        _, learner, told = best_on_validation(found)
        values |= {f"{arm}_{name}": value for name, value in told.items()}
        values[f"{arm}_recall1"], values[f"{arm}_recall5"] = recalls(encode(learner, test), test.labels)
    start = time.perf_counter()
    encode(learner, data)
    values["encoding_of_an_epoch"] = (time.perf_counter() - start) * EPOCHS / values["gpm_seconds"]
    return values


def measure(run: Run) -> Finding:
    """Recall, pairs of use, and time."""
    rows = run.each_seed(one_seed)
    ahead = {arm: 100 * (rows["gpm_recall1"] - rows[f"{arm}_recall1"]) for arm in ("random", "branch")}
    return Finding(
        clauses=(
            at_least("recall@1 on unseen places, GPM − random batches", ahead["random"], 1.5, "points"),
            at_least("recall@1 on unseen places, GPM − branch and random batches", ahead["branch"], 1.5, "points"),
            at_least("pairs that the miner keeps, GPM / random", rows["gpm_kept"] / rows["random_kept"], 1.5),
            seconds_at_most("sampling / training", rows["gpm_sampling_seconds"] / rows["gpm_seconds"], 0.05, ""),
        ),
        floors=(floor("random batches, recall@1", rows["random_recall1"], 0.3),),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """Seed 100, the larger rate: recall@1 of GPM − that of the branch with random batches, in points."""
    photographs = run.data("photographs")
    test = places(photographs[:100], 4, derive(100, "test"))
    found = {}
    for name, overlap, epochs in run.progress((("longer", OVERLAP, 3 * EPOCHS), ("apart", 0.0, EPOCHS)), "settings"):
        data, recall = places(photographs[112:], 10, derive(100, "train"), overlap), {}
        for arm in ("branch", "gpm"):
            learner, _ = train(arm, RATES[1], data, 100, epochs)
            recall[arm] = recalls(encode(learner, test), test.labels)[0]
        found[name] = 100 * (recall["gpm"] - recall["branch"])
    return found

"""Miners and losses against pytorch-metric-learning, on batches of 512 and 2,048 unit vectors, 128 dimensions, 16 of each identity.

First both sides must say the same: losses to 1e-5, their gradients to 1e-5 of the length, and miners the same triplets. The triplets are
compared in double precision, for in single precision the last bit decides whether a gap at a threshold is in or out; times are of single
precision, one thread. A loss takes embeddings and labels and gives a mean as the peer's does; a miner starts from the embeddings too, since
the peer's measures distances itself. FaceNet's semi-hard miner has no equal there: the peer gives every semi-hard negative of a pair, ours
the nearest one, which is checked to be among them.

    python -m benchmarks.metric [BATCH ...]
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.timing import interleaved
from ziggurat.learning.metric.distances import cosine, euclidean, squared_euclidean
from ziggurat.learning.metric.facenet import TripletLoss, hardest_triplets, semi_hard_triplets
from ziggurat.learning.metric.miners import (
    all_triplets,
    batch_hard,
    margin_triplets,
    multi_similarity_pairs,
    same_class,
)
from ziggurat.metrics.load import busy
from ziggurat.nn.losses.supcon import SupConLoss
from ziggurat.nn.losses.tuplets import contrastive, mean_of_active, multi_similarity, triplet_margin

DIMENSIONS, SAMPLES, MARGIN, TEMPERATURE, EQUAL = 128, 16, 0.2, 0.1, 1e-5
REPEATS = {512: 21, 2048: 7}
Loss = Callable[[Tensor, Tensor], Tensor]
"""Embeddings and labels -> a scalar."""
Miner = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""Embeddings and labels -> anchors, positives and negatives."""


def batch(size: int) -> tuple[Tensor, Tensor]:
    """Vectors of length one around a centre of each identity, so far apart that triplets of every kind occur."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(size // SAMPLES).repeat_interleave(SAMPLES)
    centres = torch.randn(size // SAMPLES, DIMENSIONS, generator=generator)
    return normalize(centres[labels] + 3 * torch.randn(size, DIMENSIONS, generator=generator), dim=1), labels


# Both sides


def losses() -> dict[str, tuple[Loss, Loss]]:
    """(ours, theirs)."""
    from pytorch_metric_learning import distances
    from pytorch_metric_learning import losses as peer
    from pytorch_metric_learning import miners as mining

    plain = distances.LpDistance(normalize_embeddings=False)
    triplet, both = peer.TripletMarginLoss(MARGIN, distance=plain), peer.ContrastiveLoss(distance=plain)
    hard = mining.BatchHardMiner(distance=plain)
    similar, chosen = peer.MultiSimilarityLoss(2, 50, 0.5), mining.MultiSimilarityMiner(0.1)

    def every(z: Tensor, labels: Tensor) -> Tensor:
        return mean_of_active(triplet_margin(euclidean(z, z), all_triplets(labels), MARGIN))

    def hardest(z: Tensor, labels: Tensor) -> Tensor:
        distance = euclidean(z, z)
        return mean_of_active(triplet_margin(distance, batch_hard(distance, labels), MARGIN))

    def pairs(z: Tensor, labels: Tensor) -> Tensor:
        near, far = contrastive(euclidean(z, z), *same_class(labels))
        return mean_of_active(near) + mean_of_active(far)

    def mined(z: Tensor, labels: Tensor) -> Tensor:
        similarity = cosine(z, z)
        return multi_similarity(similarity, *multi_similarity_pairs(similarity, labels, 0.1)).mean()

    return {
        "triplets, all": (every, triplet),
        "triplets, batch hard": (hardest, lambda z, labels: triplet(z, labels, hard(z, labels))),
        "contrastive": (pairs, both),
        "SupCon": (SupConLoss(TEMPERATURE), peer.SupConLoss(TEMPERATURE)),
        "multi-similarity": (lambda z, labels: multi_similarity(cosine(z, z), *same_class(labels)).mean(), similar),
        "multi-similarity, mined": (mined, lambda z, labels: similar(z, labels, chosen(z, labels))),
    }


def given_triplets(z: Tensor, labels: Tensor) -> dict[str, tuple[Loss, Loss]]:
    """(ours, theirs) of the losses alone, the hardest triplets of the batch given; FaceNet's takes squared distances."""
    from pytorch_metric_learning import distances
    from pytorch_metric_learning import losses as peer

    def of(power: int) -> Loss:
        loss = peer.TripletMarginLoss(MARGIN, distance=distances.LpDistance(normalize_embeddings=False, power=power))
        return lambda z, labels: loss(z, labels, tuple(triplets.T))

    triplets, squared = batch_hard(euclidean(z, z), labels), TripletLoss(MARGIN)
    return {
        "triplets, given": (
            lambda z, labels: mean_of_active(triplet_margin(euclidean(z, z), triplets, MARGIN)),
            of(1),
        ),
        "triplets, given, FaceNet's": (lambda z, labels: mean_of_active(squared(z, triplets)), of(2)),
    }


def miners() -> dict[str, tuple[Miner, Miner]]:
    """(ours, theirs)."""
    from pytorch_metric_learning import distances
    from pytorch_metric_learning import miners as peer
    from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_triplets

    plain = distances.LpDistance(normalize_embeddings=False)
    square = distances.LpDistance(normalize_embeddings=False, power=2)
    every = peer.BatchEasyHardMiner("all", "hard", distance=square)

    def semi_hard(distance: Any) -> Miner:
        return peer.TripletMarginMiner(MARGIN, type_of_triplets="semihard", distance=distance)

    return {
        "every semi-hard one": (
            lambda z, labels: tuple(margin_triplets(euclidean(z, z), labels, MARGIN, "semi_hard").T),
            semi_hard(plain),
        ),
        "nearest semi-hard of a pair*": (
            lambda z, labels: tuple(semi_hard_triplets(squared_euclidean(z, z), labels, MARGIN).T),
            semi_hard(square),
        ),
        "hardest of a pair": (
            lambda z, labels: tuple(hardest_triplets(squared_euclidean(z, z), labels).T),
            lambda z, labels: convert_to_triplets(every(z, labels), labels),
        ),
        "hardest of an anchor": (
            lambda z, labels: tuple(batch_hard(euclidean(z, z), labels).T),
            peer.BatchHardMiner(distance=plain),
        ),
    }


# Equal first


def check_loss(name: str, sides: tuple[Loss, Loss], z: Tensor, labels: Tensor) -> None:
    """Equal values and gradients."""
    values: list[float] = []
    gradients: list[Tensor] = []
    for side in sides:
        leaf = z.clone().requires_grad_()
        value = side(leaf, labels)
        values.append(float(value.detach()))
        gradients += torch.autograd.grad(value, leaf)
    if abs(values[0] - values[1]) > EQUAL * abs(values[1]):
        raise AssertionError(f"{name}: the loss is {values[0]:.8g} here and {values[1]:.8g} there.")
    apart = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
    if apart > EQUAL:
        raise AssertionError(f"{name}: the gradients differ by {apart:.1e} of their length.")


def check_miner(name: str, sides: tuple[Miner, Miner], z: Tensor, labels: Tensor) -> int:
    """The number of our triplets, which are the peer's, or the nearest negatives among them (the row with an asterisk)."""
    z = z.double()
    own, other = (side(z, labels) for side in sides)
    if name.endswith("*"):
        anchor, near, far = other
        pair, away = anchor * len(z) + near, squared_euclidean(z, z)[anchor, far]
        least = away.new_full((len(z) ** 2,), torch.inf).scatter_reduce(0, pair, away, "amin")
        other = tuple(part[away == least[pair]] for part in other)
    codes = ((a * len(z) + p).mul_(len(z)).add_(n).sort().values for a, p, n in (own, other))
    if not torch.equal(*codes):
        raise AssertionError(f"{name}: {len(own[0]):,} triplets here and {len(other[0]):,} there are not the same.")
    return len(own[0])


# Then timed


def row(name: str, timed: Callable[[Any], object], sides: tuple[Any, Any], repeats: int) -> None:
    """One line of the table: `timed` of both sides."""
    own, peer = interleaved({name: partial(timed, side) for name, side in zip(("ours", "theirs"), sides)}, repeats)
    unsteady = "" if own.steady and peer.steady else "   unsteady"
    ratio = own.least / peer.least
    print(f"  {name:48} {1e3 * own.least:10.2f} {1e3 * peer.least:10.2f} {ratio:8.3f}{unsteady}", flush=True)


def compare(size: int) -> None:
    """Every loss and miner on one batch."""
    z, labels = batch(size)
    repeats = REPEATS.get(size, 9)
    before = busy()
    title = f"{size:,} x {DIMENSIONS}, {size // SAMPLES} identities"
    print(f"\n{title:50} {'ours, ms':>10} {'theirs, ms':>10} {'ratio':>8}")
    leaf = z.clone().requires_grad_()

    def forward(side: Loss) -> Tensor:
        return side(leaf, labels)

    def backward(side: Loss) -> None:
        leaf.grad = None
        side(leaf, labels).backward()

    def mined(side: Miner) -> tuple[Tensor, ...]:
        return side(z, labels)

    for name, both in (losses() | given_triplets(z, labels)).items():
        check_loss(name, both, z, labels)
        row(f"{name}: forward", forward, both, repeats)
        row(f"{name}: forward and backward", backward, both, repeats)
    for name, sides in miners().items():
        number = check_miner(name, sides, z, labels)
        row(f"{name}: {number:,} triplets", mined, sides, repeats)
    print("  * theirs are all of a pair; ours, the nearest, was found among them")
    if reason := before or busy():
        print(f"  not judged: {reason}")


def main(sizes: tuple[int, ...] = (512, 2048)) -> None:
    """Both batches."""
    if not importlib.util.find_spec("pytorch_metric_learning"):
        print("metric: pytorch-metric-learning absent, so there is nothing to compare with.")
        return
    for size in sizes:
        compare(size)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tuple(int(size) for size in sys.argv[1:]) or (512, 2048))

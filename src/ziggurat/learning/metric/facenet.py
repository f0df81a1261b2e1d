"""FaceNet: the network learns the embedding itself, by triplets that are mined inside each batch; distance alone then verifies.

    L = [ ‖f(a) − f(p)‖² − ‖f(a) − f(n)‖² + α ]₊,   ‖f(x)‖ = 1,   α = 0.2,   n with  d²_ap < d²_an < d²_ap + α

Every pair of one identity in the batch is an anchor and its positive, and takes one semi-hard negative: farther than the positive, but
not by the margin. The hardest negatives instead lead early training to f = const, where every triplet costs α and no gradient is left.
Harmonic embeddings: a new network is trained against a frozen old one, on triplets with members of both, so that its queries find what the
old one has embedded.

F. Schroff, D. Kalenichenko, J. Philbin, FaceNet: A Unified Embedding for Face Recognition and Clustering, 2015, arXiv:1503.03832.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int8, Int64
from torch import Tensor, nn
from torch.nn.functional import normalize

from ziggurat.data.batch import Batch
from ziggurat.data.feeds import PerClass
from ziggurat.learning.metric.distances import squared_euclidean
from ziggurat.learning.metric.miners import same_class
from ziggurat.nn.learner import Learner
from ziggurat.nn.losses.tuplets import mean_of_active, triplet_margin
from ziggurat.nn.recipe import Recipe, constant

MARGIN = 0.2

Miner = Callable[[Tensor, Tensor, float], Tensor]
"""Squared distances (N, N), labels (N,) and the margin -> triplets (T, 3) of anchor, positive and negative."""


# Miners: one negative for every anchor and positive


def _semi_hard(
    distance: Float[Tensor, "N N"], positive: Bool[Tensor, "N N"], negative: Bool[Tensor, "N N"], margin: float
) -> tuple[Int64[Tensor, "T 3"], Bool[Tensor, " T"]]:
    """(a triplet for every positive pair, whether its negative is semi-hard)."""
    anchor, near = positive.nonzero().T
    d = distance.detach()
    limit, apart = d[anchor, near, None], d[anchor]
    shell = negative[anchor] & (apart > limit) & (apart < limit + margin)
    return torch.stack([anchor, near, apart.masked_fill(~shell, torch.inf).argmin(1)], 1), shell.any(1)


def semi_hard_triplets(
    distance: Float[Tensor, "N N"], labels: Int64[Tensor, " N"], margin: float = MARGIN
) -> Int64[Tensor, "T 3"]:
    """For every (anchor, positive) the nearest negative in the open shell between d_ap and d_ap + margin; pairs without one are left out.

    Arguments:
        distance: squared, as in the loss; on plain distances other negatives would be semi-hard.
    """
    triplets, found = _semi_hard(distance, *same_class(labels), margin)
    return triplets[found]


def hardest_triplets(
    distance: Float[Tensor, "N N"], labels: Int64[Tensor, " N"], margin: float = MARGIN
) -> Int64[Tensor, "T 3"]:
    """For every (anchor, positive) the negative nearest to the anchor."""
    positive, negative = same_class(labels)
    anchor, near = positive.nonzero().T
    far = distance.detach().masked_fill(~negative, torch.inf).argmin(1)
    return torch.stack([anchor, near, far[anchor]], 1)[negative.any(1)[anchor]]


def random_triplets(
    distance: Float[Tensor, "N N"],
    labels: Int64[Tensor, " N"],
    margin: float = MARGIN,
    generator: torch.Generator | None = None,
) -> Int64[Tensor, "T 3"]:
    """For every (anchor, positive) a uniform negative.

    Arguments:
        generator: of the draw; None takes torch's own, which a learner seeds at every step.
    """
    positive, negative = same_class(labels)
    anchor, near = positive.nonzero().T
    others = negative[anchor]
    drawn = torch.rand(others.shape, generator=generator, device=others.device).masked_fill(~others, -1)
    return torch.stack([anchor, near, drawn.argmax(1)], 1)[others.any(1)]


def semi_hard_or_random_triplets(
    distance: Float[Tensor, "N N"],
    labels: Int64[Tensor, " N"],
    margin: float = MARGIN,
    generator: torch.Generator | None = None,
) -> Int64[Tensor, "T 3"]:
    """The semi-hard negative where there is one, and a uniform one where there is not."""
    triplets, found = _semi_hard(distance, *same_class(labels), margin)
    drawn = random_triplets(distance, labels, margin, generator)
    return torch.where(found[:, None], triplets, drawn) if len(drawn) else drawn


def harmonic_triplets(
    new: Float[Tensor, "N D"], old: Float[Tensor, "N D"], labels: Int64[Tensor, " N"], margin: float = MARGIN
) -> Int64[Tensor, "T 3"]:
    """Semi-hard triplets whose members are of both networks: rows 0 … N − 1 are the new embeddings, N … 2N − 1 the old ones.

    Anchor and positive are different samples; the negative is the nearest in the shell among both versions of all others. Triplets of three
    old embeddings teach nothing and are left out.
    """
    both = torch.cat([new, old])
    twice, sample = labels.repeat(2), torch.arange(len(labels), device=labels.device).repeat(2)
    same = twice[:, None] == twice
    positive = same & (sample[:, None] != sample)
    triplets, found = _semi_hard(squared_euclidean(both, both), positive, ~same, margin)
    return triplets[found & (triplets < len(new)).any(1)]


# Losses


def _positive(margin: float) -> float:
    if not margin > 0:
        raise ValueError(f"margin must be positive, got {margin}.")
    return margin


class TripletLoss(nn.Module):
    """[d²_ap − d²_an + α]₊ of indexed triplets.

    Arguments:
        margin: α.

    Shapes: embeddings (N, D), triplets (T, 3) -> (T,).
    """

    def __init__(self, margin: float = MARGIN) -> None:
        super().__init__()
        self.margin = _positive(margin)

    def forward(self, embeddings: Float[Tensor, "N D"], triplets: Int64[Tensor, "T 3"]) -> Float[Tensor, " T"]:
        return triplet_margin(squared_euclidean(embeddings, embeddings), triplets, self.margin)

    def extra_repr(self) -> str:
        return f"margin={self.margin:g}"


class HarmonicTripletLoss(TripletLoss):
    """The triplet loss over the embeddings of a new network and those of a frozen old one, which get no gradient.

    Arguments:
        margin: α.

    Shapes: new (N, D), old (N, D), triplets (T, 3) over the 2N rows of new, then old (see `harmonic_triplets`) -> (T,).
    """

    def forward(  # type: ignore[override]
        self, new: Float[Tensor, "N D"], old: Float[Tensor, "N D"], triplets: Int64[Tensor, "T 3"]
    ) -> Float[Tensor, " T"]:
        return super().forward(torch.cat([new, old.detach()]), triplets)


def to_bytes(embeddings: Float[Tensor, "N D"]) -> Int8[Tensor, "N D"]:
    """Unit vectors with one byte a coordinate: 127 x, rounded. Cosines and distances are taken of the floats of these, over 127."""
    if float(embeddings.abs().max()) > 1 + 1e-4:
        raise ValueError("coordinates lie outside of −1 … 1; divide the embeddings by their length first.")
    return (127 * embeddings).round().clamp(-127, 127).to(torch.int8)


# Learners


def _nothing(z: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """0, or not a number where an embedding is none: in no shell, it would find no triplet, and training would go on in silence."""
    return 0 * z.sum()


class FaceNet(Learner):
    """Any network, a linear layer to the embedding, length one; batches of P identities with K samples each.

    Arguments:
        network: a backbone with `num_features`; a `Staged` one loses its classifier.
        dim: of the embedding.
        samples: K.
        margin: α.
        miner: chooses triplets from squared distances, labels and the margin.
        lr: of AdaGrad (paper: 0.05).
    """

    score = "knn"

    def __init__(
        self,
        network: nn.Module,
        dim: int = 128,
        samples: int = 4,
        margin: float = MARGIN,
        miner: Miner = semi_hard_triplets,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr)
        if samples < 2:
            raise ValueError(f"samples must be 2 or more, so that there are positive pairs, got {samples}.")
        if not hasattr(network, "num_features"):
            raise ValueError(f"{type(network).__name__} does not say num_features, the width of what it gives.")
        if hasattr(network, "reset_classifier"):
            network.reset_classifier(0)  # type: ignore[operator]
        width: Any = network.num_features
        self.embedding = nn.Linear(width, dim)
        self.samples, self.miner, self.loss = samples, miner, TripletLoss(margin)

    @property
    def feed(self) -> PerClass:
        return PerClass(self.samples)

    def represent(self, *inputs: Tensor) -> Float[Tensor, "B D"]:
        """Unit vectors."""
        return normalize(self.embedding(super().represent(*inputs)), dim=1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The mean over the triplets that cost something."""
        z = self.represent(*batch.inputs)
        distance = squared_euclidean(z, z)
        triplets = self.miner(distance, batch.target, self.loss.margin)
        loss = mean_of_active(triplet_margin(distance, triplets, self.loss.margin))
        return {"triplet": loss + _nothing(z)}

    def recipe(self) -> Recipe:
        """AdaGrad at a constant rate."""
        return Recipe(torch.optim.Adagrad(self.parameters(), lr=self.lr or 0.05))


class HarmonicFaceNet(FaceNet):
    """A new network, with a fresh embedding layer, learns to be searched among the embeddings of an old one.

    Arguments:
        network: the new backbone, with the weights of its own training.
        old: the learner that made the gallery; frozen. Its embedding has the width that this one gets.
        samples, margin, lr: as of `FaceNet`.
        alone: share of the run in which only the embedding layer learns.
    """

    def __init__(
        self,
        network: nn.Module,
        old: FaceNet,
        samples: int = 4,
        margin: float = MARGIN,
        alone: float = 0.3,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, old.embedding.out_features, samples, margin, lr=lr)
        if not 0 <= alone <= 1:
            raise ValueError(f"alone must be between 0 and 1, got {alone}.")
        self.old, self.alone, self.loss = old.requires_grad_(False).eval(), alone, HarmonicTripletLoss(margin)

    def train(self, mode: bool = True) -> HarmonicFaceNet:
        super().train(mode)
        self.old.eval()
        return self

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        new = self.represent(*batch.inputs)
        with torch.no_grad():
            old = self.old.represent(*batch.inputs)
        triplets = harmonic_triplets(new, old, batch.target, self.loss.margin)
        return {"harmonic": mean_of_active(self.loss(new, old, triplets)) + _nothing(new)}

    def recipe(self) -> Recipe:
        """AdaGrad; the backbone waits until the embedding layer has found its place."""
        groups = [{"params": self.embedding.parameters()}, {"params": self.network.parameters()}]
        optimizer = torch.optim.Adagrad(groups, lr=self.lr or 0.05)
        return Recipe(optimizer, [constant, lambda fraction: float(fraction >= self.alone)])

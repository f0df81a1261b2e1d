"""FoPro: a few real images of each class say where the classes are, and many doubtful images of the web learn to lie there.

Each class has a prototype c_k, which begins as the mean embedding of its shots. Images of the web are drawn towards the prototype of their
label, by which they are also judged: first by a rule made by hand, then by a small network that has learnt what belongs together.

    t = α softmax(h(f)) + (1 − α) softmax(z·c / τ)                            what is thought of an image (stage 2)
    r_k = σ(relation(z, c_k))                                                the learnt distance (stage 3)
    c_y ← norm(m c_y + (1 − m) z')                                            prototypes follow the images that are kept
    L = CE(h(f), y) + CE(z·c / τ, y) + CE(g(z) / τ, y)                          on kept images, y the corrected label
        + InfoNCE(z, z'_strong, queue) + ‖back(z) − f‖²                         on all images
        + BCE(relation(z, c), y)                                              where t is above the threshold, and on shots

f are features of the encoder, z the projection of unit length, and a prime marks the encoder that follows by a moving average. No
gradient of the reconstruction reaches the encoder, and none of the relation reaches anything but itself.

In the authors' release the relation is trained by a softmax over classes and has no biases; in stage 3 it relabels, too, or (in the
scripts) what either rule keeps is kept; margins and temperatures of each class are options, and the last stage uses mix-up.

Y. Qin, X. Chen, C. Chen, Y. Shen, B. Ren, Y. Gu, J. Yang, C. Shen, FoPro: Few-Shot Guided Robust Webly-Supervised Prototypical Learning,
2022, arXiv:2212.00465.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize, one_hot

from ziggurat.data.batch import Batch
from ziggurat.data.shots_feed import Guided, GuidedViews
from ziggurat.learning.weak.correction import Corrected, keep_first, relabel_first
from ziggurat.nn.ema import EMA
from ziggurat.nn.learner import Learner
from ziggurat.nn.mlp import MLPHead
from ziggurat.nn.recipe import Recipe, warmup_cosine

STAGES = (1, 2, 3, 4)
RELATION_WIDTH = 128


class RelationModule(nn.Module):
    """Whether a sample belongs to a prototype: a perceptron on both, one behind the other; its sigmoid is the score.

    Arguments:
        dim: width of either.
        width: of the hidden layer.

    Shapes: z (…, dim), prototype (…, dim) -> (…,).
    """

    def __init__(self, dim: int = 128, width: int = RELATION_WIDTH) -> None:
        super().__init__()
        self.layers = MLPHead(2 * dim, [width, 1], norm=False)

    def forward(self, z: Float[Tensor, "*B D"], prototype: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        return self.layers(torch.cat([z, prototype], -1)).squeeze(-1)


class FeatureQueue(nn.Module):
    """The last embeddings that were seen, first in, first out; it begins with random ones. Its state is buffers.

    Arguments:
        size: how many.
        dim: width of each.
    """

    vectors: Tensor
    place: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"a queue holds 1 embedding or more, got {size}.")
        self.register_buffer("vectors", normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Float[Tensor, "B D"]) -> None:
        """Takes new ones in the place of the oldest; of more than there is room for, the last."""
        size, keys = len(self.vectors), keys[-len(self.vectors) :].to(self.vectors.dtype)
        self.vectors[(self.place + torch.arange(len(keys), device=keys.device)) % size] = keys
        self.place.add_(len(keys)).remainder_(size)


def instance_contrast(
    z: Float[Tensor, "B D"], key: Float[Tensor, "B D"], queue: Float[Tensor, "Q D"], temperature: float
) -> Float[Tensor, " B"]:
    """−log of the share that exp(z·key / τ) has beside exp(z·q / τ) of all q in the queue; vectors have length 1.

    K. He et al., Momentum Contrast, 2020, arXiv:1911.05722.
    """
    scores = torch.cat([(z * key).sum(1, keepdim=True), z @ queue.T], 1) / temperature
    return cross_entropy(scores, torch.zeros(len(z), dtype=torch.int64, device=z.device), reduction="none")


def follow(
    prototypes: Float[Tensor, "K D"], z: Float[Tensor, "B D"], labels: Int64[Tensor, " B"], momentum: float
) -> Float[Tensor, "K D"]:
    """norm(mⁿ c + (1 − mⁿ) z̄) of each class with n samples of mean z̄: n steps towards the mean at once; other classes stay."""
    count = torch.bincount(labels, minlength=len(prototypes)).to(z.dtype)[:, None]
    mean = torch.zeros_like(prototypes).index_add(0, labels, z) / count.clamp_min(1)
    keep = momentum**count
    return torch.where(keep < 1, normalize(keep * prototypes + (1 - keep) * mean, dim=1), prototypes)


def pair_loss(pairs: Float[Tensor, "B K"], labels: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Binary cross-entropy of pairs of a sample and a prototype: that with its own counts half, all others together the other half."""
    own = one_hot(labels, pairs.shape[1]).to(pairs.dtype)
    weight = own / 2 + (1 - own) / (2 * max(pairs.shape[1] - 1, 1))
    return binary_cross_entropy_with_logits(pairs, own, weight, reduction="none").sum(1)


class Cleaned(NamedTuple):
    """What became of each sample, in the order of its number in the data set: the given label, whether it is kept, its new label, and the
    score of the given one."""

    sample: Int64[Tensor, " N"]
    label: Int64[Tensor, " N"]
    keep: Bool[Tensor, " N"]
    new_label: Int64[Tensor, " N"]
    score: Float[Tensor, " N"]


class _Seen(NamedTuple):
    """What the step leaves to `after_step`: keys of the strong views, keys of the weak ones, and what was decided."""

    strong: Float[Tensor, "B D"]
    weak: Float[Tensor, "B D"]
    corrected: Corrected


class FoPro(Learner):
    """Trains a network on the web's labels, guided by shots, in four stages.

    1, warm-up: cross-entropy on all labels; the projection learns to reconstruct. Then `guide(shots, labels)` sets the prototypes.
    2: everything is learnt, labels are corrected by `relabel_first(t)`. 3: by `keep_first(r, t)`; stage 2 must have lasted until the
    relation knows what belongs together. Then `clean` says what became of the web, and in stage 4 the classifier alone is trained on what
    is kept.

    Arguments:
        network: a `Staged` backbone; its classifier is removed.
        num_classes: K.
        stage: 1 to 4; `enter` goes on to another one.
        dim, hidden: widths of the projection and of its hidden layer.
        queue: how many embeddings the images are told apart from.
        momentum: of the encoder that follows.
        prototype_momentum: m.
        temperature: τ.
        threshold: above it t relabels and r keeps.
        alpha: share of the classifier in t.
        weak, strong: make the two views of training batches; None leaves samples as they are.
        lr: of Adam.
    """

    prototypes: Tensor

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        stage: int = 1,
        dim: int = 128,
        hidden: int = 2048,
        queue: int = 8192,
        momentum: float = 0.999,
        prototype_momentum: float = 0.999,
        temperature: float = 0.1,
        threshold: float = 0.8,
        alpha: float = 0.5,
        weak: nn.Module | Callable[[Tensor], Tensor] | None = None,
        strong: nn.Module | Callable[[Tensor], Tensor] | None = None,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr)
        for name, value in (("prototype_momentum", prototype_momentum), ("threshold", threshold), ("alpha", alpha)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {value}.")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        network.reset_classifier(0)  # type: ignore[operator]
        features: int = network.num_features  # type: ignore[assignment]
        self.classifier = nn.Linear(features, num_classes)
        self.projector = MLPHead(features, [hidden, dim], norm=False)
        self.reconstructor = MLPHead(dim, [hidden, features], norm=False)
        self.low_dim = nn.Linear(dim, num_classes, bias=False)
        self.relation = RelationModule(dim)
        self.follower = EMA(network, momentum)
        self.queue = FeatureQueue(queue, dim)
        self.register_buffer("prototypes", torch.zeros(num_classes, dim))
        self.prototype_momentum, self.temperature = prototype_momentum, temperature
        self.threshold, self.alpha, self.weak, self.strong = threshold, alpha, weak, strong
        self._seen: _Seen | None = None
        self.enter(stage)

    @property
    def feed(self) -> Guided:
        return Guided(self.weak, self.strong)

    def enter(self, stage: int) -> None:
        """Goes on to a stage: which parameters learn, and by which losses."""
        if stage not in STAGES:
            raise ValueError(f"stage must be one of 1, 2, 3 and 4, got {stage}.")
        self.stage = stage
        self.requires_grad_(stage < 4)
        self.follower.requires_grad_(False)
        self.classifier.requires_grad_(True)
        for part in (self.low_dim, self.relation):
            part.requires_grad_(stage in (2, 3))

    def train(self, mode: bool = True) -> FoPro:
        """In stage 4 the network stays in evaluation mode: its statistics are frozen, too."""
        super().train(mode)
        if self.stage == 4:
            self.network.eval()
        return self

    def predict(self, *inputs: Tensor) -> Tensor:
        return self.classifier(self.represent(*inputs))

    def embed(self, features: Float[Tensor, "B F"]) -> Float[Tensor, "B D"]:
        """Projections of unit length."""
        return normalize(self.projector(features), dim=1)

    @torch.no_grad()
    def keys(self, *inputs: Tensor) -> Float[Tensor, "B D"]:
        """Embeddings by the encoder that follows."""
        return self.embed(self.follower(*inputs))

    @torch.no_grad()
    def guide(self, shots: Tensor, labels: Int64[Tensor, " n"]) -> None:
        """The prototypes become the normalised means of some samples' embeddings: of the shots, not of the web."""
        count = torch.bincount(labels, minlength=len(self.prototypes))
        if len(count) > len(self.prototypes) or not count.all():
            raise ValueError(
                f"each of the {len(self.prototypes)} classes needs a shot or more, got {count.tolist()} of each."
            )
        mode = self.training
        self.eval()
        z = self.keys(shots.to(self.device))
        self.train(mode)
        self.prototypes.zero_().index_add_(0, labels.to(self.device), z)
        self.prototypes.copy_(normalize(self.prototypes, dim=1))

    @torch.no_grad()
    def scores(self, logits: Float[Tensor, "B K"], z: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """t: probabilities by the classifier and by the prototypes, mixed."""
        near = (z @ self.prototypes.T / self.temperature).softmax(1)
        return self.alpha * logits.softmax(1) + (1 - self.alpha) * near

    def relations(self, z: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Of each sample to each prototype, before the sigmoid; no gradient reaches either."""
        shape = (len(z), *self.prototypes.shape)
        return self.relation(z.detach()[:, None].expand(shape), self.prototypes[None].expand(shape))

    def correct(
        self,
        logits: Float[Tensor, "B K"],
        z: Float[Tensor, "B D"],
        given: Int64[Tensor, " B"],
        is_shot: Bool[Tensor, " B"],
    ) -> tuple[Corrected, Corrected]:
        """What the rule by hand says, and what the stage decides: the same in stage 2, by the relation from stage 3 on."""
        if not self.prototypes.any():
            raise ValueError("the prototypes are not set; call guide(shots, labels) after stage 1.")
        scores = self.scores(logits, z)
        by_hand = relabel_first(scores, given, is_shot, self.threshold)
        if self.stage <= 2:
            return by_hand, by_hand
        return by_hand, keep_first(self.relations(z).detach().sigmoid(), scores, given, is_shot, self.threshold)

    def losses(self, batch: GuidedViews) -> dict[str, Tensor]:  # type: ignore[override]
        weak, strong = batch.views
        features = self.represent(weak)
        logits = self.classifier(features)
        if self.stage in (1, 4):
            terms = {"classify": cross_entropy(logits, batch.target, reduction="none")}
            if self.stage == 1:
                terms["reconstruct"] = self.reconstruction(features, self.embed(features.detach()))
            return terms
        z = self.embed(features)
        by_hand, found = self.correct(logits, z, batch.target, batch.is_shot)
        self._seen = _Seen(self.keys(strong), self.keys(weak), found)
        by_class = {"classify": logits, "prototype": z @ self.prototypes.T / self.temperature}
        by_class["low_dim"] = self.low_dim(z) / self.temperature
        terms = {
            name: among(cross_entropy(value, found.label, reduction="none"), found.keep)
            for name, value in by_class.items()
        }
        terms["instance"] = instance_contrast(z, self._seen.strong, self.queue.vectors, self.temperature)
        terms["reconstruct"] = self.reconstruction(features, z.detach())
        terms["relation"] = among(pair_loss(self.relations(z), by_hand.label), by_hand.sure)
        return terms

    def reconstruction(self, features: Float[Tensor, "B F"], z: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
        """Mean squared difference from the features, of which it has no gradient."""
        return (self.reconstructor(z) - features.detach()).square().mean(1)

    def after_step(self, batch: Batch) -> None:
        """The encoder that follows takes a step, prototypes go towards the samples that are kept, and the queue goes on."""
        if self.stage == 4:
            return
        self.follower.update(self.network)
        if self._seen is None:
            return
        strong, weak, found = self._seen
        self.queue.push(strong)
        kept = found.keep
        self.prototypes.copy_(follow(self.prototypes, weak[kept], found.label[kept], self.prototype_momentum))
        self._seen = None

    @torch.no_grad()
    def clean(self, batches: Iterable[Batch]) -> Cleaned:
        """What the stage decides about each sample of a data set; `WebAndShots.relabelled` makes one of it."""
        mode = self.training
        self.eval()
        parts = []
        for batch in batches:
            if not isinstance(batch, GuidedViews):
                raise ValueError("clean needs the learner's own batches; make them by feed(dataset, learner.feed).")
            features, given = self.represent(*(x.to(self.device) for x in batch.inputs)), batch.target.to(self.device)
            is_shot = batch.is_shot.to(self.device)
            _, found = self.correct(self.classifier(features), self.embed(features), given, is_shot)
            parts.append((batch.index.to(self.device), given, found.keep, found.label, found.score))
        self.train(mode)
        columns = [torch.cat(column).cpu() for column in zip(*parts, strict=True)]
        order = columns[0].argsort()
        return Cleaned(*(column[order] for column in columns))

    def recipe(self) -> Recipe:
        """Adam with a short warm-up and a cosine, as the authors take for their small sets (at 1e-4)."""
        learned = [p for p in self.parameters() if p.requires_grad]
        return Recipe(torch.optim.Adam(learned, lr=self.lr or 1e-3), warmup_cosine)


def among(values: Float[Tensor, " B"], chosen: Bool[Tensor, " B"]) -> Float[Tensor, " B"]:
    """One value a sample whose mean is that over the chosen ones; the others are 0."""
    return values * chosen * (len(values) / chosen.sum().clamp_min(1).to(values.dtype))

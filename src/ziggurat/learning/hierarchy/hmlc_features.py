"""Feature identification: each level of a hierarchical contrastive loss looks at its own coordinates of the representation.

    L = 1/L Σ_l 2^(1/l) S_l,   S_l = SupCon of the samples that share all labels down to the level, on m_l ⊙ z / ‖m_l ⊙ z‖

l = 1 is the finest level. "hmce" puts max(S_l, S_1 … S_{l−1}) for S_l, so that a coarse pair never costs less than a finer one. Without
masks (m_l = 1) this is HMLC (S. Zhang, R. Xu, C. Xiong, C. Ramaiah, 2022, arXiv:2204.13207). G-HMLC finds hard masks by a Gaussian
mixture with a component a level, A-HMLC learns soft ones by a small attention head a level. What the paper's mixture is fitted to could
not be read; here it is the logarithm of the variance between classes over that within them, of each coordinate on each level.

J. Ott, N. Vysotskaya, H. Sun, L. Servadei, R. Wille, Feature Identification for Hierarchical Contrastive Learning, 2025, arXiv:2510.00837.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from scipy.optimize import linear_sum_assignment
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from ziggurat.data.batch import Batch, Views
from ziggurat.data.feeds import TwoViews
from ziggurat.data.label_levels import as_levels, path_ids
from ziggurat.nn.learner import Learner
from ziggurat.nn.losses.level_supcon import level_supcon
from ziggurat.nn.recipe import Recipe, warmup_cosine

EPSILON = 1e-8
Constraint = Literal["hmc", "hmce"]


class HMLCLoss(nn.Module):
    """The hierarchical loss, with or without a mask for each level.

    Arguments:
        temperature: τ.
        constraint: "hmce" lets no level cost less than a finer one; "hmc" leaves the levels as they are.
        balanced: a level's loss is the mean over its classes, not over its samples, so that large classes do not rule coarse levels.
        drop_duplicates: as the released code does, each level keeps one sample for each class of the finer level only.

    Shapes: embeddings (B, D) or (B, V, D) for V views, labels (B, L) from the coarsest level to the finest, masks (L, D) for all samples
    or (B, L, D) or (B, V, L, D) for each -> scalar. A sample that is alone in its class on a level does not count there.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        constraint: Constraint = "hmce",
        balanced: bool = False,
        drop_duplicates: bool = False,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        if constraint not in ("hmc", "hmce"):
            raise ValueError(f"constraint must be 'hmc' or 'hmce', got {constraint!r}.")
        self.temperature, self.constraint = temperature, constraint
        self.balanced, self.drop_duplicates = balanced, drop_duplicates

    def by_level(
        self,
        embeddings: Float[Tensor, "B *V D"],
        labels: Int64[Tensor, "B L"],
        masks: Float[Tensor, "*M L D"] | None = None,
    ) -> Float[Tensor, " L"]:
        """S_l of each level, the coarsest first, after the constraint and before the weights."""
        views = embeddings.reshape(len(embeddings), -1, embeddings.shape[-1])
        several = labels.repeat_interleave(views.shape[1], 0)
        z = views.flatten(0, 1)
        if masks is not None:
            if masks.shape[-2] != labels.shape[1]:
                raise ValueError(
                    f"labels have {labels.shape[1]} levels, masks {masks.shape[-2]}; give a mask for each level."
                )
            if masks.ndim == 3:  # one for all views of a sample
                masks = masks[:, None]
            z = (masks * views[:, :, None]).flatten(0, 1).transpose(0, 1)
        among = None
        if self.drop_duplicates:
            among = representatives(path_ids(labels)).repeat_interleave(views.shape[1], 1)
        losses = level_supcon(z, several, self.temperature, among)
        found = losses.mean_by_class(several) if self.balanced else losses.mean()
        return found.flip(0).cummax(0)[0].flip(0) if self.constraint == "hmce" else found

    def forward(
        self,
        embeddings: Float[Tensor, "B *V D"],
        labels: Int64[Tensor, "B L"],
        masks: Float[Tensor, "*M L D"] | None = None,
    ) -> Float[Tensor, ""]:
        losses = self.by_level(embeddings, labels, masks)
        rank = torch.arange(len(losses), 0, -1, device=losses.device, dtype=losses.dtype)  # 1 is the finest level
        return (2 ** (1 / rank) * losses).mean()

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}, constraint={self.constraint!r}, balanced={self.balanced}"


def representatives(ids: Int64[Tensor, "B L"]) -> Bool[Tensor, "L B"]:
    """The samples that each level keeps when duplicates are dropped: all on the finest, then the first of each class one level finer."""
    same = ids.T[1:, :, None] == ids.T[1:, None, :]
    first = ~same.tril(-1).any(2)
    return torch.cat([first, first.new_ones(1, len(ids))])


class Moments(NamedTuple):
    """Of each class of the finest level: how many vectors (K,), their sum (K, D) and the sum of their squares (K, D)."""

    number: Tensor
    total: Tensor
    square: Tensor


def class_moments(z: Float[Tensor, "N D"], target: Int64[Tensor, " N"], classes: int) -> Moments:
    """What `fisher_ratios` needs to know of vectors and their classes."""
    zero = z.new_zeros(classes, z.shape[1])
    count = torch.bincount(target, minlength=classes).to(z.dtype)
    return Moments(count, zero.index_add(0, target, z), zero.index_add(0, target, z.square()))


def fisher_ratios(moments: Moments, levels: Int64[Tensor, "K L"]) -> Float[Tensor, "L D"]:
    """Of each coordinate on each level the variance of the class means over the mean variance within classes; classes weigh alike."""
    ratios = []
    for ids in path_ids(levels).T:
        several = int(ids.max()) + 1
        count, total, square = (x.new_zeros(several, *x.shape[1:]).index_add(0, ids, x) for x in moments)
        present = count > 0
        mean, second = (x[present] / count[present, None] for x in (total, square))
        between = mean.var(0, correction=0)
        within = (second - mean.square()).clamp_min(0).mean(0)
        ratios.append((between + EPSILON) / (within + EPSILON))
    return torch.stack(ratios)


def gaussian_masks(ratios: Float[Tensor, "L D"], seed: int = 0) -> Float[Tensor, "L D"]:
    """Hard masks (L, D) of a Gaussian mixture on the logarithms of the ratios, a component a level.

    Each component goes to one level, so that the sum of their mean ratios there is largest. A level with fewer than D / 4L coordinates
    gets those that are best for it in comparison with the others in addition; a coordinate may then serve two levels.
    """
    many, width = ratios.shape
    points = ratios.double().log().T.cpu()
    mixture = GaussianMixture(many, random_state=seed, reg_covar=1e-4)
    component = torch.from_numpy(mixture.fit_predict(points.numpy()))
    _, level = linear_sum_assignment(-mixture.means_)
    masks = torch.nn.functional.one_hot(torch.from_numpy(level)[component], many).T.bool()
    own = (points - points.mean(1, keepdim=True)).T  # against the other levels
    best = own.masked_fill(masks, torch.inf).argsort(1, descending=True)[:, : -(-width // (4 * many))]
    masks = torch.where(masks.sum(1, keepdim=True) < best.shape[1], masks.scatter(1, best, True), masks)
    return masks.to(ratios)


class LevelAttention(nn.Module):
    """A head for each level says how much of every coordinate it looks at: sigmoid(W₂ relu(W₁ z)).

    Arguments:
        width: D, of the vectors.
        levels: L.
        hidden: of each head; None takes D.

    Shapes: (B, D) -> (B, L, D) in (0, 1).
    """

    input = "table"

    def __init__(self, width: int, levels: int, hidden: int | None = None) -> None:
        super().__init__()
        inner = hidden or width
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width), nn.Sigmoid())
            for _ in range(levels)
        )

    def forward(self, z: Float[Tensor, "B D"]) -> Float[Tensor, "B L D"]:
        return torch.stack([head(z) for head in self.heads], 1)


class HMLC(Learner):
    """Trains a network by the hierarchical loss without masks, on two views of each image.

    Arguments:
        network: a `Staged` backbone; its classifier is removed. The loss and the probes look at its `num_features` numbers.
        levels: the labels of each class, coarse to fine (K, L), as of `label_levels`; the last level tells all classes apart.
        view: makes a random view of a batch of images.
        loss: of the levels; None takes `HMLCLoss()`.
        lr: of AdamW.
    """

    score = "linear_probe"
    levels: Tensor

    def __init__(
        self,
        network: nn.Module,
        levels: Sequence[Sequence[int]] | Int64[Tensor, "K L"],
        view: Callable[[Tensor], Tensor] | None = None,
        loss: HMLCLoss | None = None,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr)
        network.reset_classifier(0)  # type: ignore[operator]
        self.register_buffer("levels", as_levels(levels))
        self.view = nn.Identity() if view is None else view
        self.loss = HMLCLoss() if loss is None else loss

    @property
    def feed(self) -> TwoViews:
        return TwoViews(self.view)

    def masks(self, z: Float[Tensor, "B V D"]) -> Float[Tensor, "*M L D"] | None:
        """The masks of the levels, for all samples or for each; here none."""
        return None

    def losses(self, batch: Views) -> dict[str, Tensor]:  # type: ignore[override]
        z = self.represent(torch.cat(batch.views)).unflatten(0, (len(batch.views), -1)).transpose(0, 1)
        return {"levels": self.loss(z, self.levels[batch.target], self.masks(z))}

    def recipe(self) -> Recipe:
        """AdamW with a short warm-up and a cosine."""
        return Recipe(torch.optim.AdamW(self.parameters(), lr=self.lr or 2e-3, weight_decay=0.01), warmup_cosine)


class FixedMasks(HMLC):
    """With hard masks that stay as they are given: what identified ones are compared with.

    Arguments:
        fixed: (L, D); the others as of `HMLC`, whose loss is balanced here.
    """

    fixed: Tensor

    def __init__(
        self,
        network: nn.Module,
        levels: Sequence[Sequence[int]] | Int64[Tensor, "K L"],
        fixed: Float[Tensor, "L D"],
        view: Callable[[Tensor], Tensor] | None = None,
        loss: HMLCLoss | None = None,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, levels, view, HMLCLoss(balanced=True) if loss is None else loss, lr)
        self.register_buffer("fixed", fixed)

    def masks(self, z: Float[Tensor, "B V D"]) -> Float[Tensor, "L D"]:
        return self.fixed


class GHMLC(FixedMasks):
    """With hard masks that a Gaussian mixture finds, from the representations of an epoch; until then all are 1, which is HMLC.

    Arguments:
        every: epochs between two fits; masks that changed often would make the objective jump.
        Others as of `HMLC`; the default loss is balanced.
    """

    number: Tensor
    sums: Tensor
    squares: Tensor

    def __init__(
        self,
        network: nn.Module,
        levels: Sequence[Sequence[int]] | Int64[Tensor, "K L"],
        view: Callable[[Tensor], Tensor] | None = None,
        loss: HMLCLoss | None = None,
        every: int = 5,
        lr: float | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be 1 epoch or more, got {every}.")
        classes, many = as_levels(levels).shape
        width: int = network.num_features  # type: ignore[assignment]
        super().__init__(network, levels, torch.ones(many, width), view, loss, lr)
        self.every = every
        self.register_buffer("number", torch.zeros(classes))
        self.register_buffer("sums", torch.zeros(classes, width))
        self.register_buffer("squares", torch.zeros(classes, width))

    def masks(self, z: Float[Tensor, "B V D"]) -> Float[Tensor, "L D"]:
        self._seen = z.detach()  # for `after_step`, which would have to encode the batch again
        return self.fixed

    def after_step(self, batch: Batch) -> None:
        """Adds the step's representations to the sums of its epoch."""
        several = batch.target.repeat_interleave(self._seen.shape[1])
        own = class_moments(self._seen.flatten(0, 1), several, len(self.number))
        for buffer, value in zip((self.number, self.sums, self.squares), own, strict=True):
            buffer.add_(value)

    def on_train_epoch_end(self) -> None:
        """Fits new masks when it is time, and begins new sums."""
        if (self.current_epoch + 1) % self.every == 0 and bool(self.number.any()):
            self.fixed.copy_(
                gaussian_masks(fisher_ratios(Moments(self.number, self.sums, self.squares), self.levels), self.seed)
            )
        for buffer in (self.number, self.sums, self.squares):
            buffer.zero_()

    @torch.no_grad()
    def refit(self, z: Float[Tensor, "N D"], target: Int64[Tensor, " N"]) -> Float[Tensor, "L D"]:
        """Fits the masks to representations and their classes, and returns them."""
        self.fixed.copy_(
            gaussian_masks(fisher_ratios(class_moments(z, target, len(self.levels)), self.levels), self.seed)
        )
        return self.fixed


class AHMLC(HMLC):
    """With soft masks of `LevelAttention`, for every sample its own.

    Arguments:
        hidden: of the attention; None takes the width of the representation.
        Others as of `HMLC`; the default loss is balanced.
    """

    def __init__(
        self,
        network: nn.Module,
        levels: Sequence[Sequence[int]] | Int64[Tensor, "K L"],
        view: Callable[[Tensor], Tensor] | None = None,
        loss: HMLCLoss | None = None,
        hidden: int | None = None,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, levels, view, HMLCLoss(balanced=True) if loss is None else loss, lr)
        self.attention = LevelAttention(network.num_features, self.levels.shape[1], hidden)  # type: ignore[arg-type]

    def masks(self, z: Float[Tensor, "B V D"]) -> Float[Tensor, "B V L D"]:
        return self.attention(z.flatten(0, 1)).unflatten(0, z.shape[:2])

"""ML-CapsNet: one set of primary capsules feeds a layer of class capsules for every level of a taxonomy.

    L = τ ‖x − x̂‖² + (1 − τ) Σ_n λ_n L_n,   L_n = Σ_k T_k max(0, 0.9 − |v_k|)² + 0.5 (1 − T_k) max(0, |v_k| − 0.1)²

Each level has its own transformations and its own routing, and a class is as probable as its capsule is long. One decoder draws the image
from the capsules of the true classes of all levels. After each epoch λ_n ∝ (1 − accuracy_n) g_n: the weight goes from coarse to fine as
the coarse levels are learnt. The paper's formula for λ could not be read; g_n ∝ 1 / |K_n|, which begins with the coarsest, is our choice.

K. T. Noor, A. Robles-Kelly, B. Kusy, A Capsule Network for Hierarchical Multi-Label Image Classification, 2022, arXiv:2209.05723.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ziggurat.data.batch import Batch
from ziggurat.data.label_levels import as_levels
from ziggurat.nn.capsules import PrimaryCapsules, RoutingCapsules, lengths, routing_by_agreement
from ziggurat.nn.learner import Learner
from ziggurat.nn.recipe import Recipe


class MarginLoss(nn.Module):
    """Σ_k T_k max(0, m⁺ − |v_k|)² + λ (1 − T_k) max(0, |v_k| − m⁻)² of each sample.

    Arguments:
        present, absent: m⁺, which the length of the true capsule should reach, and m⁻, which the others should stay under.
        down: λ, the weight of the absent classes, so that they do not shrink all lengths at first.

    Shapes: lengths (B, K), labels (B,) -> (B,).
    """

    def __init__(self, present: float = 0.9, absent: float = 0.1, down: float = 0.5) -> None:
        super().__init__()
        self.present, self.absent, self.down = present, absent, down

    def forward(self, lengths: Float[Tensor, "B K"], labels: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        true = one_hot(labels, lengths.shape[1]).to(lengths.dtype)
        missed = (self.present - lengths).clamp_min(0).square()
        wrong = (lengths - self.absent).clamp_min(0).square()
        return (true * missed + self.down * (1 - true) * wrong).sum(1)


class MLCapsNet(nn.Module):
    """A convolution, primary capsules, and a layer of class capsules for each level.

    Arguments:
        sizes: number of classes of each level, coarse to fine; a single level is CapsNet.
        in_channels, image_size: of the images, which are square.
        width: of the first convolution (CapsNet: 256).
        types, dim: of the primary capsules (CapsNet: 32 types of 8 numbers).
        out_dim: numbers of a class capsule.
        kernel: of both convolutions, neither of them padded.
        iterations: of the routing (CapsNet: 3).

    Shapes: (B, in_channels, image_size, image_size) -> a list over levels of lengths (B, |K_n|).
    """

    input = "image"

    def __init__(
        self,
        sizes: Sequence[int],
        in_channels: int = 1,
        image_size: int = 28,
        width: int = 256,
        types: int = 32,
        dim: int = 8,
        out_dim: int = 16,
        kernel: int = 9,
        iterations: int = 2,
    ) -> None:
        super().__init__()
        side = (image_size - 2 * kernel + 1) // 2 + 1
        if image_size < 2 * kernel - 1:
            raise ValueError(
                f"images of {image_size} pixels are too small for two kernels of {kernel}; take {2 * kernel - 1} pixels or more, or a "
                "smaller kernel."
            )
        self.stem = nn.Sequential(nn.Conv2d(in_channels, width, kernel), nn.ReLU())
        self.primary = PrimaryCapsules(width, types, dim, kernel)
        self.levels = nn.ModuleList(RoutingCapsules(types * side**2, dim, k, out_dim, iterations) for k in sizes)
        self.sizes, self.out_dim, self.num_features = tuple(sizes), out_dim, sum(sizes) * out_dim

    def capsules(self, x: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B _ D"]]:
        """The class capsules of each level, (B, |K_n|, out_dim)."""
        u = self.primary(self.stem(x))
        return [level(u) for level in self.levels]

    def forward(self, x: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B _"]]:
        return [lengths(v) for v in self.capsules(x)]


class ChainedMLCapsNet(MLCapsNet):
    """The variant in which a level also hears the capsules of the level above it, as the authors' HD-CapsNet does.

    Arguments: as of `MLCapsNet`.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        in_channels: int = 1,
        image_size: int = 28,
        width: int = 256,
        types: int = 32,
        dim: int = 8,
        out_dim: int = 16,
        kernel: int = 9,
        iterations: int = 2,
    ) -> None:
        super().__init__(sizes, in_channels, image_size, width, types, dim, out_dim, kernel, iterations)
        self.parents = nn.ModuleList(RoutingCapsules(a, out_dim, b, out_dim) for a, b in pairwise(self.sizes))
        self.iterations = iterations

    def capsules(self, x: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B _ D"]]:
        u = self.primary(self.stem(x))
        found = [self.levels[0](u)]
        for level, parent in zip(self.levels[1:], self.parents, strict=True):
            votes = torch.cat([level.votes(u), parent.votes(found[-1])], 1)  # type: ignore[operator]
            found.append(routing_by_agreement(votes, self.iterations)[0])
        return found


class CapsuleDecoder(nn.Module):
    """Draws the image from the capsules of one class a level, by three linear layers; all other capsules are masked with zeros.

    Arguments:
        sizes, dim: classes of each level and numbers of a capsule.
        shape: (channels, height, width) of the image.
        widths: of the hidden layers.

    Shapes: a list of (B, |K_n|, dim) and classes (B, L) -> (B, *shape) in (0, 1).
    """

    def __init__(
        self, sizes: Sequence[int], dim: int, shape: Sequence[int], widths: Sequence[int] = (512, 1024)
    ) -> None:
        super().__init__()
        all_widths = (sum(sizes) * dim, *widths)
        hidden = [part for a, b in pairwise(all_widths) for part in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(all_widths[-1], int(torch.Size(shape).numel())), nn.Sigmoid())
        self.shape = tuple(shape)

    def forward(
        self, capsules: list[Float[Tensor, "B _ D"]], classes: Int64[Tensor, "B L"]
    ) -> Float[Tensor, "B C H W"]:
        masked = [
            (v * one_hot(classes[:, n], v.shape[1]).to(v.dtype)[:, :, None]).flatten(1) for n, v in enumerate(capsules)
        ]
        return self.layers(torch.cat(masked, 1)).unflatten(1, self.shape)


class MLCapsNetLearner(Learner):
    """Trains class capsules of all levels, with a weight of the levels that moves from coarse to fine.

    Arguments:
        network: an `MLCapsNet` with as many levels as `levels` has columns.
        levels: the labels of each class, coarse to fine (K, L); the last level must number the classes 0 … K − 1.
        shape: (channels, height, width) of the images, for the decoder.
        tau: τ, the weight of the summed square error of the drawing.
        adaptive: whether λ moves; else it stays 1 / L.
        decoder: hidden widths of the decoder.
        lr: of Adam.
    """

    network: MLCapsNet
    levels: Tensor
    start: Tensor
    weights: Tensor
    right: Tensor
    seen: Tensor

    def __init__(
        self,
        network: MLCapsNet,
        levels: Sequence[Sequence[int]] | Int64[Tensor, "K L"],
        shape: Sequence[int] = (1, 28, 28),
        tau: float = 0.0005,
        adaptive: bool = True,
        decoder: Sequence[int] = (512, 1024),
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr)
        if not 0 <= tau < 1:
            raise ValueError(f"tau must be in [0, 1), got {tau}.")
        table = as_levels(levels)
        wanted = tuple(int(column.max()) + 1 for column in table.T)
        if network.sizes != wanted:
            raise ValueError(
                f"the levels have {wanted} classes, the network's capsules are for {network.sizes}; build it for these."
            )
        if not torch.equal(table[:, -1], torch.arange(len(table))):
            raise ValueError("the last level must be the class itself, 0 … K − 1 in this order.")
        self.register_buffer("levels", table)
        self.decoder = CapsuleDecoder(network.sizes, network.out_dim, shape, decoder)
        self.margin, self.tau, self.adaptive = MarginLoss(), tau, adaptive
        start = 1 / torch.tensor(network.sizes, dtype=torch.float32)
        self.register_buffer("start", start / start.sum())
        self.register_buffer("weights", self.start.clone() if adaptive else torch.full_like(start, 1 / len(start)))
        self.register_buffer("right", torch.zeros(len(start)))
        self.register_buffer("seen", torch.zeros(()))

    def represent(self, *inputs: Tensor) -> Tensor:
        """The capsules of all levels as one vector."""
        return torch.cat([v.flatten(1) for v in self.network.capsules(*inputs)], 1)

    def predict(self, *inputs: Tensor) -> Tensor:
        """Lengths of the finest level's capsules."""
        return self.network(*inputs)[-1]

    def reconstruct(
        self, x: Float[Tensor, "B C H W"], labels: Int64[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "B C H W"]:
        """The image as the capsules of `labels` draw it; without them, of the longest capsule of each level."""
        capsules = self.network.capsules(x)
        if labels is None:
            labels = torch.stack([lengths(v).argmax(1) for v in capsules], 1)
        return self.decoder(capsules, labels)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        x, labels = batch.inputs[0], self.levels[batch.target]
        capsules = self.network.capsules(x)
        norms = [lengths(v) for v in capsules]
        self._right = torch.stack([(v.argmax(1) == labels[:, n]).float().sum() for n, v in enumerate(norms)]).detach()
        terms = {
            f"level{n}": (1 - self.tau) * self.weights[n] * self.margin(v, labels[:, n]) for n, v in enumerate(norms)
        }
        error = (self.decoder(capsules, labels) - x).square().flatten(1).sum(1)
        return {**terms, "reconstruction": self.tau * error}

    def after_step(self, batch: Batch) -> None:
        """Counts what was right on each level in this epoch."""
        self.right.add_(self._right)
        self.seen.add_(len(batch))

    def on_train_epoch_end(self) -> None:
        """λ ∝ (1 − accuracy) g; it stays where it was when every level was always right."""
        if self.adaptive and float(self.seen):
            self.weights.copy_(level_weights(self.right / self.seen, self.start, self.weights))
        self.right.zero_()
        self.seen.zero_()

    def recipe(self) -> Recipe:
        """Adam, its rate multiplied by 0.95 twenty times over the run."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr or 1e-3)
        return Recipe(optimizer, lambda fraction: 0.95 ** int(20 * fraction))


def level_weights(
    accuracy: Float[Tensor, " L"], start: Float[Tensor, " L"], before: Float[Tensor, " L"]
) -> Float[Tensor, " L"]:
    """λ_n ∝ (1 − accuracy_n) g_n with sum 1; `before` where all accuracies are 1."""
    raw = (1 - accuracy) * start
    return torch.where(raw.sum() > 0, raw / raw.sum().clamp_min(1e-12), before)

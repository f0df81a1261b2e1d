"""Triplet network: one encoder learns from comparisons «x is closer to x⁺ than to x⁻», without a margin to choose.

    d± = ‖f(x) − f(x±)‖₂,   D⁺ = exp(d⁺) / (exp(d⁺) + exp(d⁻)),   L = ‖(D⁺, 1 − D⁺) − (0, 1)‖² = 2 (D⁺)²

Distances are plain, not squared, and embeddings are not normalised. The loss depends on d⁺ − d⁻ only and lies in [0, 2];
its gradient 4 (D⁺)² (1 − D⁺) vanishes at both ends.

E. Hoffer, N. Ailon, Deep metric learning using Triplet network, 2014, arXiv:1412.6622.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.data.batch import Triplets
from ziggurat.data.feeds import TripletFeed
from ziggurat.nn.learner import Learner
from ziggurat.nn.recipe import Recipe, steps

EPSILON = 1e-12  # under the root: the distance of equal points has no gradient otherwise


def euclidean(a: Float[Tensor, "B D"], b: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
    """‖a − b‖₂ row by row, with a finite gradient where the rows are equal."""
    return ((a - b).square().sum(1) + EPSILON).sqrt()


def softmax_ratio_loss(d_pos: Float[Tensor, " B"], d_neg: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """2 (D⁺)², where D⁺ is the softmax of the two distances at the positive: 2 σ(d⁺ − d⁻)²."""
    return 2 * torch.sigmoid(d_pos - d_neg).square()


class SoftmaxRatioTripletLoss(nn.Module):
    """The loss on indexed triplets of one batch of embeddings.

    Shapes: embeddings (N, D), triplets (T, 3) of anchor, positive, negative -> (T,).
    """

    def forward(self, embeddings: Float[Tensor, "N D"], triplets: Int64[Tensor, "T 3"]) -> Float[Tensor, " T"]:
        anchor, positive, negative = (embeddings[triplets[:, i]] for i in range(3))
        return softmax_ratio_loss(euclidean(anchor, positive), euclidean(anchor, negative))


def contrastive_loss(distance: Float[Tensor, " B"], same: Float[Tensor, " B"], margin: float) -> Float[Tensor, " B"]:
    """y d² + (1 − y) max(0, m − d)²: pairs of one class are drawn together, others pushed m apart."""
    return same * distance.square() + (1 - same) * (margin - distance).clamp_min(0).square()


class TripletConvNet(nn.Module):
    """The paper's encoder: four unpadded convolutions of kernels 5, 3, 3, 2; 32 × 32 pixels become one vector without a linear layer.

    Arguments:
        in_channels: of the images.
        widths: of the convolutions; the last one is the embedding's.
        dropout: behind each of the first three.

    Shapes: (B, in_channels, 32, 32) -> (B, widths[-1]). Larger images are averaged over what remains of the plane.
    """

    input = "image"

    def __init__(self, in_channels: int = 3, widths: Sequence[int] = (64, 128, 256, 128), dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for kernel, width in zip((5, 3, 3), widths[:3], strict=True):
            layers += [nn.Conv2d(in_channels, width, kernel), nn.ReLU(), nn.MaxPool2d(2)]
            layers += [nn.Dropout(dropout)] if dropout else []
            in_channels = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(in_channels, widths[3], 2))
        self.num_features = widths[3]

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        if min(x.shape[-2:]) < 32:
            raise ValueError(f"images of {tuple(x.shape[-2:])} are too small for this encoder; pad them to 32 pixels.")
        return self.layers(x).mean((2, 3))


class TripletNetwork(Learner):
    """Trains one encoder on triplets. Anchor, positive and negative go through it in one pass, so batch statistics are shared.

    Arguments:
        network: an encoder; of a `Staged` network the vector before the classifier is the embedding.
        lr: of SGD with momentum 0.9, divided by 10 at half and three quarters of the run.
    """

    score = "linear_probe"

    def __init__(self, network: nn.Module, lr: float | None = None) -> None:
        super().__init__(network, lr)
        if hasattr(network, "reset_classifier"):
            network.reset_classifier(0)

    @property
    def feed(self) -> TripletFeed:
        return TripletFeed()

    def distances(self, batch: Triplets) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """d⁺ and d⁻ of each triplet."""
        assert batch.positive is not None and batch.negative is not None
        together = torch.cat([batch.inputs[0], batch.positive, batch.negative])
        anchor, positive, negative = self.represent(together).chunk(3)
        return euclidean(anchor, positive), euclidean(anchor, negative)

    def losses(self, batch: Triplets) -> dict[str, Tensor]:
        return {"triplet": softmax_ratio_loss(*self.distances(batch))}

    def recipe(self) -> Recipe:
        """SGD; the gradient of this loss is small, so the rate is large (paper: 0.5, decayed)."""
        return Recipe(torch.optim.SGD(self.parameters(), lr=self.lr or 0.5, momentum=0.9), steps(0.5, 0.75))


class SiameseNetwork(TripletNetwork):
    """The rival: the same encoder and images, but pairs with an absolute margin. R. Hadsell, S. Chopra, Y. LeCun, 2006.

    Arguments:
        margin: how far pairs of different classes are pushed apart.
    """

    def __init__(self, network: nn.Module, margin: float = 1.0, lr: float | None = None) -> None:
        super().__init__(network, lr)
        if not margin > 0:
            raise ValueError(f"margin must be positive, got {margin}.")
        self.margin = margin

    def losses(self, batch: Triplets) -> dict[str, Tensor]:
        d_pos, d_neg = self.distances(batch)
        one = torch.ones_like(d_pos)
        loss = contrastive_loss(d_pos, one, self.margin) + contrastive_loss(d_neg, 1 - one, self.margin)
        return {"contrastive": loss / 2}

    def recipe(self) -> Recipe:
        """SGD as above, at the lower rate that this loss takes."""
        return Recipe(torch.optim.SGD(self.parameters(), lr=self.lr or 0.05, momentum=0.9), steps(0.5, 0.75))

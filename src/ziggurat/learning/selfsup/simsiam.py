"""SimSiam: two views of an image, one of them predicted from the other; stopping one side's gradient is what prevents collapse.

    z_i = f(x_i),  p_i = h(z_i),  L = −½ cos(p_1, stopgrad(z_2)) − ½ cos(p_2, stopgrad(z_1))

No negatives and no momentum copy. The smallest loss is −1.

X. Chen, K. He, Exploring Simple Siamese Representation Learning, 2020, arXiv:2011.10566.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from ziggurat.data.batch import Views
from ziggurat.data.feeds import TwoViews
from ziggurat.data.transforms import simsiam_view
from ziggurat.nn.learner import Learner
from ziggurat.nn.mlp import MLPHead
from ziggurat.nn.recipe import Recipe, constant, cosine


def negative_similarity(
    p: Float[Tensor, "B D"], z: Float[Tensor, "B D"], similarity: Literal["cosine", "cross_entropy"] = "cosine"
) -> Float[Tensor, " B"]:
    """−cos(p, z), or the paper's variant −softmax(z) · log softmax(p), one value a sample."""
    if similarity == "cosine":
        return -cosine_similarity(p, z, dim=1)
    return -(z.softmax(1) * p.log_softmax(1)).sum(1)


def feature_spread(z: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """√D times the standard deviation of z / ‖z‖ over the batch, averaged over dimensions: about 1 when healthy, 0 when collapsed."""
    return normalize(z, dim=1).std(0, correction=0).mean() * z.shape[1] ** 0.5


class SimSiam(Learner):
    """Learns a network's features without labels. The switches are the paper's experiments.

    Arguments:
        network: a `Staged` backbone; its classifier is removed.
        image_size, channels: of the images, for the views.
        width: of the projector and of its output (paper: 2048).
        bottleneck: hidden width of the predictor (paper: 512).
        projector_layers: 3, or 2 for CIFAR.
        stop_gradient: False is the collapsing ablation.
        predictor: "mlp", "fixed" (random, not trained) or "none".
        bn: which layers of the heads are normalised: "none", "hidden", "default" or "all" (the predictor's output too).
        similarity: "cosine" or "cross_entropy".
        symmetric: both orders of the two views, or only one.
        blur: whether the views are blurred (not for CIFAR).
        lr: of a batch of 256; it is scaled by batch / 256.
        weight_decay, batch_size: of the recipe.
    """

    score = "knn"

    def __init__(
        self,
        network: nn.Module,
        image_size: int = 32,
        channels: int = 3,
        width: int = 2048,
        bottleneck: int = 512,
        projector_layers: int = 3,
        stop_gradient: bool = True,
        predictor: Literal["mlp", "fixed", "none"] = "mlp",
        bn: Literal["none", "hidden", "default", "all"] = "default",
        similarity: Literal["cosine", "cross_entropy"] = "cosine",
        symmetric: bool = True,
        blur: bool = False,
        lr: float | None = None,
        weight_decay: float = 1e-4,
        batch_size: int = 256,
    ) -> None:
        super().__init__(network, lr)
        for name, value, known in (
            ("predictor", predictor, ("mlp", "fixed", "none")),
            ("bn", bn, ("none", "hidden", "default", "all")),
            ("similarity", similarity, ("cosine", "cross_entropy")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}.")
        network.reset_classifier(0)
        hidden = bn != "none"
        widths = [width] * projector_layers
        output = "affine" if bn == "all" else "plain" if bn == "default" else "none"
        self.projector = MLPHead(network.num_features, widths, norm=hidden, output_norm=output)
        self.predictor: nn.Module = nn.Identity()
        if predictor != "none":
            last = "affine" if bn == "all" else "none"
            self.predictor = MLPHead(width, [bottleneck, width], norm=hidden, output_norm=last, output_bias=True)
            self.predictor.requires_grad_(predictor == "mlp")
        self.stop_gradient, self.similarity, self.symmetric = stop_gradient, similarity, symmetric
        self.image_size, self.channels, self.blur = image_size, channels, blur
        self.weight_decay, self.batch_size = weight_decay, batch_size

    @property
    def feed(self) -> TwoViews:
        return TwoViews(simsiam_view(self.image_size, self.channels, self.blur))

    def losses(self, batch: Views) -> dict[str, Tensor]:
        one, two = (self.projector(self.represent(view)) for view in batch.views)
        p_one, p_two = self.predictor(one), self.predictor(two)
        if self.stop_gradient:
            one, two = one.detach(), two.detach()
        loss = negative_similarity(p_one, two, self.similarity)
        if self.symmetric:
            loss = (loss + negative_similarity(p_two, one, self.similarity)) / 2
        return {"similarity": loss}

    def recipe(self) -> Recipe:
        """SGD with momentum; the encoder's rate follows a cosine, the predictor's stays constant."""
        lr = (0.05 if self.lr is None else self.lr) * self.batch_size / 256
        encoder = [*self.network.parameters(), *self.projector.parameters()]
        groups: list[dict] = [{"params": encoder}]
        schedules = [cosine]
        trained = [p for p in self.predictor.parameters() if p.requires_grad]
        if trained:
            groups.append({"params": trained})
            schedules.append(constant)
        return Recipe(torch.optim.SGD(groups, lr=lr, momentum=0.9, weight_decay=self.weight_decay), schedules)

    @torch.no_grad()
    def monitor(self, *inputs: Tensor) -> Tensor:
        """`feature_spread` of the projections: near 0 says that the representation has collapsed."""
        return feature_spread(self.projector(self.represent(*inputs)))

"""MONet: products of linear branches do the work of activation functions.

Measured on CIFAR-10 (4,000 training and 2,000 test images): patches of 4 pixels, four Poly-blocks of width 48, 6 epochs of AdamW with a
crop and a flip, batch 64. Arms: the network of the paper; the same with every α held at zero, so that only the normalisations bend it;
the same with norm(A x) followed by a GELU in place of the product, inner widths raised to 56 and 184 so that it has no fewer parameters.
Of the rates 2e-3, 4e-3 and 8e-3 each arm has the one that was best on 2,000 validation images of seed 100 (5,000 others to train on). The
specification's 10,000 images and width of 64 take four times as long.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.loading import channel_stats, stratified
from ziggurat.data.transforms import standard_augment
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, exactly, floor
from ziggurat.nn.fitting import fit
from ziggurat.nn.operators.mu_layer import MuLayer
from ziggurat.nn.operators.spatial_shift import SpatialShift
from ziggurat.nn.profile import count_parameters
from ziggurat.vision.backbones.monet import MONet, PolyBlock

TRAIN, TEST, EPOCHS, BATCH, DEPTH, DIM = 4_000, 2_000, 6, 64, 4, 48
RATES = {"monet": 8e-3, "no_product": 8e-3, "gelu": 2e-3}
INNER = (56, 184)
"""Widths of the GELU layers that have the parameters of Mu-layers of 48 and 144."""

published = {5: "ImageNet top-1 77.0 (MONet-T), 81.3 (MONet-S) (table 1)"}
notes = Notes(
    scope="Four blocks on 4,000 small images; the paper trains 34 and 36 blocks on ImageNet for 300 epochs.",
    methodology="Same patches, shifts, shortcuts, images and steps; each arm's best rate; the GELU arm has no fewer parameters.",
    origin="Two and five points are the specification's.",
    easy="A Mu-layer is four linear layers and a product.",
    hard="With the products off the network is not linear: its layer normalisations still divide by what they see.",
)


class GELULayer(nn.Module):
    """What stands in a Mu-layer's place: linear, shift, normalisation, GELU, linear."""

    def __init__(self, dim: int, hidden: int, shift: bool) -> None:
        super().__init__()
        self.first, self.project = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.shift = SpatialShift() if shift else nn.Identity()
        self.norm, self.act = nn.LayerNorm(hidden, eps=1e-6), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.act(self.norm(self.shift(self.first(x)))))


def make(arm: str, classes: int) -> MONet:
    """The network of an arm."""
    network = MONet((DEPTH,), (DIM,), classes)
    for part in network.modules():
        if arm == "no_product" and isinstance(part, MuLayer):
            part.alpha.requires_grad_(False).zero_()
        if arm == "gelu" and isinstance(part, PolyBlock):
            part.mix_places, part.mix_channels = GELULayer(DIM, INNER[0], True), GELULayer(DIM, INNER[1], False)  # type: ignore[assignment]
    return network


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Accuracy and parameters of every arm."""
    train, test = run.data("cifar10", "train"), run.data("cifar10", "test")
    train = train.subset(stratified(train.labels, TRAIN / len(train), seed)[1])
    test = test.subset(stratified(test.labels, TEST / len(test), seed)[1])
    stats = channel_stats(train)
    values: dict[str, float] = {}
    for arm, rate in run.progress(RATES.items(), "arms"):
        torch.manual_seed(seed)
        network = make(arm, len(train.classes))
        learner = Supervised(network, rate)
        fit(learner, feed(train, Labelled(standard_augment(32)), BATCH, seed, stats), epochs=EPOCHS, seed=seed)
        values[arm] = accuracy(learner, test, stats)
        values[f"{arm}_parameters"] = count_parameters(network)
    return values


def measure(run: Run) -> Finding:
    """The network against the one with GELU, and against the one without products."""
    rows = run.each_seed(one_seed)
    return Finding(
        clauses=(
            at_least("MONet − GELU", 100 * (rows["monet"] - rows["gelu"]), -2.0, "points"),
            at_least("MONet − no product", 100 * (rows["monet"] - rows["no_product"]), 5.0, "points"),
            exactly("parameters, MONet / GELU", rows["monet_parameters"] / rows["gelu_parameters"], 1.0, "<="),
        ),
        floors=(floor("GELU", rows["gelu"], 0.33),),
        measurements=rows,
    )

"""Mono-Forward: layers that learn from their own projected cross-entropy match backpropagation, with memory that does not grow with depth.

Measured on Fashion-MNIST (20,000 training images, all 10,000 test images) with the perceptron 784-1000-1000: Mono-Forward against
the same perceptron with backpropagation and an output layer, and against Hinton's Forward-Forward with the label drawn into the
image. Equal epochs (5), batch size (128) and optimiser (Adam); each rule takes its learning rate from {3e-4, 1e-3, 3e-3} by 2,000
validation images. Memory is the peak of the bytes that autograd holds for the backward pass in one training step, at 2, 4 and 8
layers of 1000 units.
"""

from __future__ import annotations

import torch

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.batch import Batch
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.loading import stratified
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, exactly, floor
from ziggurat.nn.fitting import fit
from ziggurat.nn.learner import Learner
from ziggurat.nn.mlp import MLP
from ziggurat.nn.profile import saved_bytes
from ziggurat.nn.recipe import Recipe
from ziggurat.rules.forward_forward import ForwardForward
from ziggurat.rules.mono_forward import MonoForward

RATES = (3e-4, 1e-3, 3e-3)
EPOCHS, BATCH = 5, 128

published: dict[int, str] = {}
notes = Notes(
    scope="Fashion-MNIST with 20,000 training images and one perceptron; the paper adds MNIST, CIFAR-10/100 and convolutional networks.",
    methodology="Equal epochs, batch size and optimiser; each rule's learning rate chosen on the same validation images.",
    origin="Margins of 1 and 2 points and the factors of memory are those of the specification.",
    easy="The rule itself is a few lines; its gradients equal backpropagation for one hidden layer.",
    hard="Measuring memory honestly: the graph of a layer must be freed before the next layer starts.",
)


class Backpropagation(Supervised):
    """The same perceptron end to end, with the optimiser of the others."""

    def recipe(self) -> Recipe:
        return Recipe(torch.optim.Adam(self.parameters(), lr=self.lr or 1e-3))


def make(rule: str, lr: float) -> Learner:
    """A learner of the given rule on the perceptron 784-1000-1000."""
    if rule == "mono_forward":
        return MonoForward(MLP(784, 10, (1000, 1000)), 10, (1, 28, 28), lr=lr)
    if rule == "forward_forward":
        return ForwardForward(784, 10, (1000, 1000), lr=lr)
    return Backpropagation(MLP(784, 10, (1000, 1000)), lr=lr)


def peak_bytes(rule: str, depth: int) -> int:
    """Bytes held for backward in one training step on 128 images, weights not counted."""
    network = MLP(784, 10, (1000,) * depth)
    learner = MonoForward(network, 10, (1, 28, 28)) if rule == "mono_forward" else Backpropagation(network)
    batch = Batch((torch.rand(BATCH, 1, 28, 28),), torch.arange(BATCH) % 10, torch.arange(BATCH))
    with saved_bytes(learner) as meter:
        terms = learner.stream(batch) if isinstance(learner, MonoForward) else learner.losses(batch).items()
        for _, loss in terms:
            loss.mean().backward()
    return meter.peak


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Test accuracy of the three rules at the rate that validation chose, and bytes by depth."""
    train, test = run.data("fashion_mnist", "train"), run.data("fashion_mnist", "test")
    _, rows = stratified(train.labels, 22_000 / 60_000, seed)
    keep, held = stratified(train.labels[rows], 2_000 / 22_000, seed)
    train, valid = train.subset(rows[keep]), train.subset(rows[held])
    values: dict[str, float] = {}
    for rule in ("mono_forward", "backpropagation", "forward_forward"):
        best = (-1.0, 0.0, 0.0)
        for rate in RATES:
            torch.manual_seed(seed)
            learner = fit(make(rule, rate), feed(train, Labelled(), BATCH, seed), epochs=EPOCHS, seed=seed)
            best = max(best, (accuracy(learner, valid), rate, accuracy(learner, test)))
        values[rule], values[f"{rule}_rate"] = best[2], best[1]
    for rule in ("mono_forward", "backpropagation"):
        for depth in (2, 4, 8):
            values[f"{rule}_bytes_{depth}"] = peak_bytes(rule, depth)
    return values


def measure(run: Run) -> Finding:
    """Accuracy against both baselines, and growth of memory from 2 to 8 layers."""
    rows = run.each_seed(one_seed)
    return Finding(
        clauses=(
            at_least(
                "Mono-Forward − backpropagation", 100 * (rows["mono_forward"] - rows["backpropagation"]), -1.0, "points"
            ),
            at_least(
                "Mono-Forward − Forward-Forward", 100 * (rows["mono_forward"] - rows["forward_forward"]), 2.0, "points"
            ),
            exactly(
                "bytes of Mono-Forward, 8 / 2 layers",
                rows["mono_forward_bytes_8"] / rows["mono_forward_bytes_2"],
                1.2,
                "<=",
            ),
            exactly(
                "bytes of backpropagation, 8 / 2 layers",
                rows["backpropagation_bytes_8"] / rows["backpropagation_bytes_2"],
                2.5,
                ">=",
            ),
        ),
        floors=(
            floor("backpropagation", rows["backpropagation"], 0.83),
            floor("Forward-Forward", rows["forward_forward"], 0.70),
        ),
        measurements=rows,
    )

"""Multi-domain networks: shared pointwise and own depthwise filters adapt to new domains with few parameters.

Measured at 24 × 24 pixels: a separable residual network (stem 16, three stages of two units, widths 32, 64 and 128) learns 10,000 images
of CIFAR-10 for 4 epochs; then three domains are added, each to the same base and for 200 steps of 32 images: Fashion-MNIST (2,000 images),
the digits (1,000), and 20 characters of Omniglot (10 drawings each, the other 10 for the test). Arms: own depthwise filters (the paper),
own pointwise filters, own normalisations, own head only, and everything finetuned; all but the head starts from the base. Grey images
have three equal channels. Images are smaller than the entry's 32 pixels, and there are two units a stage, for the time. The rate of each
arm is the one of 1e-3, 3e-3, 1e-2, 3e-2 and 1e-1 with the best mean accuracy on validation images (a fifth of the training images) of seed
100, where the largest is tried only if 3e-2 is the best of the others.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import feed
from ziggurat.data.loading import channel_stats, stratified
from ziggurat.data.seeds import generator
from ziggurat.data.transforms import standard_augment
from ziggurat.learning.multitask.multidomain_depthwise import MultiDomainNet, SeparableResNet
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, exactly, floor
from ziggurat.nn.fitting import fit

BASE, EPOCHS, STEPS, BATCH, SIZE = 10_000, 4, 200, 32, 24
RATES = {"pointwise": 1e-2, "depthwise": 1e-2, "convolutions": 3e-2, "all": 1e-1, "none": 1e-2}
"""What is shared -> rate."""
Part = tuple[Images, Images]

published: dict[int, str] = {}
notes = Notes(
    scope="One base and three small domains; the paper adds nine to ImageNet and scores by the Visual Decathlon.",
    methodology="Every arm starts from the same base network and has equal images and steps on each domain, at its own rate.",
    origin="1.0, 3 and 1.5 points, 15 percent and a quarter are the specification's.",
    easy="Which modules are a domain's own is one test of a module; the five arms are the same class.",
    hard="Statistics of shared normalisations must stand still too, and weight decay must not touch what is shared.",
)


def resized(images: Tensor) -> Tensor:
    """Three channels of 24 × 24 pixels."""
    small = interpolate(images.float(), (SIZE, SIZE), mode="bilinear", antialias=True).clamp(0, 255).round()
    return small.to(torch.uint8).expand(-1, 3, -1, -1).contiguous()


def part(data: Images, count: int, seed: int) -> Images:
    """A stratified part, resized."""
    some = data.subset(stratified(data.labels, count / len(data), seed)[1])
    return Images(resized(some.images), some.labels, some.classes, some.name)


def characters(data: Images, seed: int) -> Part:
    """Twenty characters of Omniglot, ten drawings of each to learn and ten to test."""
    chosen = torch.randperm(len(data.classes), generator=generator(seed, "characters"))[:20]
    order = torch.randperm(20, generator=generator(seed, "drawings"))
    rows = torch.stack([(data.labels == c).nonzero().flatten()[order] for c in chosen.tolist()])
    labels, names = torch.arange(20).repeat_interleave(10), tuple(data.classes[c] for c in chosen.tolist())
    train, test = (resized(data.images[half.flatten()]) for half in (rows[:, :10], rows[:, 10:]))
    return Images(train, labels, names, "omniglot"), Images(test, labels, names, "omniglot")


def domains(run: Run, seed: int) -> dict[str, Part]:
    """Training and test images of the three new domains."""
    digits = run.data("digits")
    rows, held = stratified(digits.labels, 600 / len(digits), seed)
    garments = {split: run.data("fashion_mnist", split) for split in ("train", "test")}
    return {
        "fashion_mnist": (part(garments["train"], 2_000, seed), part(garments["test"], 2_000, seed)),
        "digits": (part(digits.subset(rows), 1_000, seed), part(digits.subset(held), 590, seed)),
        "omniglot": characters(run.data("omniglot", "small1"), seed),
    }


def base_network(run: Run, seed: int) -> SeparableResNet:
    """The network after the base domain."""
    train = part(run.data("cifar10", "train"), BASE, seed)
    torch.manual_seed(seed)
    learner = Supervised(SeparableResNet(10, stem=16, widths=(32, 64, 128), units=2), 3e-3)
    kind = type(learner.feed)(standard_augment(SIZE))  # type: ignore[call-arg]
    fit(learner, feed(train, kind, 64, seed, channel_stats(train)), epochs=EPOCHS, seed=seed)
    return learner.network  # type: ignore[return-value]


def adapt(
    base: SeparableResNet, share: str, name: str, train: Images, test: Images, rate: float, seed: int
) -> tuple[float, int]:
    """Accuracy on a domain that is added to the base, and its own parameters."""
    torch.manual_seed(seed)
    network = MultiDomainNet(base, share)  # type: ignore[arg-type]
    network.add_domain(name, len(train.classes))
    learner, stats = Supervised(network, rate), channel_stats(train)
    fit(learner, feed(train, learner.feed, BATCH, seed, stats, drop_last=True), steps=STEPS, seed=seed)
    return accuracy(learner, test, stats), sum(p.numel() for p in network.trainable_parameters())


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Accuracy on each new domain, their mean, and the mean of the parameters added, for every arm."""
    base, values = base_network(run, seed), {}
    test = part(run.data("cifar10", "test"), 2_000, seed)
    values["base"] = accuracy(Supervised(base), test, channel_stats(test))
    new = domains(run, seed)
    for share, rate in run.progress(RATES.items(), "arms"):
        reached = {name: adapt(base, share, name, *images, rate, seed) for name, images in new.items()}
        values |= {f"{share}_{name}": right for name, (right, _) in reached.items()}
        values[share] = sum(right for right, _ in reached.values()) / len(new)
        values[f"{share}_parameters"] = sum(size for _, size in reached.values()) / len(new)
    return values


def measure(run: Run) -> Finding:
    """Accuracy against parameters."""
    rows = run.each_seed(one_seed)
    own, size = {share: 100 * rows[share] for share in RATES}, {s: rows[f"{s}_parameters"] for s in RATES}
    return Finding(
        clauses=(
            at_least("own depthwise − own normalisation", own["pointwise"] - own["convolutions"], 1.0, "points"),
            at_least("own depthwise − finetuned whole", own["pointwise"] - own["none"], -3.0, "points"),
            at_least("own depthwise − own pointwise", own["pointwise"] - own["depthwise"], -1.5, "points"),
            exactly("parameters, own depthwise / whole", size["pointwise"] / size["none"], 0.15, "<="),
            exactly("parameters, own depthwise / own pointwise", size["pointwise"] / size["depthwise"], 0.25, "<="),
        ),
        floors=(floor("finetuned whole", rows["none"], 0.75), floor("CIFAR-10, base", rows["base"], 0.45)),
        measurements=rows,
    )

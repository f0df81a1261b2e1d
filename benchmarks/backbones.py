"""Backbones against the same architecture of timm or torchvision: inference, one training step, peak memory; outputs compared first.

Runs in an environment that has the peers (extra `peers`): python -m benchmarks.backbones [NAME ...]
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.timing import Times, show
from ziggurat import catalogue
from ziggurat.nn import fuse, macs, saved_bytes


@dataclass(frozen=True)
class Pair:
    """A network of ours and its twin: a library, its name there, and the side of the images."""

    ours: str
    library: str
    theirs: str
    size: int = 224
    with_relu: bool = False
    """Whether the peer must be told to use ReLU (timm builds MobileNet with ReLU6)."""


PAIRS = (
    Pair("resnet50", "torchvision", "resnet50"),
    Pair("vgg16", "torchvision", "vgg16"),
    Pair("mobilenet_v2", "torchvision", "mobilenet_v2"),
    Pair("wide_resnet50_2", "torchvision", "wide_resnet50_2"),
    Pair("resnext50_32x4d", "torchvision", "resnext50_32x4d"),
    Pair("inception_v3", "torchvision", "inception_v3", 299),
    Pair("mobilenet", "timm", "mobilenetv1_100", with_relu=True),
    Pair("xception", "timm", "legacy_xception", 299),
    Pair("inception_v4", "timm", "inception_v4", 299),
    Pair("inception_resnet_v2", "timm", "inception_resnet_v2", 299),
    Pair("resnest50", "timm", "resnest50d"),
    Pair("nasnet_a_large", "timm", "nasnetalarge", 331),
)


def peer(pair: Pair) -> nn.Module:
    """The other library's network with random weights."""
    if pair.library == "timm":
        import timm

        return timm.create_model(pair.theirs, **({"act_layer": nn.ReLU} if pair.with_relu else {}))
    from torchvision import models

    options = {"aux_logits": False, "init_weights": False} if pair.theirs == "inception_v3" else {}
    return models.get_model(pair.theirs, weights=None, **options)


def twins(pair: Pair) -> tuple[nn.Module, nn.Module]:
    """Both networks with the same weights."""
    torch.manual_seed(0)
    theirs, ours = peer(pair), catalogue.build(pair.ours)
    keys = getattr(sys.modules[type(ours).__module__], "KEYS", {})
    made = catalogue.made_by(catalogue.constructor(pair.ours))
    keys = keys or getattr(sys.modules[made.__module__], "KEYS", {})
    ours.load_state_dict(catalogue.translate(theirs.state_dict(), keys), strict=True)
    return ours, theirs


def step(network: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """Forward and backward pass of one batch."""

    def run() -> None:
        network.zero_grad()
        cross_entropy(network(x), y).backward()

    return run


def compare(pair: Pair, repeats: int = 7) -> dict[str, float]:
    """Ratios ours / theirs, by what was measured."""
    ours, theirs = twins(pair)
    ours.eval(), theirs.eval()
    one, eight = torch.rand(1, 3, pair.size, pair.size), torch.rand(8, 3, pair.size, pair.size)
    with torch.inference_mode():
        print(
            f"\n{pair.ours}: differs from {pair.library}'s by {float((ours(one) - theirs(one)).abs().max()):.1e} at most"
        )
    last = fuse(ours).to(memory_format=torch.channels_last)
    flat = one.to(memory_format=torch.channels_last)
    found: dict[str, float] = {}

    def note(name: str, times: list[Times]) -> None:
        for each in times[:-1]:
            found[f"{name}, {each.name}"] = each.median / times[-1].median

    with torch.inference_mode():
        for name, x in (("batch 1", one), ("batch 8", eight)):
            times = show(
                f"{pair.ours}, {name}", {"ours": lambda x=x: ours(x), pair.library: lambda x=x: theirs(x)}, repeats
            )
            note(name, times)
        times = show(
            f"{pair.ours}, batch 1, folded",
            {"folded, channels last": lambda: last(flat), pair.library: lambda: theirs(one)},
            repeats,
        )
        note("batch 1", times)
    multiplications = macs(ours, one)
    print(
        f"  {2e-9 * multiplications / times[0].median:.1f} GFLOP a second of {2e-9 * sgemm():.1f} that sgemm reaches here"
    )
    ours.train(), theirs.train()
    y = torch.arange(4) % 1000
    few = eight[:4]
    note(
        "training step",
        show(
            f"{pair.ours}, training step of 4",
            {"ours": step(ours, few, y), pair.library: step(theirs, few, y)},
            repeats,
        ),
    )
    kept = []
    for network in (ours, theirs):
        with saved_bytes(network) as saved:
            step(network, few, y)()
        kept.append(saved.peak)
    found["bytes kept for backward"] = kept[0] / kept[1]
    print(f"  bytes kept for the backward pass: {kept[0]:,} and {kept[1]:,}")
    return found


def sgemm(side: int = 1024) -> float:
    """Multiply-accumulates a second of a product of two matrices."""
    import time

    a, b = torch.rand(side, side), torch.rand(side, side)
    a @ b
    best = min(_seconds(lambda: a @ b, time.perf_counter) for _ in range(7))
    return side**3 / best


def _seconds(function: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    function()
    return clock() - start


def main(names: Iterable[str] = ()) -> None:
    """Every pair, or those named; a table of ratios at the end."""
    chosen = [pair for pair in PAIRS if not list(names) or pair.ours in names]
    missing = {pair.library for pair in chosen if not importlib.util.find_spec(pair.library)}
    if missing:
        print(f"backbones: {', '.join(sorted(missing))} absent, so there is nothing to compare with (extra `peers`).")
        return
    table = {pair.ours: compare(pair) for pair in chosen}
    print("\nmedian ratios to the peer")
    for name, ratios in table.items():
        print(f"  {name:20} " + "   ".join(f"{what} {ratio:.2f}" for what, ratio in ratios.items()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])

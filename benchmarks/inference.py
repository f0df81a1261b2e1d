"""Folding of batch normalisation and channels-last memory against the network's own eager default."""

from __future__ import annotations

import torch

from benchmarks.timing import show
from ziggurat.nn import fuse
from ziggurat.vision.backbones.resnet import resnet18


def main() -> None:
    """ResNet-18 on one photograph-sized image."""
    network = resnet18().eval()
    fused = fuse(network)
    last = fuse(network).to(memory_format=torch.channels_last)
    x = torch.rand(1, 3, 224, 224)
    y = x.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        print(f"fused differs from eager by {float((fused(x) - network(x)).abs().max()):.1e} at most")
        show(
            "ResNet-18, batch 1",
            {"fused": lambda: fused(x), "fused, channels last": lambda: last(y), "eager": lambda: network(x)},
        )


if __name__ == "__main__":
    main()

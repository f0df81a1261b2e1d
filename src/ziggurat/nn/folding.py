"""Folding batch normalisation into the convolution before it, for inference."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from ziggurat.nn.conv import fuse_conv_norm

Network = TypeVar("Network", bound=nn.Module)


def fuse(network: Network) -> Network:
    """A copy of the network in evaluation mode with every batch normalisation folded into the convolution it follows.

    Where a module registers a `Conv2d` and directly after it a `BatchNorm2d` that takes its channels, the two become one
    convolution; the normalisation becomes an identity. The output is the same up to rounding.
    Modules that hold a convolution and a normalisation in this order but call them otherwise must not be fused: none here does.
    """
    fused = copy.deepcopy(network).eval()
    for parent in fused.modules():
        before: tuple[str, nn.Conv2d] | None = None
        for name, child in list(parent.named_children()):
            if before and isinstance(child, nn.BatchNorm2d) and child.num_features == before[1].out_channels:
                setattr(parent, before[0], fuse_conv_norm(before[1], child))
                setattr(parent, name, nn.Identity())
            before = (name, child) if isinstance(child, nn.Conv2d) else None
    return fused

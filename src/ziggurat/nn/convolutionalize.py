"""A classifier of images of one size, turned into a map of scores for images of any size.

The first fully connected layer over a map of C × h × w is an h × w convolution, every later one a 1×1 convolution; the weights are the
same numbers in another shape.
"""

from __future__ import annotations

import math

from torch import nn


def convolutionalize(network: nn.Module) -> nn.Sequential:
    """The classifier as convolutions that share its weights: images (B, C, H, W) -> scores (B, K, h, w).

    Arguments:
        network: convolutions and poolings, `nn.Flatten`, then linear layers: an `nn.Sequential`, or a sequential `Staged` network whose
            head holds such layers. Average pooling to a fixed size is left out: for images of the training size it changes nothing.
    """
    layers = [m for m in network.modules() if not list(m.children()) and not isinstance(m, nn.Identity)]
    flat = next((i for i, m in enumerate(layers) if isinstance(m, nn.Flatten)), None)
    if flat is None:
        raise ValueError(
            f"{type(network).__name__} has no nn.Flatten in front of its linear layers, so their map is unknown."
        )
    kept: list[nn.Module] = [m for m in layers[:flat] if not isinstance(m, nn.AdaptiveAvgPool2d)]
    channels = next(m.out_channels for m in reversed(kept) if isinstance(m, nn.Conv2d))
    for layer in layers[flat + 1 :]:
        if isinstance(layer, nn.Linear):
            kept.append(_as_convolution(layer, channels))
            channels = layer.out_features
        else:
            kept.append(layer)
    return nn.Sequential(*kept)


def _as_convolution(layer: nn.Linear, channels: int) -> nn.Conv2d:
    """The linear layer over maps of `channels` × side × side."""
    side = math.isqrt(layer.in_features // channels)
    if side * side * channels != layer.in_features:
        raise ValueError(
            f"a linear layer of {layer.in_features} inputs does not stand on a square map of {channels} channels."
        )
    conv = nn.Conv2d(channels, layer.out_features, side, bias=layer.bias is not None, device="meta")
    conv.weight = nn.Parameter(layer.weight.detach().view(layer.out_features, channels, side, side))
    conv.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach())
    return conv

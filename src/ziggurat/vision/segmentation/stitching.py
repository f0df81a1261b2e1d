"""Two ways to a dense output without learned upsampling: shifted inputs whose outputs are interlaced, and filters with holes.

They are equal (section 3.2 of J. Long et al., 2014, arXiv:1411.4038; holes after M. Holschneider et al., 1989).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn


def shift_and_stitch(
    network: Callable[[Tensor], Tensor], x: Float[Tensor, "B C H W"], factor: int
) -> Float[Tensor, "B K h w"]:
    """Outputs of the image shifted left and up by 0 … factor − 1 pixels each way, interlaced.

    Arguments:
        network: of stride `factor`, without padding.
    """
    rows = []
    for dy in range(factor):
        row = [network(x[:, :, dy:, dx:]) for dx in range(factor)]
        width = min(part.shape[3] for part in row)
        rows.append(torch.stack([part[..., :width] for part in row], -1).flatten(3))
    height = min(part.shape[2] for part in rows)
    width = min(part.shape[3] for part in rows)
    return torch.stack([part[:, :, :height, :width] for part in rows], 3).flatten(2, 3)


def with_holes(network: nn.Sequential) -> nn.Sequential:
    """The same layers with stride 1, every later filter spread by the strides left out."""
    spread, layers = 1, []
    for layer in network:
        layer = copy.deepcopy(layer)
        if isinstance(layer, nn.Conv2d):
            stride = int(layer.stride[0])
            layer.dilation, layer.stride = (spread, spread), (1, 1)
            spread *= stride
        elif isinstance(layer, nn.MaxPool2d):
            stride = int(layer.stride)
            layer = nn.MaxPool2d(layer.kernel_size, 1, dilation=spread)
            spread *= stride
        layers.append(layer)
    return nn.Sequential(*layers)

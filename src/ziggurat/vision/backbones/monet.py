"""MONet: a network of images that only adds, multiplies and normalises, and has no activation function.

PolyBlock: x + Mu₁(norm x), with a spatial shift inside Mu₁; then x + Mu₂(norm x), three times as wide inside. Mu-layers are products of
linear branches (`ziggurat.nn.operators.mu_layer`). Both uses of the block's normalisation share one scale and one shift.

Y. Cheng, G. Chrysos, M. Georgopoulos, V. Cevher, Multilinear Operator Networks, 2024, arXiv:2401.17992.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from ziggurat.nn.dropping import DropPath, drop_path_rates
from ziggurat.nn.operators.mu_layer import MuLayer
from ziggurat.nn.staged import Classifier, Staged


class PolyBlock(nn.Module):
    """Two Mu-layers with shortcuts: the first mixes neighbouring places, the second only channels.

    The authors call one normalisation twice. Here the block holds its scale and shift and applies them in two places, so that no
    module runs twice.

    Arguments:
        dim: of the map.
        expansion: of the second Mu-layer's inner width.
        drop_path: probability that a branch of a sample is dropped while training.
        norm: False leaves out every layer normalisation.

    Shapes: (B, dim, H, W) -> (B, dim, H, W).
    """

    def __init__(self, dim: int, expansion: int = 3, drop_path: float = 0.0, norm: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim)) if norm else None
        self.shift = nn.Parameter(torch.zeros(dim)) if norm else None
        self.mix_places = MuLayer(dim, dim, dim, shift=True, norm=norm)
        self.mix_channels = MuLayer(dim, dim * expansion, dim, norm=norm)
        self.drop1, self.drop2 = (DropPath(drop_path) for _ in range(2))

    def normalised(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        """x with mean zero and deviation one over the channels, then the shared scale and shift."""
        return x if self.scale is None else layer_norm(x, x.shape[3:], self.scale, self.shift, 1e-6)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        x = x.permute(0, 2, 3, 1)
        x = x + self.drop1(self.mix_places(self.normalised(x)))
        x = x + self.drop2(self.mix_channels(self.normalised(x)))
        return x.permute(0, 3, 1, 2)


class MONet(Staged):
    """Patches of 4 pixels, and stages of Poly-blocks with a strided 3×3 convolution between them.

    Arguments:
        depths, dims: blocks and width of each stage.
        num_classes: 0 gives features.
        in_channels: of the images.
        expansion: of the inner width of each block's second Mu-layer.
        drop_path: of the last block; it grows linearly from 0.
        norm: False leaves out every layer normalisation; the network is then one polynomial of its input.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 4, 8, 16, 32.
    """

    def __init__(
        self,
        depths: Sequence[int],
        dims: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        expansion: int = 3,
        drop_path: float = 0.0,
        norm: bool = True,
    ) -> None:
        super().__init__()
        if len(depths) != len(dims) or not depths:
            raise ValueError(f"depths and dims must name the same stages, got {tuple(depths)} and {tuple(dims)}.")
        self.stem = nn.Sequential(nn.Conv2d(in_channels, dims[0], 2, 2), nn.Conv2d(dims[0], dims[0], 2, 2))
        rates = iter(drop_path_rates(drop_path, sum(depths)))
        stages, before = [], dims[0]
        for i, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            down = [nn.Conv2d(before, dim, 3, 2, 1)] if i else []
            stages.append(nn.Sequential(*down, *(PolyBlock(dim, expansion, next(rates), norm) for _ in range(depth))))
            before = dim
        self.stages = nn.ModuleList(stages)
        self.channels, self.strides = tuple(dims), tuple(4 * 2**i for i in range(len(dims)))
        self.num_features, self.smallest = dims[-1], 4
        self.head = Classifier(dims[-1], num_classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="linear")
                if part.bias is not None:
                    nn.init.zeros_(part.bias)


monet_t = partial(MONet, (4, 8, 12, 10), (64, 128, 192, 192))
monet_s = partial(MONet, (4, 6, 12, 14), (128, 192, 256, 384))

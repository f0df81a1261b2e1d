"""Hypernetworks: the kernels of a convolutional network come from one small generator and an embedding for each layer.

    a_i = W_i z + B_i,   K_i = W_out a_i + B_out          (slice i of the kernel: input channel i)

All layers share the generator; layer j owns its embedding z_j. The generator makes kernels of 16 × 16 channels; a layer of 16a × 16b is
tiled from a · b of them, each with an embedding of its own.

D. Ha, A. Dai, Q. V. Le, HyperNetworks, 2016, arXiv:1609.09106.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, relu

from ziggurat.nn.conv import init_relu_network
from ziggurat.nn.staged import Staged
from ziggurat.vision.backbones.wide_resnet import PreactHead, blocks_a_stage


class KernelGenerator(nn.Module):
    """Embeddings (…, embedding) -> kernels (…, channels, channels, kernel, kernel).

    Arguments:
        embedding: N_z, and the width d of the middle layer.
        kernel: f, side of the kernels.
        channels: in and out, of the basic kernel.
    """

    def __init__(self, embedding: int = 64, kernel: int = 3, channels: int = 16) -> None:
        super().__init__()
        self.embedding, self.kernel, self.channels = embedding, kernel, channels
        self.weight = nn.Parameter(torch.empty(channels, embedding, embedding))
        self.bias = nn.Parameter(torch.zeros(channels, embedding))
        self.out = nn.Linear(embedding, kernel * kernel * channels)
        nn.init.normal_(self.weight, std=embedding**-0.5)
        # so that kernels of embeddings of unit entries start with the variance of Kaiming's: 2 / (f² · channels)
        nn.init.normal_(self.out.weight, std=(2 / (kernel * kernel * channels * embedding)) ** 0.5)
        nn.init.zeros_(self.out.bias)

    def forward(self, z: Float[Tensor, "*n z"]) -> Float[Tensor, "*n o i f g"]:
        middle = torch.einsum("ide,...e->...id", self.weight, z) + self.bias
        slices = self.out(middle).unflatten(-1, (self.channels, self.kernel, self.kernel))
        return slices.transpose(-4, -3)

    def tiles(self, in_channels: int, out_channels: int) -> tuple[int, int]:
        """(a, b): how many basic kernels make a layer, along its output and its input."""
        if in_channels % self.channels or out_channels % self.channels:
            raise ValueError(
                f"channels must be multiples of the basic {self.channels}, got {in_channels} and {out_channels}."
            )
        return out_channels // self.channels, in_channels // self.channels


def tile(kernels: Float[Tensor, "t o i f f"], rows: int) -> Float[Tensor, "O I f f"]:
    """Basic kernels (rows · columns, …) side by side as one: rows along the output, columns along the input."""
    return kernels.unflatten(0, (rows, -1)).transpose(1, 2).flatten(0, 1).flatten(1, 2)


class HyperConv2d(nn.Module):
    """A convolution whose kernel is generated: `conv(x, z)`.

    Arguments:
        generator: shared with other layers.
        in_channels, out_channels: multiples of the generator's.
        stride: of the convolution; padding keeps the size at stride 1.

    Shapes: x (B, in_channels, H, W), z (a · b, N_z) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, generator: KernelGenerator, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.generator, self.stride = generator, stride
        self.rows, self.columns = generator.tiles(in_channels, out_channels)

    def weight(self, z: Float[Tensor, "t z"]) -> Float[Tensor, "O I f f"]:
        """The kernel of an embedding."""
        if len(z) != self.rows * self.columns:
            raise ValueError(f"this layer is tiled from {self.rows * self.columns} kernels, got {len(z)} embeddings.")
        return tile(self.generator(z), self.rows)

    def forward(self, x: Float[Tensor, "B I H W"], z: Float[Tensor, "t z"]) -> Float[Tensor, "B O h w"]:
        return conv2d(x, self.weight(z), stride=self.stride, padding=self.generator.kernel // 2)


class HyperBlock(nn.Module):
    """A pre-activated residual block whose two 3×3 kernels are given; its normalisations and 1×1 shortcut are ordinary."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.norm1, self.norm2 = nn.BatchNorm2d(in_channels), nn.BatchNorm2d(out_channels)
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        active = relu(self.norm1(x))
        y = conv2d(active, first, stride=self.stride, padding=1)
        y = conv2d(relu(self.norm2(y)), second, padding=1)
        return y + (x if self.shortcut is None else self.shortcut(active))


class HyperResNet(Staged):
    """A wide residual network of 6n + 4 layers with generated 3×3 kernels.

    Arguments:
        depth, width: as of `WideResNet`.
        num_classes: 0 gives features.
        embedding: N_z.
        basic: channels of the basic kernel.

    The kernels of all layers are generated by one call, so the stages need them handed in and cannot be called alone: not sequential.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 1, 2, 4.
    """

    sequential = False

    def __init__(
        self,
        depth: int = 40,
        width: int = 1,
        num_classes: int = 10,
        in_channels: int = 3,
        embedding: int = 64,
        basic: int = 16,
    ) -> None:
        super().__init__()
        count = blocks_a_stage(depth)
        self.stem = nn.Conv2d(in_channels, basic, 3, padding=1, bias=False)
        self.generator = KernelGenerator(embedding, 3, basic)
        self.channels, self.strides = tuple(basic * width * s for s in (1, 2, 4)), (1, 2, 4)
        stages: list[nn.Module] = []
        self.tiling: list[tuple[int, int]] = []
        channels = basic
        for k, out in enumerate(self.channels):
            blocks = nn.ModuleList()
            for i in range(count):
                blocks.append(HyperBlock(channels, out, 2 if k and not i else 1))
                self.tiling += [self.generator.tiles(channels, out), self.generator.tiles(out, out)]
                channels = out
            stages.append(blocks)
        self.stages = nn.ModuleList(stages)
        self.embeddings = nn.Parameter(torch.randn(sum(a * b for a, b in self.tiling), embedding))
        self.num_features = channels
        self.head = PreactHead(channels, num_classes)
        init_relu_network(self)

    def kernels(self) -> list[Tensor]:
        """The kernels of all layers, first to last."""
        made = self.generator(self.embeddings).split([a * b for a, b in self.tiling])
        return [tile(k, a) for k, (a, b) in zip(made, self.tiling, strict=True)]

    def forward_features(self, x: Float[Tensor, "B C H W"]) -> list[Tensor]:
        kernels = iter(self.kernels())
        x = self.stem(x)
        features = []
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                x = block(x, next(kernels), next(kernels))
            features.append(x)
        return features

"""A pyramid from one map: what transformers, whose maps all have one size, give to detectors.

Y. Li, H. Mao, R. Girshick, K. He, Exploring Plain Vision Transformer Backbones for Object Detection, 2022, arXiv:2203.16527.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ziggurat.nn.norms import LayerNorm2d


class SimpleFPN(nn.Module):
    """Levels four times, twice, once and half as large as the last of the maps: two transposed convolutions, one, none, a max pooling.

    Arguments:
        in_channels, in_strides: of the backbone's maps; the stride of the last is a multiple of 4.

    Attributes: `channels` and `strides` of the levels.

    Shapes: list ending in (B, C, h, w) -> [(B, C, 4h, 4w), (B, C, 2h, 2w), (B, C, h, w), (B, C, h // 2, w // 2)].
    """

    def __init__(self, in_channels: Sequence[int], in_strides: Sequence[int]) -> None:
        super().__init__()
        width, stride = in_channels[-1], in_strides[-1]
        if stride % 4:
            raise ValueError(f"the stride of the last map must be a multiple of 4, got {stride}.")

        def up() -> nn.Module:
            return nn.ConvTranspose2d(width, width, 2, 2)

        self.levels = nn.ModuleList(
            [nn.Sequential(up(), LayerNorm2d(width), nn.GELU(), up()), up(), nn.Identity(), nn.MaxPool2d(2)]
        )
        self.channels, self.strides = (width,) * 4, (stride // 4, stride // 2, stride, 2 * stride)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [level(maps[-1]) for level in self.levels]

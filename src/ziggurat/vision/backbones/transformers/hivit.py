"""HiViT and the pyramid of iTPN: units of 4×4 tokens go through two stages of perceptrons, and only then attend to each other.

    stage 1   4×4 tokens a unit, width d / 4    x ← x + MLP(norm(x))
    stage 2   2×2 tokens, width d / 2           merge, then the same
    stage 3   one token, width d                merge, positions, then transformer blocks between units

Nothing crosses units before stage 3, so the units that masked-image modelling hides can simply be left out. The pyramid joins a neck:
u₁₆ = x₁₆ W;  u₈ = MLPs(split(x₁₆) + x₈ W);  u₄ = MLPs(split(u₈) + x₄ W), and one more MLP at each level.

X. Zhang et al., HiViT, 2022, arXiv:2205.14949; Y. Tian, L. Xie, Z. Wang, L. Wei, X. Zhang, J. Jiao, Y. Wang, Q. Tian, Q. Ye, Integrally
Pre-Trained Transformer Pyramid Networks, 2022, arXiv:2211.12735.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad

from ziggurat.nn.dropping import DropPath, drop_path_rates
from ziggurat.nn.masking import take
from ziggurat.nn.patch_merging import PatchMerge, PatchSplit
from ziggurat.nn.positions import resize_positions, sincos_positions
from ziggurat.nn.staged import Classifier, Staged
from ziggurat.nn.transformer import FeedForward, TransformerBlock
from ziggurat.vision.backbones.transformers.vit import init_transformer

EPS, SIDE = 1e-6, 4
"""Of normalisations; tokens along a unit's side in the first stage."""


class Units(NamedTuple):
    """What a stage hands on: the tokens of each unit (B, K, s, s, C), with the units row by row.

    `size` is that of the image in tokens of the first stage; `kept` (B, K) names the units that are there, None: all of them.
    """

    tokens: Float[Tensor, "B K s s C"]
    size: tuple[int, int]
    kept: Int64[Tensor, "B K"] | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of units, a unit that the image covers in part among them."""
        height, width = self.size
        return -(-height // SIDE), -(-width // SIDE)

    @property
    def x(self) -> Float[Tensor, "B C h w"]:
        """All tokens as a map, cut to the image."""
        side = self.tokens.shape[2]
        x = self.tokens.unflatten(1, self.grid).permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        height, width = (-(-length * side // SIDE) for length in self.size)
        return x[:, :, :height, :width]


class UnitEmbed(nn.Module):
    """Small patches as tokens, normalised and grouped into units; the image is padded with zeros to whole units.

    Shapes: (B, in_channels, H, W) -> (B, ceil(H / 4t) · ceil(W / 4t), 4, 4, dim) with t = `token`.
    """

    def __init__(self, in_channels: int, dim: int, token: int) -> None:
        super().__init__()
        self.token = token
        self.proj, self.norm = nn.Conv2d(in_channels, dim, token, token), nn.LayerNorm(dim, eps=EPS)

    def forward(self, x: Float[Tensor, "B C H W"], kept: Int64[Tensor, "B K"] | None = None) -> Units:
        unit, (height, width) = SIDE * self.token, x.shape[-2:]
        x = self.proj(pad(x, (0, -width % unit, 0, -height % unit)))
        units = x.unflatten(3, (-1, SIDE)).unflatten(2, (-1, SIDE)).permute(0, 2, 4, 3, 5, 1).flatten(1, 2)
        units = units if kept is None else take(units, kept)
        return Units(self.norm(units), (-(-height // self.token), -(-width // self.token)), kept)


class MLPBlock(nn.Module):
    """x + MLP(norm(x)) at every token. Shapes: (*, dim) -> (*, dim)."""

    def __init__(self, dim: int, ratio: float, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(dim, eps=EPS), FeedForward(dim, int(dim * ratio))
        self.drop = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        return x + self.drop(self.mlp(self.norm(x)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.mlp.fc1.in_features}, hidden={self.mlp.fc1.out_features})"


class UnitMLP(MLPBlock):
    """The same for `Units`."""

    def forward(self, x: Units) -> Units:  # type: ignore[override]
        return x._replace(tokens=super().forward(x.tokens))


class UnitMerge(PatchMerge):
    """Neighbours within each unit become one token, twice as wide."""

    def forward(self, x: Units) -> Units:  # type: ignore[override]
        return x._replace(tokens=super().forward(x.tokens))


class UnitPositions(nn.Module):
    """Learned positions of the units that start as waves; for another grid they are interpolated."""

    def __init__(self, dim: int, side: int) -> None:
        super().__init__()
        self.grid = (side, side)
        self.positions = nn.Parameter(sincos_positions(side, side, dim)[None])

    def forward(self, x: Units) -> Units:
        positions = resize_positions(self.positions, self.grid, x.grid)
        positions = positions if x.kept is None else take(positions, x.kept)
        return x._replace(tokens=x.tokens + positions[:, :, None, None])


class RelativeBias(nn.Module):
    """A number for each head and each difference of places, added to the scores of attention; it starts at zero.

    Arguments:
        heads: of the attention.
        side: of the grid whose differences are learned; for others they are interpolated.

    Call: a grid (h, w) -> (1, heads, hw, hw).
    """

    def __init__(self, heads: int, side: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(heads, 2 * side - 1, 2 * side - 1))

    def forward(self, grid: tuple[int, int]) -> Float[Tensor, "1 h N N"]:
        table, reach = self.table[None], [2 * length - 1 for length in grid]
        if list(table.shape[2:]) != reach:
            table = interpolate(table, reach, mode="bicubic", align_corners=False)
        rows, columns = (torch.arange(length, device=table.device) for length in grid)
        rows = (rows[:, None] - rows + grid[0] - 1)[:, None, :, None]
        columns = (columns[:, None] - columns + grid[1] - 1)[None, :, None]
        return table[:, :, rows, columns].flatten(4, 5).flatten(2, 3)


class UnitBlock(TransformerBlock):
    """A transformer block between units of one token, with a relative bias if wanted.

    Arguments: as of `TransformerBlock`; `side` of the grid whose differences get a bias, 0 for none.
    """

    def __init__(self, dim: int, heads: int, ratio: float, drop_path: float, side: int) -> None:
        super().__init__(dim, heads, ratio, drop_path, eps=EPS)
        self.bias = RelativeBias(heads, side) if side else None

    def forward(self, x: Units) -> Units:  # type: ignore[override]
        tokens, bias = x.tokens[:, :, 0, 0], None if self.bias is None else self.bias(x.grid)
        if bias is not None and x.kept is not None:
            bias = take(take(bias.movedim(1, 3), x.kept).transpose(1, 2), x.kept).permute(0, 3, 2, 1)
        tokens = tokens + self.drop1(self.attn(self.norm1(tokens), bias))
        tokens = tokens + self.drop2(self.mlp(self.norm2(tokens)))
        return x._replace(tokens=tokens[:, :, None, None])

    def __repr__(self) -> str:
        dim, heads, hidden = self.attn.proj.in_features, self.attn.heads, self.mlp.fc1.out_features
        return f"{type(self).__name__}({dim}, heads={heads}, hidden={hidden}, relative_bias={self.bias is not None})"


class UnitHead(nn.Module):
    """The mean of the units, normalised, and the classifier.

    Shapes: (B, dim, h, w) -> (B, num_classes).
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm, self.classifier = nn.LayerNorm(dim, eps=EPS), Classifier(dim, num_classes, pool="none")

    def reset(self, num_classes: int) -> None:
        """A new classifier."""
        self.classifier.reset(num_classes)

    def forward(self, x: Float[Tensor, "B C h w"], pre_logits: bool = False) -> Tensor:
        return self.classifier(self.norm(x.mean((2, 3))), pre_logits=pre_logits)


class HiViT(Staged):
    """The backbone, and iTPN's form for classification.

    Arguments:
        dim: d, of the third stage, a multiple of 16.
        mlp_depth: perceptrons of each of the first two stages.
        depth, heads: of the third stage.
        num_classes: 0 gives features.
        in_channels: of the images.
        image_size: for whose grid positions are learned; other sizes work, too.
        token: side of the first tokens in pixels; a unit is four times as large.
        drop_path: of the last block.
        relative_bias: in the attention; pre-training goes without.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides t, 2t, 4t with t = `token`, and widths d / 4, d / 2, d.
    """

    def __init__(
        self,
        dim: int = 512,
        mlp_depth: int = 3,
        depth: int = 24,
        heads: int = 8,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: int = 224,
        token: int = 4,
        drop_path: float = 0.0,
        relative_bias: bool = True,
    ) -> None:
        super().__init__()
        if dim % 16:
            raise ValueError(f"dim must be a multiple of 16, got {dim}.")
        rates, side = iter(drop_path_rates(drop_path, 2 * mlp_depth + depth)), -(-image_size // (SIDE * token))
        self.stem = UnitEmbed(in_channels, dim // 4, token)
        first = [UnitMLP(dim // 4, 3.0, next(rates)) for _ in range(mlp_depth)]
        second = [UnitMLP(dim // 2, 3.0, next(rates)) for _ in range(mlp_depth)]
        third = [UnitBlock(dim, heads, 4.0, next(rates), side if relative_bias else 0) for _ in range(depth)]
        self.stages = nn.ModuleList(
            [
                nn.Sequential(*first),
                nn.Sequential(UnitMerge(dim // 4), *second),
                nn.Sequential(UnitMerge(dim // 2), UnitPositions(dim, side), *third),
            ]
        )
        self.channels, self.strides = (dim // 4, dim // 2, dim), (token, 2 * token, 4 * token)
        self.num_features = dim
        self.head = UnitHead(dim, num_classes)
        init_transformer(self)

    def encode(self, x: Float[Tensor, "B C H W"], kept: Int64[Tensor, "B K"] | None = None) -> list[Units]:
        """The units after each stage; with `kept` only these are computed."""
        units, features = self.stem(x, kept), []
        for stage in self.stages:
            units = self.run(stage, units)
            features.append(units)
        return features

    def forward_features(self, x: Float[Tensor, "B C H W"]) -> list[Tensor]:
        self.check_size(x)
        return [units.x for units in self.encode(x)]


class PyramidNeck(nn.Module):
    """From the units of three stages to three levels of one width, finest first; it looks at each unit alone, too.

    Arguments:
        dim: d.
        width: of the levels.
        blocks: perceptrons behind each sum.
    """

    def __init__(self, dim: int, width: int = 256, blocks: int = 2) -> None:
        super().__init__()
        self.lateral16 = nn.Linear(dim, width) if dim != width else nn.Identity()
        self.lateral8, self.lateral4 = nn.Linear(dim // 2, width, bias=False), nn.Linear(dim // 4, width, bias=False)
        self.split8, self.split4 = PatchSplit(dim, width, EPS), PatchSplit(width, width, EPS)
        self.blocks8, self.blocks4 = (nn.Sequential(*(MLPBlock(width, 4.0) for _ in range(blocks))) for _ in range(2))
        self.out = nn.ModuleList(MLPBlock(width, 4.0) for _ in range(3))

    def forward(self, features: list[Units]) -> list[Units]:
        x4, x8, x16 = (units.tokens for units in features)
        u8 = self.blocks8(self.split8(x16) + self.lateral8(x8))
        u4 = self.blocks4(self.split4(u8) + self.lateral4(x4))
        levels = zip(features, self.out, (u4, u8, self.lateral16(x16)), strict=True)
        return [units._replace(tokens=block(u)) for units, block, u in levels]


class LevelsHead(nn.Module):
    """The means of three levels side by side, normalised without learned numbers, and the classifier."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(3 * width, eps=EPS, elementwise_affine=False)
        self.classifier = Classifier(3 * width, num_classes, pool="none")

    def reset(self, num_classes: int) -> None:
        """A new classifier."""
        self.classifier.reset(num_classes)

    def forward(self, levels: list[Tensor], pre_logits: bool = False) -> Tensor:
        means = torch.cat([level.mean((2, 3)) for level in levels[:3]], 1)
        return self.classifier(self.norm(means), pre_logits=pre_logits)


class ITPN(Staged):
    """Backbone and neck as one network, for dense prediction: they are pre-trained together (`IntegralPretraining`).

    Its features are the neck's levels. Its classifier on their means is an addition of ours, which makes it a network as all others;
    the paper classifies with the backbone alone, which is the `HiViT` that was given.

    Arguments:
        backbone: used, not copied.
        width: of the levels.
        num_classes: 0 gives features.
        extra: 1 or 2 adds levels of twice and four times the last stride, by average pooling.

    Shapes: (B, C, H, W) -> (B, num_classes); features of the backbone's strides, each of `width` channels.
    """

    sequential = False

    def __init__(self, backbone: nn.Module, width: int = 256, num_classes: int = 0, extra: int = 0) -> None:
        super().__init__()
        if not isinstance(backbone, HiViT):
            raise ValueError(f"the pyramid stands on the units of a HiViT, and a {type(backbone).__name__} has none.")
        self.stem, self.stages, self.extra = backbone.stem, backbone.stages, extra
        self.neck, self.dim = PyramidNeck(backbone.num_features, width), backbone.num_features
        assert backbone.strides is not None
        self.strides = (*backbone.strides, *(backbone.strides[-1] * 2 ** (i + 1) for i in range(extra)))
        self.channels, self.num_features = (width,) * (3 + extra), 3 * width
        self.head = LevelsHead(width, num_classes)
        init_transformer(self.neck)
        init_transformer(self.head)

    encode = HiViT.encode

    def forward_features(self, x: Float[Tensor, "B C H W"]) -> list[Tensor]:
        self.check_size(x)
        levels = [units.x for units in self.neck(self.encode(x))]
        for _ in range(self.extra):
            levels.append(avg_pool2d(levels[-1], 2, ceil_mode=True, count_include_pad=False))
        return levels

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        return self.head(features, pre_logits=pre_logits)


hivit_base = partial(HiViT, 512, 3, 24, 8)
hivit_large = partial(HiViT, 768, 2, 40, 12)


def itpn_base(num_classes: int = 0, in_channels: int = 3, extra: int = 0) -> ITPN:
    """The pyramid of 24 blocks of width 512."""
    return ITPN(hivit_base(num_classes=0, in_channels=in_channels, relative_bias=False), 256, num_classes, extra)


def itpn_large(num_classes: int = 0, in_channels: int = 3, extra: int = 0) -> ITPN:
    """The pyramid of 40 blocks of width 768."""
    return ITPN(hivit_large(num_classes=0, in_channels=in_channels, relative_bias=False), 256, num_classes, extra)

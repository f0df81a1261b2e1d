"""Parameter-inverted image pyramids: the large model sees the small image, the small model the large one, and they inform each other.

    q ← q + γ₁ · attention(norm(q), norm(f));   q ← q + γ₂ · ConvFFN(norm(q));   γ₁ = γ₂ = 0 at the start

After each group of blocks, neighbours in the pyramid exchange what they know, from the finest pair to the coarsest; each of the two
takes the other's tokens as they were before. Since γ starts at zero, every branch starts as the transformer it was.

X. Zhu, X. Yang, Z. Wang, H. Li, W. Dou, J. Ge, L. Lu, Y. Qiao, J. Dai, Parameter-Inverted Image Pyramid Networks, 2024,
arXiv:2406.04330; Z. Wang et al., … for Visual Perception and Multimodal Understanding, 2025, arXiv:2501.07783.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate

from ziggurat.nn.dropping import DropPath
from ziggurat.nn.norms import LayerNorm2d, LayerScale
from ziggurat.nn.staged import Staged
from ziggurat.nn.transformer import CrossAttention, check_heads
from ziggurat.vision.backbones.transformers.vit import (
    EPS,
    ClassTokenViT,
    MeanHead,
    Tokens,
    ViT,
    blocks_of,
    class_token_vit_base,
    class_token_vit_large,
    class_token_vit_small,
    class_token_vit_tiny,
    init_transformer,
    vit_base,
    vit_large,
    vit_small,
    vit_tiny,
)

Kind = Literal["plain", "deformable"]


class Pyramid(NamedTuple):
    """Tokens of all branches, from the largest model (on the smallest image) to the smallest; `.x` is the map of the largest image."""

    branches: tuple[Tokens, ...]

    @property
    def x(self) -> Tensor:
        return self.branches[-1].x


def as_tokens(x: Float[Tensor, "B D h w"]) -> Float[Tensor, "B N D"]:
    """A map as tokens, row by row."""
    return x.flatten(2).transpose(1, 2)


class PlainAttention(CrossAttention):
    """Every place of one map asks every place of another.

    Shapes: (B, dim, h, w), (B, dim, h', w') -> (B, dim, h, w).
    """

    def forward(self, x: Float[Tensor, "B D h w"], other: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D h w"]:  # type: ignore[override]
        return super().forward(as_tokens(x), as_tokens(other)).transpose(1, 2).view_as(x)


class DeformableAttention(nn.Module):
    """Every place of one map looks at a few points of another, near its own place; where, and how much each counts, it says itself.

    Points start in a star around the place, a step of one pixel apart, and count equally.

    Arguments:
        dim: of both maps.
        heads, points: points are chosen for each head.
        ratio: of the width of the values to `dim`.

    Shapes: (B, dim, h, w), (B, dim, h', w') -> (B, dim, h, w).
    X. Zhu et al., Deformable DETR, 2020, arXiv:2010.04159.
    """

    def __init__(self, dim: int, heads: int = 16, points: int = 4, ratio: float = 0.5) -> None:
        super().__init__()
        inner = int(dim * ratio)
        check_heads(inner, heads)
        self.heads, self.points = heads, points
        self.offsets, self.weights = nn.Linear(dim, heads * points * 2), nn.Linear(dim, heads * points)
        self.value, self.proj = nn.Conv2d(dim, inner, 1), nn.Linear(inner, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The star of points."""
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.value, self.proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        ray = torch.stack([angle.cos(), angle.sin()], 1)
        ray = ray / ray.abs().amax(1, keepdim=True)
        star = ray[:, None] * torch.arange(1, self.points + 1)[:, None]
        with torch.no_grad():
            self.offsets.bias.copy_(star.flatten())

    def forward(self, x: Float[Tensor, "B D h w"], other: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D h w"]:
        (batch, _, height, width), size = x.shape, other.shape[-2:]
        tokens = as_tokens(x)
        values = self.value(other).unflatten(1, (self.heads, -1)).flatten(0, 1)
        rows = (torch.arange(height, device=x.device, dtype=x.dtype) + 0.5) / height
        columns = (torch.arange(width, device=x.device, dtype=x.dtype) + 0.5) / width
        here = torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width)], 2).view(1, -1, 1, 1, 2)
        steps = self.offsets(tokens).view(batch, -1, self.heads, self.points, 2)
        places = 2 * (here + steps / steps.new_tensor([size[1], size[0]])) - 1  # grid_sample counts from −1 to 1
        seen = grid_sample(values, places.transpose(1, 2).flatten(0, 1), align_corners=False)
        share = self.weights(tokens).view(batch, -1, self.heads, self.points).softmax(3)
        mixed = (seen * share.transpose(1, 2).flatten(0, 1)[:, None]).sum(3)
        return self.proj(as_tokens(mixed.view(batch, -1, height, width))).transpose(1, 2).view_as(x)


class ConvFFN(nn.Sequential):
    """Linear to a quarter of the width, depthwise 3×3, GELU, linear back. Shapes: (B, dim, h, w) -> (B, dim, h, w)."""

    def __init__(self, dim: int, ratio: float = 0.25) -> None:
        hidden = int(dim * ratio)
        filter_ = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        super().__init__(nn.Conv2d(dim, hidden, 1), filter_, nn.GELU(), nn.Conv2d(hidden, dim, 1))


class InteractionInjector(nn.Module):
    """A map takes in another one of the same width, by attention and a convolutional feed-forward layer; it starts as the identity.

    Arguments:
        dim: of both maps.
        heads: of the attention.
        attention: "plain", or "deformable" with four points a head and values of half the width.
        drop_path: of the feed-forward branch.

    Shapes: query (B, dim, h, w), other (B, dim, h', w') -> (B, dim, h, w).
    """

    def __init__(self, dim: int, heads: int = 16, attention: Kind = "plain", drop_path: float = 0.0) -> None:
        super().__init__()
        if attention not in ("plain", "deformable"):
            raise ValueError(f"attention must be 'plain' or 'deformable', got {attention!r}.")
        self.norm_query, self.norm_other, self.norm = (LayerNorm2d(dim, eps=EPS) for _ in range(3))
        self.attn = PlainAttention(dim, heads) if attention == "plain" else DeformableAttention(dim, heads)
        self.ffn, self.drop = ConvFFN(dim), DropPath(drop_path)
        self.gamma1, self.gamma2 = LayerScale(dim, 0.0), LayerScale(dim, 0.0)

    def forward(self, query: Float[Tensor, "B D h w"], other: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D h w"]:
        query = query + self.gamma1(self.attn(self.norm_query(query), self.norm_other(other)))
        return query + self.gamma2(self.drop(self.ffn(self.norm(query))))


class BidirectionalInteraction(nn.Module):
    """Two maps inform each other, each through a projection to its width; both read what the other was before.

    Arguments:
        large, small: widths of the larger and of the smaller model.
        heads, attention, drop_path: of the injectors.

    Shapes: (B, large, h, w), (B, small, H, W) -> the same two.
    """

    def __init__(
        self, large: int, small: int, heads: int = 16, attention: Kind = "plain", drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.to_small, self.to_large = nn.Conv2d(large, small, 1), nn.Conv2d(small, large, 1)
        self.into_large = InteractionInjector(large, heads, attention, drop_path)
        self.into_small = InteractionInjector(small, heads, attention, drop_path)

    def forward(
        self, x1: Float[Tensor, "B D h w"], x2: Float[Tensor, "B E H W"]
    ) -> tuple[Float[Tensor, "B D h w"], Float[Tensor, "B E H W"]]:
        for_small, for_large = self.to_small(x1), self.to_large(x2)
        return self.into_large(x1, for_large), self.into_small(x2, for_small)


class PyramidStem(nn.Module):
    """The image at several sizes, each cut into patches by its branch.

    Arguments:
        stems: of the branches, largest model first.
        sizes: sides of the images that they see when the input is as large as the last; other inputs are scaled alike, and rounded to
            whole patches.
    """

    def __init__(self, stems: Sequence[nn.Module], sizes: Sequence[int]) -> None:
        super().__init__()
        self.stems, self.scales = nn.ModuleList(stems), tuple(size / sizes[-1] for size in sizes)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Pyramid:
        tokens = []
        for stem, scale in zip(self.stems, self.scales, strict=True):
            patch = stem.patch
            size = [max(patch, round(side * scale / patch) * patch) for side in x.shape[-2:]]  # type: ignore[operator, call-overload]
            tokens.append(stem(x if scale == 1 else interpolate(x, size, mode="bilinear", align_corners=False)))
        return Pyramid(tuple(tokens))


class InteractionGroup(nn.Module):
    """Some blocks of each branch, then the exchange of neighbours. Tokens without a place, such as a class token, take no part in it.

    Arguments:
        blocks: of each branch.
        units: `BidirectionalInteraction` of branches 1 and 2, 2 and 3, …
    """

    def __init__(self, blocks: Sequence[nn.Sequential], units: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks, self.units = nn.ModuleList(blocks), nn.ModuleList(units)

    def forward(self, x: Pyramid) -> Pyramid:
        tokens = [blocks(branch) for blocks, branch in zip(self.blocks, x.branches, strict=True)]
        maps = [branch.x for branch in tokens]
        for i in reversed(range(len(self.units))):
            maps[i], maps[i + 1] = self.units[i](maps[i], maps[i + 1])
        return Pyramid(tuple(branch.with_map(one) for branch, one in zip(tokens, maps, strict=True)))


class MergeBranches(nn.Module):
    """Σ_i w_i · upsample(norm(proj(norm(x_i)))) at the size of the largest image; the largest model's map is only normalised.

    Shapes: the branches' maps -> (B, max(dims), h, w).
    """

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()

        def norm(dim: int) -> nn.Module:
            return nn.GroupNorm(math.gcd(32, dim), dim)

        widest = max(dims)
        branches = [nn.Sequential(norm(dim), nn.Conv2d(dim, widest, 1), norm(widest)) for dim in dims]
        branches[dims.index(widest)] = norm(widest)  # type: ignore[call-overload]
        self.branches, self.weights = nn.ModuleList(branches), nn.Parameter(torch.ones(len(dims)))

    def forward(self, x: Pyramid) -> Float[Tensor, "B D h w"]:
        grid, total = x.branches[-1].grid, []
        for branch, tokens in zip(self.branches, x.branches, strict=True):
            total.append(interpolate(branch(tokens.x), grid, mode="bilinear", align_corners=False))
        return torch.einsum("n,nbchw->bchw", self.weights, torch.stack(total))


class Finest(nn.Module):
    """The map of the last branch: what is to merge where there is one branch."""

    def forward(self, x: Pyramid) -> Float[Tensor, "B D h w"]:
        return x.x


def make_groups(
    branches: Sequence[ViT | ClassTokenViT],
    interactions: int,
    heads: int,
    attention: Kind,
    drop_path: float,
    last: bool,
) -> list[nn.Module]:
    """The blocks of all branches in `interactions` groups, with an exchange behind each (behind the last one if `last`)."""
    dims, blocks = [branch.num_features for branch in branches], [blocks_of(branch) for branch in branches]
    if wrong := [len(own) for own in blocks if len(own) % interactions]:
        raise ValueError(f"{wrong[0]} blocks cannot be cut into {interactions} equal groups; choose a common divisor.")
    groups = []
    for i in range(interactions):
        own = [nn.Sequential(*b[i * len(b) // interactions : (i + 1) * len(b) // interactions]) for b in blocks]
        pairs = list(pairwise(dims)) if last or i < interactions - 1 else []
        units = [BidirectionalInteraction(*pair, heads, attention, drop_path) for pair in pairs]
        for unit in units:
            init_transformer(unit)
            for part in unit.modules():
                if isinstance(part, DeformableAttention):
                    part.reset_parameters()
        groups.append(InteractionGroup(own, units))
    return groups


def check_sizes(branches: Sequence[nn.Module], sizes: Sequence[int]) -> None:
    """A `ValueError` where branches and image sizes do not fit together."""
    if len(branches) != len(sizes) or list(sizes) != sorted(sizes) or not sizes:
        raise ValueError(f"{len(branches)} branches need as many image sizes, from small to large; got {tuple(sizes)}.")


class PIIP(Staged):
    """The pyramid with one merged map, for dense prediction and for classification by the mean of its places.

    It has one stage, whose feature is that map: it stands at the stride of the patches of the largest image.

    Arguments:
        branches: `ViT`s, pretrained or not; they are used, not copied. Widths that fall are the paper; rising ones make the ordinary
            pyramid, with the large model on the large image.
        sizes: sides of their images, smallest first; the input is the last, and is scaled down for the others.
        num_classes: 0 gives features.
        interactions: N, of groups of blocks.
        heads, attention, drop_path: of the injectors.

    Shapes: (B, C, H, W) -> (B, num_classes); features [(B, width of the largest model, ceil(H / patch), ceil(W / patch))].
    """

    def __init__(
        self,
        branches: Sequence[nn.Module],
        sizes: Sequence[int],
        num_classes: int = 1000,
        interactions: int = 12,
        heads: int = 16,
        attention: Kind = "plain",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(branches, sizes)
        self.stem = PyramidStem([branch.stem for branch in branches], sizes)  # type: ignore[misc]
        groups = make_groups(branches, interactions, heads, attention, drop_path, last=True)  # type: ignore[arg-type]
        dims: list[int] = [branch.num_features for branch in branches]  # type: ignore[misc]
        merge = MergeBranches(dims) if len(dims) > 1 else Finest()
        init_transformer(merge)
        self.stages = nn.ModuleList([nn.Sequential(*groups, merge)])
        self.channels, self.strides, self.num_features = (max(dims),), (self.stem.stems[-1].patch,), max(dims)  # type: ignore[assignment]
        self.head = MeanHead(max(dims), num_classes)


class PIIPClassifier(nn.Module):
    """The pyramid of pretrained transformers with class tokens: each keeps its head, and the logits are the mean of theirs.

    A class token takes part in the attention of its own branch only, and its head reads that token. So an exchange behind the last
    group would reach no head, and there is none.

    Arguments: as of `PIIP`, with `ClassTokenViT`s and their classifiers.

    Shapes: (B, C, H, W) -> (B, num_classes).
    """

    def __init__(
        self,
        branches: Sequence[nn.Module],
        sizes: Sequence[int],
        interactions: int = 12,
        heads: int = 16,
        attention: Kind = "plain",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(branches, sizes)
        self.stem = PyramidStem([branch.stem for branch in branches], sizes)  # type: ignore[misc]
        groups = make_groups(branches, interactions, heads, attention, drop_path, last=False)  # type: ignore[arg-type]
        self.groups = nn.Sequential(*groups)
        self.heads = nn.ModuleList(branch.head for branch in branches)  # type: ignore[misc]

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        branches = self.groups(self.stem(x)).branches
        return torch.stack([head(own) for head, own in zip(self.heads, branches, strict=True)]).mean(0)


def piip_tsb(num_classes: int = 1000, in_channels: int = 3, attention: Kind = "plain") -> PIIPClassifier:
    """Tiny, small and base at 368, 192 and 128 pixels, for classification; published weights have deformable attention."""
    makes = (class_token_vit_base, class_token_vit_small, class_token_vit_tiny)
    branches = [make(num_classes=num_classes, in_channels=in_channels) for make in makes]
    return PIIPClassifier(branches, (128, 192, 368), attention=attention, drop_path=0.4)


def piip_sbl(num_classes: int = 1000, in_channels: int = 3, attention: Kind = "plain") -> PIIPClassifier:
    """Small, base and large at 384, 192 and 128 pixels, for classification."""
    makes = (class_token_vit_large, class_token_vit_base, class_token_vit_small)
    branches = [make(num_classes=num_classes, in_channels=in_channels) for make in makes]
    return PIIPClassifier(branches, (128, 192, 384), attention=attention, drop_path=0.4)


def piip_tsb_dense(num_classes: int = 1000, in_channels: int = 3, attention: Kind = "plain") -> PIIP:
    """Tiny, small and base at 1120, 896 and 448 pixels, merged: for detection."""
    branches = [make(num_classes=0, in_channels=in_channels) for make in (vit_base, vit_small, vit_tiny)]
    return PIIP(branches, (448, 896, 1120), num_classes, attention=attention, drop_path=0.4)


def piip_sbl_dense(num_classes: int = 1000, in_channels: int = 3, attention: Kind = "plain") -> PIIP:
    """Small, base and large at 1120, 672 and 448 pixels, merged: for detection."""
    branches = [make(num_classes=0, in_channels=in_channels) for make in (vit_large, vit_base, vit_small)]
    return PIIP(branches, (448, 672, 1120), num_classes, attention=attention, drop_path=0.4)

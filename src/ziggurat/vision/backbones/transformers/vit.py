"""Vision transformers: an image is cut into patches, and the patches are the words of a plain transformer.

    x₀ = patches · E + positions,   x ← x + attention(norm(x)),   x ← x + MLP(norm(x))

Two classes differ in what is classified. `ViT` averages the normalised tokens: its stages give maps, as a `Staged` network's must.
`ClassTokenViT` reads an additional token that travels with the patches (the original). That token is part of no map, so its head
cannot be computed from features, and the class is no `Staged` network.

A. Dosovitskiy et al., An Image is Worth 16x16 Words, 2020, arXiv:2010.11929; the sizes tiny and small: H. Touvron et al., 2020,
arXiv:2012.12877.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from ziggurat.nn.dropping import drop_path_rates
from ziggurat.nn.positions import resize_positions
from ziggurat.nn.staged import Classifier, Staged
from ziggurat.nn.transformer import PatchEmbed, TransformerBlock

KEYS = {
    r"^(cls_token|pos_embed|patch_embed)": r"stem.\1",
    r"^norm\.": "head.norm.",
    r"^head\.(weight|bias)$": r"head.fc.\1",
}
"""timm's names of transformers with a class token, and ours."""
EPS = 1e-6


class Tokens(NamedTuple):
    """What a stage hands on: tokens (B, N, D) row by row, tokens without a place in front of them, and the grid (h, w) of the others."""

    tokens: Tensor
    grid: tuple[int, int]

    @property
    def x(self) -> Float[Tensor, "B D h w"]:
        """The tokens that have a place, as a map."""
        height, width = self.grid
        return self.tokens[:, self.tokens.shape[1] - height * width :].transpose(1, 2).unflatten(2, self.grid)

    def with_map(self, x: Float[Tensor, "B D h w"]) -> Tokens:
        """The same with another map."""
        prefix = self.tokens.shape[1] - self.grid[0] * self.grid[1]
        return self._replace(tokens=torch.cat([self.tokens[:, :prefix], x.flatten(2).transpose(1, 2)], 1))


class TokenStem(nn.Module):
    """Patches with learned positions, and a class token in front of them if wanted.

    Arguments:
        patch: side; an image is padded with zeros below and to the right to a multiple of it.
        image_size: for whose grid the positions are learned; for other grids they are interpolated.

    Shapes: (B, in_channels, H, W) -> tokens (B, ceil(H / patch) · ceil(W / patch), dim), one more with a class token.
    """

    def __init__(self, patch: int, in_channels: int, dim: int, image_size: int, class_token: bool = False) -> None:
        super().__init__()
        side = -(-image_size // patch)
        self.patch, self.grid = patch, (side, side)
        self.patch_embed = PatchEmbed(patch, in_channels, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if class_token else None
        self.pos_embed = nn.Parameter(torch.zeros(1, int(class_token) + side * side, dim))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Tokens:
        height, width = x.shape[-2:]
        x = pad(x, (0, -width % self.patch, 0, -height % self.patch))
        grid, prefix = (-(-height // self.patch), -(-width // self.patch)), int(self.cls_token is not None)
        tokens = self.patch_embed(x)
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1)
        return Tokens(tokens + resize_positions(self.pos_embed, self.grid, grid, prefix), grid)


class TokenBlock(TransformerBlock):
    """A transformer block on `Tokens`."""

    def forward(self, x: Tokens) -> Tokens:  # type: ignore[override]
        return x._replace(tokens=super().forward(x.tokens))

    def __repr__(self) -> str:
        dim, heads, hidden = self.attn.proj.in_features, self.attn.heads, self.mlp.fc1.out_features
        return f"{type(self).__name__}({dim}, heads={heads}, hidden={hidden}, drop_path={self.drop1.p:g})"


class MeanHead(nn.Module):
    """Normalised places of a map, their mean, and the classifier.

    Shapes: (B, dim, h, w) -> (B, num_classes).
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm, self.classifier = nn.LayerNorm(dim, eps=EPS), Classifier(dim, num_classes, pool="none")

    def reset(self, num_classes: int) -> None:
        """A new classifier."""
        self.classifier.reset(num_classes)

    def forward(self, x: Float[Tensor, "B D h w"], pre_logits: bool = False) -> Tensor:
        return self.classifier(self.norm(x.flatten(2).transpose(1, 2)).mean(1), pre_logits=pre_logits)


class ClassTokenHead(nn.Module):
    """The first token, normalised, and the classifier.

    Shapes: tokens (B, N, dim) -> (B, num_classes).
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.fc = nn.Linear(dim, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tokens) -> Float[Tensor, "B K"]:
        return self.fc(self.norm(x.tokens[:, 0]))


def init_transformer(module: nn.Module) -> None:
    """Xavier's uniform linear layers (the original's; about the 0.02 of others at width 768), convolutions by fan-in, zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
        elif isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=part.weight[0].numel() ** -0.5)
        if isinstance(part, nn.Linear | nn.Conv2d) and part.bias is not None:
            nn.init.zeros_(part.bias)


def make_blocks(dim: int, depth: int, heads: int, ratio: float, drop_path: float) -> list[nn.Module]:
    """Blocks whose branches are dropped more often the deeper they stand."""
    return [TokenBlock(dim, heads, ratio, rate, eps=EPS) for rate in drop_path_rates(drop_path, depth)]


class ViT(Staged):
    """The transformer whose tokens are averaged; four stages of equally many blocks, all at the stride of the patches.

    Arguments:
        dim, depth, heads: width, blocks, heads of the attention.
        num_classes: 0 gives features.
        in_channels: of the images.
        patch: side of the patches.
        image_size: for whose grid positions are learned; other sizes work, too.
        ratio: of the hidden width of a block's MLP to `dim`.
        drop_path: of the last block.
        num_stages: how many features it gives; a divisor of `depth`.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features (B, dim, ceil(H / patch), ceil(W / patch)).
    """

    def __init__(
        self,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        num_classes: int = 1000,
        in_channels: int = 3,
        patch: int = 16,
        image_size: int = 224,
        ratio: float = 4.0,
        drop_path: float = 0.0,
        num_stages: int = 4,
    ) -> None:
        super().__init__()
        if depth % num_stages:
            raise ValueError(f"{depth} blocks cannot be shared among {num_stages} stages; choose a divisor of {depth}.")
        blocks, each = make_blocks(dim, depth, heads, ratio, drop_path), depth // num_stages
        self.stem = TokenStem(patch, in_channels, dim, image_size)
        self.stages = nn.ModuleList(nn.Sequential(*blocks[i : i + each]) for i in range(0, depth, each))
        self.channels, self.strides, self.num_features = (dim,) * num_stages, (patch,) * num_stages, dim
        self.head = MeanHead(dim, num_classes)
        init_transformer(self)

    def forward_features(self, x: Float[Tensor, "B C H W"]) -> list[Tensor]:
        self.check_size(x)
        tokens, features = self.stem(x), []
        for stage in self.stages:
            tokens = self.run(stage, tokens)
            features.append(tokens.x)
        return features


class ClassTokenViT(nn.Module):
    """The original transformer, which classifies by a token of its own. Public weights of timm load by `KEYS`.

    Arguments: as of `ViT`.

    Shapes: (B, in_channels, H, W) -> (B, num_classes).
    """

    def __init__(
        self,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        num_classes: int = 1000,
        in_channels: int = 3,
        patch: int = 16,
        image_size: int = 224,
        ratio: float = 4.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.stem = TokenStem(patch, in_channels, dim, image_size, class_token=True)
        self.blocks = nn.Sequential(*make_blocks(dim, depth, heads, ratio, drop_path))
        self.head, self.num_features = ClassTokenHead(dim, num_classes), dim
        init_transformer(self)
        nn.init.normal_(self.stem.cls_token, std=1e-6)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        return self.head(self.blocks(self.stem(x)))


def blocks_of(network: ViT | ClassTokenViT) -> list[nn.Module]:
    """All blocks, first to last."""
    if isinstance(network, ClassTokenViT):
        return list(network.blocks)
    return [block for stage in network.stages for block in stage]  # type: ignore[attr-defined]


vit_tiny = partial(ViT, 192, 12, 3)
vit_small = partial(ViT, 384, 12, 6)
vit_base = partial(ViT, 768, 12, 12)
vit_large = partial(ViT, 1024, 24, 16)
class_token_vit_tiny = partial(ClassTokenViT, 192, 12, 3)
class_token_vit_small = partial(ClassTokenViT, 384, 12, 6)
class_token_vit_base = partial(ClassTokenViT, 768, 12, 12)
class_token_vit_large = partial(ClassTokenViT, 1024, 24, 16)

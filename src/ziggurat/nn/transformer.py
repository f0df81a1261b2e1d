"""The parts of transformers: patches, attention, feed-forward layers, and the block that they make."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ziggurat.nn.conv import Activation
from ziggurat.nn.dropping import DropPath
from ziggurat.nn.norms import LayerScale


class PatchEmbed(nn.Module):
    """Patches of an image as tokens, row by row: a convolution whose stride is its kernel.

    Shapes: (B, in_channels, H, W) -> (B, H/patch · W/patch, dim); both sides must be multiples of `patch`.
    """

    def __init__(self, patch: int, in_channels: int, dim: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(in_channels, dim, patch, patch)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N D"]:
        height, width = x.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"an image of {height}×{width} cannot be cut into patches of {self.patch} pixels; resize or pad it."
            )
        return self.proj(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head attention of tokens to themselves: softmax(q kᵀ / √d) v in each head, then a projection.

    Arguments:
        dim: of the tokens, a multiple of `heads`.
        bias: of the three projections that make q, k and v.

    Shapes: (B, N, dim) -> (B, N, dim).
    """

    def __init__(self, dim: int, heads: int, bias: bool = True) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=bias), nn.Linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "B N D"], bias: Float[Tensor, "#B #h N N"] | None = None
    ) -> Float[Tensor, "B N D"]:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(y.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Multi-head attention of tokens to others; both sides may have widths of their own.

    Arguments:
        dim: of the tokens that ask, and of the result.
        other: of the tokens that answer; None: as wide.
        inner: width of q, k and v over all heads; None: `dim`.

    Shapes: (B, N, dim), (B, M, other) -> (B, N, dim).
    """

    def __init__(self, dim: int, heads: int, other: int | None = None, inner: int | None = None) -> None:
        super().__init__()
        inner = inner or dim
        check_heads(inner, heads)
        self.heads = heads
        self.q, self.kv = nn.Linear(dim, inner), nn.Linear(other or dim, 2 * inner)
        self.proj = nn.Linear(inner, dim)

    def forward(self, x: Float[Tensor, "B N D"], other: Float[Tensor, "B M E"]) -> Float[Tensor, "B N D"]:
        q = self.q(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(other).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def check_heads(dim: int, heads: int) -> None:
    """A `ValueError` where a width cannot be shared among the heads."""
    if dim % heads:
        raise ValueError(f"{dim} channels cannot be shared among {heads} heads; choose a divisor of {dim}.")


class FeedForward(nn.Sequential):
    """Linear, activation, linear at every token. Parameters are named `fc1` and `fc2`.

    Shapes: (B, N, dim) -> (B, N, dim).
    """

    def __init__(self, dim: int, hidden: int, act: Activation = nn.GELU) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), act(), nn.Linear(hidden, dim)


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)): the pre-norm block of vision transformers.

    Arguments:
        dim, heads: of the attention.
        ratio: of the hidden width of the feed-forward layers to `dim`.
        drop_path: probability that a branch of a sample is dropped while training.
        layer_scale: where each branch's learned scale starts; None leaves the scales out.
        eps: of both layer normalisations.

    Shapes: (B, N, dim) -> (B, N, dim).
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps=eps) for _ in range(2))
        self.attn, self.mlp = Attention(dim, heads), FeedForward(dim, int(dim * ratio))
        self.scale1, self.scale2 = (
            nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale, axis=-1) for _ in range(2)
        )
        self.drop1, self.drop2 = (DropPath(drop_path) for _ in range(2))

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        x = x + self.drop1(self.scale1(self.attn(self.norm1(x))))
        return x + self.drop2(self.scale2(self.mlp(self.norm2(x))))

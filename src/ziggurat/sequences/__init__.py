"""Networks of sequences, trees, sets and tables."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "AttentionSeq2Seq": ".seq2seq",
        "MiniLM": ".minilm",
        "CooccurrenceShards": ".swivel",
        "PointerNetwork": ".pointer_network",
        "Swivel": ".swivel",
        "cooccurrence": ".swivel",
        "embed_texts": ".minilm",
    },
)

"""Networks searched, generated, grown, pruned, sliced, predicted."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "ArchitectureEncoder": ".retrieval.encoder",
        "ArchitectureIndex": ".retrieval.encoder",
        "HyperConv2d": ".hypernetworks",
        "HyperLSTM": ".hyper_lstm",
        "HyperLSTMCell": ".hyper_lstm",
        "HyperResNet": ".hypernetworks",
        "KernelGenerator": ".hypernetworks",
        "computation_graph": ".retrieval.tracing",
        "find_motifs": ".retrieval.motifs",
    },
)

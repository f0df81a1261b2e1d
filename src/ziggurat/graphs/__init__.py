"""Networks and embeddings of graphs."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "DeepWalk": ".embeddings.deepwalk",
        "FastRP": ".embeddings.fastrp",
        "GAT": ".baselines",
        "GCN": ".baselines",
        "GIN": ".baselines",
        "SGC": ".convolutions.sgc",
        "SGCClassifier": ".convolutions.sgc",
        "SGConv": ".convolutions.sgc",
        "gcn_norm": ".propagation",
        "hop_stack": ".propagation",
        "propagate": ".propagation",
    },
)

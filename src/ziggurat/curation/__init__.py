"""Which data a network learns from: filtered, ordered, pruned, labelled with help."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "InfoBatchSampler": ".seta",
        "RandomPruningSampler": ".seta",
        "SeTaSampler": ".seta",
    },
)

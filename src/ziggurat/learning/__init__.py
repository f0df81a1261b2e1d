"""How a network learns with backpropagation: supervised, self-supervised, metric, few-shot, and the probes that judge features."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "SimSiam": ".selfsup.simsiam",
        "SiameseNetwork": ".metric.triplet_network",
        "Supervised": ".supervised",
        "TripletNetwork": ".metric.triplet_network",
    },
)

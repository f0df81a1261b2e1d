"""Prototypes that stand for parts of training images: networks whose decisions are sums of resemblances to them."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "ProtoPNet": ".protopnet",
        "ProtoPNetLearner": ".protopnet_training",
        "explain": ".protopnet",
        "prune": ".protopnet_training",
        "push": ".protopnet_training",
        "train_last_layer": ".protopnet_training",
        "train_protopnet": ".protopnet_training",
    },
)

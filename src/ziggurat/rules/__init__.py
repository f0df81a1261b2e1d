"""Learning rules: weights updated without plain backpropagation through the whole network."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "ForwardForward": ".forward_forward",
        "LocalLearner": ".local",
        "MonoForward": ".mono_forward",
        "MonoForwardBlock": ".mono_forward",
    },
)

"""What can be said of networks without training them."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "DeepNTK": ".wide_deep_optimal",
        "InfiniteDepthClassifier": ".wide_deep_optimal",
        "SingularKernelClassifier": ".wide_deep_optimal",
        "optimal_activation": ".wide_deep_optimal",
    },
)

"""Each paper's central claim as an experiment that anyone can run again, and the machinery that measures and judges it."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Notes": ".notes",
        "Run": ".run",
        "measure": ".measuring",
    },
)

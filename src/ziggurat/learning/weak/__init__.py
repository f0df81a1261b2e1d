"""Learners from labels that may be wrong, coarse or missing."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "FoPro": ".fopro",
        "RelationModule": ".fopro",
        "keep_first": ".correction",
        "relabel_first": ".correction",
    },
)

"""Measures that torchmetrics does not have, and the verdict over an experiment."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Clause": ".finding",
        "Finding": ".finding",
        "Floor": ".finding",
        "at_least": ".finding",
        "at_most": ".finding",
        "busy": ".load",
        "effective_rank": ".representation",
        "exactly": ".finding",
        "floor": ".finding",
        "seconds_at_most": ".finding",
        "straddles": ".finding",
        "verdict": ".finding",
    },
)

"""Measures that torchmetrics does not have, and the verdict over an experiment."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Clause": ".finding",
        "Finding": ".finding",
        "Floor": ".finding",
        "FrechetDistance": ".frechet",
        "KernelDistance": ".frechet",
        "at_least": ".finding",
        "at_most": ".finding",
        "busy": ".load",
        "demographic_disparity": ".fairness",
        "disparate_impact": ".fairness",
        "effective_rank": ".representation",
        "exactly": ".finding",
        "floor": ".finding",
        "frechet_distance": ".frechet",
        "kernel_distance": ".frechet",
        "seconds_at_most": ".finding",
        "straddles": ".finding",
        "verdict": ".finding",
        "verify": ".verification",
    },
)

"""The verbs as Python: compare, train, evaluate, embed, export; budgets and checkpoints."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Artifact": ".artifact",
        "Budget": ".budget",
        "Comparison": ".comparing",
        "load_artifact": ".artifact",
        "parse_budget": ".budget",
        "parse_method": ".methods",
        "run_comparison": ".comparing",
    },
)

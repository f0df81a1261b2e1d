"""Contracts of networks and learners, and the layers, losses and small training parts that more than one method uses."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Classifier": ".staged",
        "ConvNormAct": ".conv",
        "Learner": ".learner",
        "MLP": ".mlp",
        "MLPHead": ".mlp",
        "Recipe": ".recipe",
        "SavedBytes": ".profile",
        "Staged": ".staged",
        "ZeroPadShortcut": ".conv",
        "constant": ".recipe",
        "cosine": ".recipe",
        "count_parameters": ".profile",
        "fit": ".fitting",
        "fuse": ".folding",
        "macs": ".profile",
        "make_divisible": ".conv",
        "saved_bytes": ".profile",
        "steps": ".recipe",
        "walk": ".staged",
        "warmup_cosine": ".recipe",
    },
)

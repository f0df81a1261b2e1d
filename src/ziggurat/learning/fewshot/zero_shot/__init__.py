"""Classes without one example, recognised by what is known of them: the taxonomy of Fu et al., Recent Advances in Zero-shot Recognition."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "CalibratedStacking": ".calibrated",
        "ConSE": ".conse",
        "DAP": ".attributes",
        "DeViSE": ".devise",
        "ESZSL": ".eszsl",
        "IAP": ".attributes",
        "SemanticRidge": ".ridge",
        "VisualRidge": ".ridge",
        "generalised": ".measures",
        "hubness": ".measures",
        "per_class_accuracy": ".measures",
        "propagated_scores": ".transductive",
        "self_trained_prototypes": ".transductive",
    },
)

"""What a network has learned: maps, prototypes and parts that explain its decisions."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "class_model_visualisation": ".saliency",
        "deconvnet_map": ".saliency",
        "influence_receptive_field": ".influence",
        "jacobian_influence": ".influence",
        "saliency_map": ".saliency",
        "saliency_segmentation": ".segmentation",
        "total_influence": ".influence",
    },
)

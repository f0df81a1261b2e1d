"""What a network has learned: maps, prototypes and parts that explain its decisions."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "SimilarityVisualizer": ".similarity_maps",
        "class_model_visualisation": ".saliency",
        "deconvnet_map": ".saliency",
        "fid_sensitivity_map": ".fid_classes",
        "influence_receptive_field": ".influence",
        "jacobian_influence": ".influence",
        "match_histogram": ".fid_classes",
        "region_search": ".similarity_maps",
        "resample_to_match": ".fid_classes",
        "saliency_map": ".saliency",
        "saliency_segmentation": ".segmentation",
        "similarity_map": ".similarity_maps",
        "top_n_features": ".fid_classes",
        "total_influence": ".influence",
    },
)

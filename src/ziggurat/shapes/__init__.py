"""Points, voxels, meshes: networks of shapes and their operators."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "FeaturePropagation": ".pointnet2",
        "PointNet2": ".pointnet2",
        "PointNet2Segmentation": ".pointnet2",
        "SetAbstraction": ".pointnet2",
        "ball_query": ".ops",
        "farthest_point_sample": ".ops",
        "interpolate3": ".ops",
        "knn": ".ops",
    },
)

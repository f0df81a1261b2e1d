"""Samples: data sets, batches, and the feeds between them."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Batch": ".batch",
        "Boxes": ".datasets",
        "Episode": ".batch",
        "Episodes": ".feeds",
        "GraphBatch": ".batch",
        "Images": ".datasets",
        "Labelled": ".feeds",
        "Loader": ".feeds",
        "Segments": ".datasets",
        "Table": ".datasets",
        "Taxonomy": ".datasets",
        "TripletFeed": ".feeds",
        "Triplets": ".batch",
        "TwoViews": ".feeds",
        "Views": ".batch",
        "WholeGraph": ".feeds",
        "ManyGraphs": ".feeds",
        "channel_stats": ".loading",
        "derive": ".seeds",
        "feed": ".feeds",
        "generator": ".seeds",
        "load": ".loading",
        "names": ".loading",
        "splits": ".loading",
    },
)

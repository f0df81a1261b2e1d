"""Stores, indexes, filters and votes: where embeddings are kept and found again. It takes any encoder and imports none."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "ExactIndex": ".indexes",
        "HNSWIndex": ".indexes",
        "Hits": ".memory",
        "LanceStore": ".stores",
        "Memory": ".memory",
        "MemoryPruner": ".visual_memory",
        "SuperPostfilterIndex": ".filtered.window_search",
        "Vamana": ".filtered.inner",
        "VisualMemory": ".visual_memory",
        "WindowSearchTree": ".filtered.window_search",
        "load_index": ".indexes",
        "parse": ".where",
    },
)

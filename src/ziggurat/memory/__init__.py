"""Stores, indexes, filters and votes: where embeddings are kept and found again. It takes any encoder and imports none."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Acorn1Index": ".filtered.acorn",
        "AcornIndex": ".filtered.acorn",
        "Between": ".filtered.filters",
        "Contains": ".filtered.filters",
        "Equals": ".filtered.filters",
        "ExactIndex": ".indexes",
        "FilteredANNBenchmark": ".filtered.filtered_ann_benchmark",
        "FilteredVamana": ".filtered.filtered_vamana",
        "GraphIndex": ".graph_index",
        "HNSWIndex": ".hnsw_index",
        "Hits": ".memory",
        "LanceStore": ".lance",
        "Memory": ".memory",
        "MemoryPruner": ".visual_memory",
        "PostFilter": ".filtered.strategies",
        "PostgresStore": ".postgres",
        "PreFilter": ".filtered.strategies",
        "SegmentGraph": ".filtered.segment_graph",
        "SuperPostfilterIndex": ".filtered.window_search",
        "Vamana": ".filtered.inner",
        "VisualMemory": ".visual_memory",
        "WindowFilter": ".filtered.strategies",
        "WindowSearchTree": ".filtered.window_search",
        "load_index": ".kinds",
        "open_store": ".opening",
        "parse": ".where",
    },
)

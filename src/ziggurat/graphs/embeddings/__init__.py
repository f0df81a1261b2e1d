"""Embeddings of nodes: estimators that are fitted to one graph."""

"""Embeddings in the Poincaré ball, and how well embedded distances keep those of a graph."""

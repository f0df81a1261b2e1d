"""Architectures as graphs: their motifs, their embeddings, and a search for similar ones."""

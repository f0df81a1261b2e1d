"""Autoencoders of graphs: embeddings of nodes from which the links can be read."""

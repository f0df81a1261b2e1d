"""Graphs that join samples by how much alike they are, and networks on them."""

"""Graphs of several kinds of nodes, and the paths through them."""

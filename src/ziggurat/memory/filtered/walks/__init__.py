"""Kernels of graphs that are walked through allowed nodes only."""

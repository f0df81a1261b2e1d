"""Kernels of graphs whose edges exist for some windows."""

"""Operators of single papers that attach to any network: attention over positions, pyramids, dynamic kernels, products, quantisers."""

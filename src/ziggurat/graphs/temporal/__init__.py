"""Spatial-temporal graph networks: forecasts of signals that move along a graph. Inputs (B, T, N, F), outputs (B, T_out, N, F)."""

"""Pooling: graphs that become smaller from layer to layer."""

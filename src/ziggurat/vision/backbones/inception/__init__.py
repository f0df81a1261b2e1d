"""Inception-v3 and v4, and Inception-ResNet."""

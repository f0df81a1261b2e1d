"""Experiments of the family dense."""

"""Experiments of this family, one paper a file."""

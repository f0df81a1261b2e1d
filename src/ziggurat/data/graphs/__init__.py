"""Graphs as data: reading and drawing them, complexes, paths, attacks, and what is hidden of them."""

"""Networks of graphs whose edges have a direction."""

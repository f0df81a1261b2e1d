"""Networks that tell which nodes of a graph are linked."""

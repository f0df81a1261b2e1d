"""Networks that take patches of a graph as tokens."""

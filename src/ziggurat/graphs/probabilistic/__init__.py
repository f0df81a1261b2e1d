"""Networks of graphs that are probability distributions."""

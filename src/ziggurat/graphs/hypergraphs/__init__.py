"""Networks of hypergraphs, whose edges join any number of nodes."""

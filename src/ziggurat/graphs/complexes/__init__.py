"""Networks of cell complexes: nodes, edges, faces and what bounds what."""

"""Search under filters: indexes of ranges of a label, and the graphs that they are made of."""

"""Networks of graphs that grow over time: interactions in their order, and states that they change."""

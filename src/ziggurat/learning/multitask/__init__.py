"""One network for several domains or tasks."""

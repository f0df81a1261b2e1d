"""architect."""

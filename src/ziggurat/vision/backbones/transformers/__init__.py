"""Vision transformers: plain, hierarchical, and pyramids of them."""

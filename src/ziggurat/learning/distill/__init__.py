"""Networks that learn from another network's answers."""

"""Self-supervised learners."""

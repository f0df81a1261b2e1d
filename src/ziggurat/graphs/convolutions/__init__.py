"""Graph convolutions: one operator, one file."""

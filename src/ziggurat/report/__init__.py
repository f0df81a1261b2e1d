"""The ledger and comparisons as pages."""

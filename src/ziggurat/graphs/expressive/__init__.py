"""Networks that tell more graphs apart than colour refinement does."""

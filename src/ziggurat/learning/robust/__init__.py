"""Learners that withstand poisoned data."""

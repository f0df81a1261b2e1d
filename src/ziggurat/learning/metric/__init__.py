"""Learners of distances."""

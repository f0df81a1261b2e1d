"""Learners from a few examples a class."""

"""Detectors and their parts: anchors, assignment, suppression, pooling of boxes."""

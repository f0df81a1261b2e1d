"""Fingerprints: vectors of fixed length that say which substructures a molecule has."""

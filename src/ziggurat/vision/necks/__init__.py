"""Necks: what turns a backbone's maps into maps for a detector or a segmenter."""

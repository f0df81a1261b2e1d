"""Backbones: networks whose stages give features of images."""

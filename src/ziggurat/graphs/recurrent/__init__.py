"""Recurrent graph networks: one map with shared weights, applied again and again."""

"""Grids of exact activation patches, from one conversation into another."""

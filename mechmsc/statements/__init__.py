"""Labelled statements for concept directions: published formats and sets of our own, as one pandas frame."""

"""Edits on activations: add, ablate, clamp, replace; the scoped context that applies them; what the model does then."""

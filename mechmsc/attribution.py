"""Attribution patching: the gradient approximation of a grid of patches."""

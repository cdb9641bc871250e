"""Figures: pure functions of tables of numbers. Nothing here touches a model or global matplotlib state."""

from typing import Any

__all__ = ["patch_grid"]


def __getattr__(name: str) -> Any:
    """Load a public name at first use; drawing needs packages that importing should not."""
    if name not in __all__:
        raise AttributeError(f"module 'mechmsc.figures' has no attribute {name!r}")
    from mechmsc.figures import patching

    return getattr(patching, name)

"""Grids of exact activation patches, from one conversation into another.

Two runs differ in their text; one activation of the *source* run is written into the *destination* run, and the outcome
is read again. Where the outcome moves from the destination's towards the source's, that activation carries what makes
the difference (Meng et al. 2022, arXiv:2202.05262; Heimersheim & Nanda 2024, arXiv:2404.15255).

- **denoise**: the source is the clean run, the destination the corrupted one; a large effect means: enough to restore.
- **noise**: the source is the corrupted run, the destination the clean one; a large effect means: needed.

The effect is patched - destination in both; `patching_effect` also divides its mean by the mean gap source -
destination.
"""

from mechmsc.patching.effects import patching_effect
from mechmsc.patching.patch import patch_grid
from mechmsc.patching.runs import patch_run
from mechmsc.patching.wanted import outcome

__all__ = ["outcome", "patch_grid", "patch_run", "patching_effect"]

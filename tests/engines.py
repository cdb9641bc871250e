"""Which engines the installed TransformerLens has, for tests that are about them."""

from importlib.metadata import version

import pytest

HAS_HOOKED = int(version("transformer_lens").partition(".")[0]) < 4
ENGINES = ("hooked", "bridge") if HAS_HOOKED else ("bridge",)

hooked_only = pytest.mark.skipif(not HAS_HOOKED, reason="about HookedTransformer, which TransformerLens 4 has not")
both_engines = pytest.mark.skipif(not HAS_HOOKED, reason="compares two engines; TransformerLens 4 has one")

"""How long work reports where it stands."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called as (done, total) while long work goes on; total may grow where it becomes known on the way."""

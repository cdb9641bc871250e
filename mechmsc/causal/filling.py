"""Grids that take long are filled part by part, and kept on their way: the same call goes on where it was stopped."""

from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mechmsc.progress import bar
from mechmsc.runs.effects import read_begun, write_begun
from mechmsc.runs.folder import Folder

if TYPE_CHECKING:
    import xarray

SECONDS = 20.0
"""Between two writings of what is there: a kill loses at most so much work, an error or Ctrl-C a part."""


class Part(NamedTuple):
    """A piece of work."""

    at: Any
    """Where it is on the two axes that count what is done."""
    compute: Callable[[], None]
    """Fills its place in the grid, and may count in the grid's attributes."""


class Kept:
    """Where a grid on its way is kept: RUN/effects/NAME.begun.nc, until the effect itself is written."""

    def __init__(self, folder: Folder, name: str, settings: Mapping[str, Any]) -> None:
        self.folder, self.name, self.settings = folder, name, settings
        self.written = monotonic()

    def restore(self, found: "xarray.Dataset", done: NDArray[np.bool_]) -> None:
        """Take over what an interrupted call with the same settings had; else leave both as they are."""
        before = read_begun(self.folder, self.name, self.settings)
        if before is None or any(before[dim].values.tolist() != found[dim].values.tolist() for dim in found.dims):
            return  # or the run has grown since
        done[:] = before["done"].values.astype(bool)
        for name in found.data_vars:
            found[name].values[:] = before[name].values
        found.attrs |= {name: int(count) for name, count in before.attrs.items()}

    def keep(self, found: "xarray.Dataset", done: NDArray[np.bool_], counts: Mapping[str, int], *, now: bool) -> None:
        """Write what is there, if the last writing was long ago or `now`."""
        if now or monotonic() - self.written >= SECONDS:
            grid = found.assign(done=(("done_0", "done_1"), done.astype(np.int8))).assign_attrs(counts)
            write_begun(self.folder, self.name, grid, self.settings)
            self.written = monotonic()


def fill(
    found: "xarray.Dataset",
    parts: Iterable[Part],
    axes: tuple[str, str],
    *,
    text: str,
    show: bool,
    total: int,
    kept: Kept | None = None,
) -> None:
    """Compute the parts that are not done.

    Args:
        found: the grid, filled in place; its attributes are the counts of the work, whole numbers.
        parts: of the work.
        axes: dimensions of `found` that tell what is done.
        text: what is counted, for the bar.
        show: whether to show the bar.
        total: places on the two axes that all parts cover.
        kept: where the grid is kept on its way; None: nowhere.
    """
    done = np.zeros([found.sizes[axis] for axis in axes], dtype=bool)
    if kept is not None:
        kept.restore(found, done)
    counts = dict(found.attrs)
    with bar(text, total, show=show, done=int(done.sum())) as advance:
        try:
            for part in parts:
                missing = int((~done[part.at]).sum())
                if not missing:
                    continue
                part.compute()
                done[part.at], counts = True, dict(found.attrs)
                advance(missing)
                if kept is not None:
                    kept.keep(found, done, counts, now=False)
        except BaseException:
            if kept is not None and done.any():
                kept.keep(found, done, counts, now=True)
            raise

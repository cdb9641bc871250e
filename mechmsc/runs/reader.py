"""Read a run, finished or not, as pandas and xarray."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechmsc.errors import InputError, nearest
from mechmsc.runs import arrays, manifest, tables
from mechmsc.runs.asked import read_items
from mechmsc.runs.folder import Folder
from mechmsc.tasks import Item
from mechmsc.transcripts import Transcript

if TYPE_CHECKING:
    import pandas
    import xarray


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder. Tables are read at first use and kept; open the run again to see what was committed since."""

    path: str | Path
    """Path of the folder, or its URL as text where it is remote."""
    manifest: Mapping[str, Any]
    """run.json: schema_version, status, config, model, versions, seeds, plan, arrays."""
    folder: Folder
    """The files."""

    @property
    def status(self) -> str:
        """`running` or `complete`."""
        return self.manifest["status"]

    @cached_property
    def items(self) -> list[Item]:
        """The questions as they were asked, with the metadata that measures need."""
        return read_items(self.folder)

    @cached_property
    def transcripts(self) -> "pandas.DataFrame":
        """A row per (item_id, arm, round), in the order of items, arms and rounds."""
        return tables.read(self.folder, self.manifest, "transcripts").to_pandas()

    @cached_property
    def samples(self) -> "pandas.DataFrame":
        """A row per (item_id, arm, round, sample); no rows where no samples were asked for."""
        return tables.read(self.folder, self.manifest, "samples").to_pandas()

    @cached_property
    def activations(self) -> "xarray.Dataset":
        """A variable per site, dims (item, arm, round, ...), read from disk where used; nan where there is nothing."""
        return arrays.open_dataset(self.folder)

    @property
    def measures(self) -> "pandas.DataFrame | None":
        """measures.parquet, or None before the run was measured."""
        return tables.read_file(self.folder, "measures")

    @property
    def summaries(self) -> "pandas.DataFrame | None":
        """summaries.parquet, or None before the run was measured."""
        return tables.read_file(self.folder, "summaries")

    def transcript(self, item: Any, *, arm: str, round: int) -> Transcript:
        """The conversation up to the prompt of a round, ready for the model's response.

        Args:
            item: an Item or its item_id.
            arm: the arm's text.
            round: from 1.

        Raises:
            InputError: the run has no such conversation or round.
        """
        rows, item_id = self.transcripts, getattr(item, "item_id", item)
        for column, value in (("item_id", item_id), ("arm", arm), ("round", round)):
            found = rows[rows[column] == value]
            if found.empty:
                known = sorted({str(name) for name in rows[column]})[:20]
                raise InputError(f"{self.path} has no {column} {value!r} here, {nearest(str(value), known)}")
            rows = found
        row = rows.iloc[0]
        ids = [row[name].tolist() for name in ("prompt_ids", "response_ids")]
        image = row["image"] if isinstance(row.get("image"), str) else None
        whole = Transcript.from_row(ids[0], ids[1], row["spans"], item_id=item_id, arm=arm, image=image)
        return whole.up_to(round)


def open_run(path: str | Path) -> Run:
    """Open a run folder; one that is still being written shows what is committed.

    Args:
        path: local path or fsspec URL.

    Raises:
        InputError: there is no run at `path`.
        RunError: run.json is damaged or newer than this mechmsc.
    """
    folder = Folder.of(path)
    data = folder.read(manifest.NAME) if folder.exists() else None
    if data is None:
        state = "holds no run.json" if folder.exists() else "does not exist"
        raise InputError(f"{folder.path} {state}: expected a run folder, as `mechmsc run --out` makes")
    place = Path(folder.path) if folder.local else folder.path
    return Run(path=place, manifest=manifest.parse(data, f"{folder.path}/{manifest.NAME}"), folder=folder)

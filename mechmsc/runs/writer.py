"""Write a run: make or resume its folder, commit batch by batch, finish.

A batch is done when its part of the transcripts is there: arrays go first (their chunks belong to the batch alone, so
writing them again does no harm), then the part of the samples, then that of the transcripts, each by a rename.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechmsc.errors import InputError
from mechmsc.runs import arrays as run_arrays
from mechmsc.runs import lock, manifest, tables
from mechmsc.runs.arrays import ArraySpec
from mechmsc.runs.asked import write_items
from mechmsc.runs.folder import Folder
from mechmsc.runs.reader import Run, open_run
from mechmsc.tasks import Item

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Writer:
    """The open end of a run; `create` makes it and holds the folder's lock."""

    folder: Folder
    """Where the run is."""
    manifest: Mapping[str, Any]
    """run.json as it was when the folder was opened."""

    def pending(self) -> Iterator[dict[str, Any]]:
        """The batches of the plan that are not committed, in the order of the plan."""
        done = self._done()
        yield from (entry for entry in self.manifest["plan"] if entry["batch"] not in done)

    def commit(
        self,
        batch: Mapping[str, Any],
        *,
        transcripts: "Sequence[Mapping[str, Any]] | pandas.DataFrame",
        samples: "Sequence[Mapping[str, Any]] | pandas.DataFrame | None" = None,
        activations: Mapping[str, Any] | None = None,
    ) -> None:
        """Add one batch to the run, wholly or not at all.

        Args:
            batch: its entry of the plan.
            transcripts: a row for each (item_id, arm, round) that took place; columns `tables.TABLES`.
            samples: a row for each (item_id, arm, round, sample); None where none were asked for.
            activations: site -> float32 [row of the batch, round, ...], rows as in the plan, nan where absent.

        Raises:
            InputError: the batch is not pending, or what is given does not fit it; nothing is written.
            RunError: the disk is full or refuses; the batch stays pending.
        """
        entry = next((entry for entry in self.manifest["plan"] if entry["batch"] == batch["batch"]), None)
        if entry is None or entry["batch"] in self._done():
            state = "is not in the plan" if entry is None else "is committed already"
            raise InputError(f"batch {batch['batch']} of {self.folder.path} {state}: commit what pending() gives")
        rounds, values = self.manifest["config"]["rounds"], activations or {}
        run_arrays.check_batch(values, self.manifest, entry)
        parts = {"transcripts": tables.encode(transcripts, "transcripts", entry=entry, rounds=rounds)}
        if samples is not None:
            parts["samples"] = tables.encode(samples, "samples", entry=entry, rounds=rounds)
        run_arrays.write(self.folder, self.manifest, entry, values)
        for table in sorted(parts):  # the part of the transcripts comes last: it says that the batch is done
            self.folder.write(f"{tables.file(table)}/{tables.part(entry['batch'])}", parts[table])

    def finish(self) -> Run:
        """Turn the parts into one file a table and mark the run complete. Killed anywhere, it is done by the next call.

        Raises:
            InputError: batches are pending; RunError: the disk is full or refuses.
        """
        pending = [entry["batch"] for entry in self.pending()]
        if pending:
            raise InputError(
                f"{self.folder.path} cannot be finished: {len(pending)} batches pending, first {pending[0]}"
            )
        if self.manifest["status"] != "complete":
            for table in ("samples", "transcripts"):  # transcripts last: while they are in parts, so the samples may be
                tables.merge(self.folder, self.manifest, table)
            self.folder.write(manifest.NAME, manifest.dump({**self.manifest, "status": "complete"}))
        for table in tables.TABLES:
            self.folder.remove(tables.moved(table))
        return open_run(self.folder.path)

    def _done(self) -> set[int]:
        return tables.committed(self.folder, self.manifest)


@contextlib.contextmanager
def create(
    out: str | Path,
    *,
    config: Mapping[str, Any],
    model: Mapping[str, Any],
    versions: Mapping[str, Any],
    seeds: Mapping[str, Any],
    plan: Sequence[Mapping[str, Any]],
    arrays: Mapping[str, ArraySpec],
    items: Sequence[Item] = (),
) -> Iterator[Writer]:
    """Make a run folder, or resume the run that is in it, and hold it for writing until the block ends.

    Args:
        out: local path or fsspec URL.
        config: what was asked for, plain JSON, with `rounds`, `arms` (texts, in the order of tables) and, where their
            order is not that of the plan, `item_ids`.
        model: name, revision, sha256.
        versions: package -> version.
        seeds: name -> seed.
        plan: batches in order, each {"batch": number, "rows": [[item_id, arm], ...]}.
        arrays: site -> what it keeps.
        items: what is asked; the caller's config must tell other items apart.

    Raises:
        InputError: `out` cannot hold a run, or holds another one; the message lists what differs.
        RunError: another process holds the folder, it is damaged, or the disk refuses.
    """
    run_arrays.check_specs(arrays)
    specs = {site: spec.to_json() for site, spec in arrays.items()}
    parts = {"config": config, "model": model, "versions": versions, "seeds": seeds, "plan": plan, "arrays": specs}
    asked = manifest.build(parts)
    manifest.check_out(out, config=asked["config"])
    folder = Folder.of(out)
    if folder.is_file(""):
        raise InputError(f"{folder.path} is a file: expected the path of a folder for the run; choose another --out")
    manifest.judge(folder.path, folder.names(), folder.read(manifest.NAME))
    folder.make()
    with lock.held(folder):
        yield Writer(folder=folder, manifest=_prepare(folder, asked, items))


def _prepare(folder: Folder, asked: dict[str, Any], items: Sequence[Item]) -> dict[str, Any]:
    """Bring the folder to where work can go on; returns its manifest."""
    stored = manifest.judge(folder.path, folder.names(), folder.read(manifest.NAME))
    if stored is None:
        folder.write(manifest.NAME, manifest.dump(asked))
        stored = asked
    manifest.check_same(stored, asked, folder.path)
    write_items(folder, items)
    if stored["status"] == "complete":
        return stored
    folder.clear_temporary(*(tables.file(table) for table in tables.TABLES))
    if tables.committed(folder, stored):
        run_arrays.clear_partial(folder)
    else:
        run_arrays.build(folder, stored)
    return stored

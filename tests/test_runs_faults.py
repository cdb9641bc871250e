"""A run that is killed at any moment and resumed equals one that was not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_run import ITEMS, LAYERS, SITES, WIDTH, assert_same_run, batch_content, do_run, files_of, settings

from mechmsc import runs

STEPS = (
    "replace",
    "rename",
    "unlink",
    "remove",
    "rmdir",
    "mkdir",
    "fsync",
    "link",
)  # all that changes names on the disk


class Killed(BaseException):
    """Stands for the end of the process: nothing is written after it."""


class Disk:
    """Counts the steps of the file system and ends the process before one of them."""

    def __init__(self, monkeypatch, *, at: int | None = None):
        self.count, self.at, self.dead = 0, at, False
        for name in STEPS:
            monkeypatch.setattr(os, name, self._watched(getattr(os, name)))

    def _watched(self, step):
        def run(*args, **kwargs):
            if self.dead:
                raise Killed
            self.count += 1
            self.dead = self.count == self.at
            if self.dead:
                raise Killed
            return step(*args, **kwargs)

        return run


def small_run() -> tuple[dict, Callable]:
    """Two batches of two conversations and one site without coordinates: few steps, all kinds of them."""
    made, arms = settings(), ["none", "moral"]
    plan = [{"batch": i, "rows": [[item, arm] for arm in arms]} for i, item in enumerate(ITEMS[:2])]
    arrays = {SITES[0]: runs.ArraySpec(("layer", "d_model"), (LAYERS, WIDTH))}
    changes = {"config": made["config"] | {"arms": arms}, "plan": plan, "arrays": arrays}

    def content(entry: dict) -> dict:
        made = batch_content(entry)
        return made | {"activations": {SITES[0]: made["activations"][SITES[0]]}}

    return changes, content


def test_a_run_killed_at_any_step_of_the_file_system_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    changes, content = small_run()
    whole = do_run(tmp_path / "whole", content=content, **changes)
    with monkeypatch.context() as patched:
        disk = Disk(patched)
        do_run(tmp_path / "counted", content=content, **changes)
    assert disk.count > 40
    killed = 0
    for at in range(1, disk.count + 1):
        out = tmp_path / f"run{at}"
        for step in (at, 1 + at // 2) if at % 3 == 0 else (at,):  # here the resumption is killed too
            with monkeypatch.context() as patched:
                Disk(patched, at=step)
                try:
                    do_run(out, content=content, **changes)
                except Killed:
                    killed += 1
            if (out / "run.json").exists():
                assert len(runs.open_run(out).transcripts) % 4 == 0  # readers see whole batches
        resumed = do_run(out, content=content, **changes)
        assert files_of(out) == files_of(tmp_path / "whole"), f"killed at step {at}"
    assert killed >= disk.count
    assert_same_run(whole, resumed)


def test_a_commit_marker_written_before_the_arrays_would_be_noticed(tmp_path, monkeypatch):
    """Negative control: with the order of a commit reversed, some kill must leave another run behind."""
    from mechmsc.runs import arrays

    (changes, content), late = small_run(), []
    do_run(tmp_path / "whole", content=content, **changes)
    with monkeypatch.context() as patched:
        patched.setattr(arrays, "write", lambda *args: late.append(args))
        with runs.create(tmp_path / "run", **settings(**changes)) as writer:
            batch = next(writer.pending())
            writer.commit(batch, **content(batch))  # the part is there, the process dies before the arrays are
    do_run(tmp_path / "run", content=content, **changes)
    assert late and files_of(tmp_path / "run") != files_of(tmp_path / "whole")


def test_a_process_killed_for_real_is_resumed_and_its_lock_is_gone(tmp_path):
    code = (
        "import sys, time\nsys.path.insert(0, sys.argv[2])\nfrom toy_run import batch_content, settings\n"
        "from mechmsc import runs\n"
        "with runs.create(sys.argv[1], **settings()) as writer:\n"
        "    for batch in writer.pending():\n"
        "        content = batch_content(batch)\n"
        "        print('computed', flush=True)\n"
        "        writer.commit(batch, **content)\n"
        "    writer.finish()\n"
    )
    whole, out = do_run(tmp_path / "whole"), tmp_path / "run"
    for delay in (0.0, 0.02, 0.05):
        command = [sys.executable, "-c", code, str(out), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()  # empty when nothing is pending
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
    assert_same_run(whole, do_run(out))
    assert files_of(out) == files_of(tmp_path / "whole")


@pytest.mark.parametrize("state", ["parts", "merged"])
def test_a_finish_on_a_remote_folder_killed_between_copy_and_delete_is_done_again(tmp_path, state):
    import fsspec

    from mechmsc.runs import tables

    memory, url = fsspec.filesystem("memory"), f"memory://bucket/{state}"
    with runs.create(url, **settings()) as writer:
        for batch in writer.pending():
            writer.commit(batch, **batch_content(batch))
        if state == "merged":
            tables.merge(writer.folder, writer.manifest, "samples")
            tables.merge(writer.folder, writer.manifest, "transcripts")
        else:
            for table in tables.TABLES:
                memory.cp_file(
                    f"/bucket/parts/{table}.parquet/part-00001.parquet",
                    f"/bucket/parts/{table}.parts/part-00001.parquet",
                )
        assert len(runs.open_run(url).transcripts) == 28 and runs.open_run(url).status == "running"
    assert_same_run(do_run(url), do_run(tmp_path / "whole"))
    assert not [name for name in memory.find("/bucket") if "part-" in name or ".tmp" in name]
    memory.rm("/bucket", recursive=True)

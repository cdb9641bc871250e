"""One whole run and runs that are killed at planned moments, then repeated: `python interrupted_runs.py FOLDER`.

Every run is made in a forked child, so that kill -9 ends a real process while the libraries are loaded only once. The
exit code and the batches that a killed run left committed go to FOLDER/report.json.
"""

import json
import os
import signal
import sys
from pathlib import Path

from tiny_runs import CHOOSE, CONTINUE, correct, load_chatty

MOMENTS = {
    "while the first batch is held": ("mechmsc.conversations._draw", 2, 0),
    "before the second batch is captured": ("mechmsc.rounds.capture", 2, 1),
    "while the second batch is written": ("mechmsc.runs.folder.Folder.write", 6, 1),
    "between two batches": ("mechmsc.rounds.hold", 3, 2),
    "while the run is finished": ("mechmsc.runs.tables.merge", 2, 3),
}
"""Name -> what is called, the number of the call that never happens, and how many batches are committed by then."""
ITEMS = [*CONTINUE[:2], CHOOSE[0]]
SETTINGS = {"arms": "moral,none", "rounds": 2, "samples": 1, "batch_size": 2}


def kill_at(name: str, number: int) -> None:
    """Replace a function by one that kills the process instead of its `number`-th call."""
    import importlib

    path = name.split(".")
    depth = next(i for i in range(len(path) - 1, 0, -1) if is_module(".".join(path[:i])))
    place = importlib.import_module(".".join(path[:depth]))
    for part in path[depth:-1]:
        place = getattr(place, part)
    function, calls = getattr(place, path[-1]), iter(range(1, 1000))

    def counted(*args, **kwargs):
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    setattr(place, path[-1], counted)


def is_module(name: str) -> bool:
    import importlib.util

    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def in_a_child(model, out: Path, moment: tuple[str, int, int] | None = None) -> int:
    """Exit code of a process that makes the run; minus the signal if it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if moment is not None:
                kill_at(*moment[:2])
            correct(model, ITEMS, out, **SETTINGS)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path) -> None:
    from mechmsc.runs import open_run

    model = load_chatty(folder)
    report = {"whole": in_a_child(model, folder / "whole")}
    for name, moment in MOMENTS.items():
        killed = in_a_child(model, folder / name, moment)
        run = open_run(folder / name)
        done = sorted({(row["item_id"], row["arm"]) for row in run.transcripts.to_dict("records")})
        report[name] = {"killed": killed, "status": run.status, "done": done}
        report[name]["resumed"] = in_a_child(model, folder / name)
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

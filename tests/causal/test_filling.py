"""An interrupted analysis goes on where it was stopped, and then equals one that was not."""

import numpy as np
import pytest
import xarray as xr
from planted_runs import planted_direction, planted_run

ASKED = {"outcome": "choice_entropy", "layers": 2, "permutations": 1, "batch_size": 3, "placebos": 2}
LAYERS = {"layers": [0, 1], "read_layer": 2, "rounds": [1, 2], "max_kl": 100.0, "batch_size": 8}
ANALYSES = {
    "store_mediation": ("mechmsc.causal.mediation._Worlds.of", ASKED),
    "store_dose": ("mechmsc.causal.dose._Steered.of", ASKED | {"strengths": [-1.0, 0.0, 1.0]}),
    "store_steering": ("mechmsc.causal.steering._Steer.fill", LAYERS),
}


ORIGINALS: dict = {}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    model, run = planted_run(tmp_path_factory.mktemp("planted") / "run", n=4, rounds=2)
    return model, run, planted_direction(model)


@pytest.fixture
def counted(monkeypatch):
    """A function: dotted name of a method, calls after which it is interrupted -> the list of its calls."""

    def count(target: str, stop_after: int | None = None) -> list:
        import mechmsc.causal  # noqa: F401 - its modules are named by text

        module, owner, method = target.rsplit(".", 2)
        cls = getattr(__import__(module, fromlist=[owner]), owner)
        whole, calls = ORIGINALS.setdefault(target, getattr(cls, method)), []

        def watched(self, *arguments, **named):
            if stop_after is not None and len(calls) == stop_after:
                raise KeyboardInterrupt
            calls.append(arguments)
            return whole(self, *arguments, **named)

        monkeypatch.setattr(cls, method, watched)
        return calls

    return count


@pytest.mark.filterwarnings("ignore:.*items are few")
@pytest.mark.parametrize("function", ANALYSES)
def test_an_interrupted_analysis_goes_on_and_equals_a_whole_one(planted, counted, function):
    from mechmsc import causal
    from mechmsc.runs.effects import effect_names, read_effect

    model, run, direction = planted
    (target, options), store = ANALYSES[function], getattr(causal, function)
    options = options | {"progress": False}
    calls = counted(target)
    store(model, run, direction, name=f"{function}_whole", **options)
    whole, n = read_effect(run.folder, f"{function}_whole")[0], len(calls)
    assert n >= 4
    begun = f"{function}_parts.begun.nc"
    for stop_after in (1, 2):
        counted(target, stop_after)
        with pytest.raises(KeyboardInterrupt):
            store(model, run, direction, name=f"{function}_parts", **options)
        assert begun in run.folder.names("effects") and f"{function}_parts" not in effect_names(run.folder)
    calls = counted(target)
    store(model, run, direction, name=f"{function}_parts", **options)
    assert len(calls) == n - 3, "what was done is not done again"
    parts = read_effect(run.folder, f"{function}_parts")[0]
    xr.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)
    costs = ("tokens_encoded", "row_passes")  # a beginning that was shared with the round before is encoded again
    same = {name: value for name, value in whole.attrs.items() if name not in costs}
    assert same == {name: value for name, value in parts.attrs.items() if name not in costs}
    assert parts.attrs.get("tokens_encoded", 0) >= whole.attrs.get("tokens_encoded", 0)
    assert begun not in run.folder.names("effects")


@pytest.mark.filterwarnings("ignore:.*items are few")
def test_what_other_settings_began_or_cannot_be_read_is_not_gone_on_from(planted, counted):
    from mechmsc import causal

    model, run, direction = planted
    target, options = ANALYSES["store_dose"]
    options = options | {"progress": False}
    counted(target, 2)
    with pytest.raises(KeyboardInterrupt):
        causal.store_dose(model, run, direction, name="other", **options)
    n = 4 * 2  # a batch holds one conversation, at three strengths
    calls = counted(target)
    causal.store_dose(model, run, direction, name="other", **options | {"strengths": [-2.0, 0.0, 2.0]})
    assert len(calls) == n
    run.folder.write("effects/broken.begun.nc", b"CDF\x01 and no more")
    calls = counted(target)
    causal.store_dose(model, run, direction, name="broken", **options)
    assert len(calls) == n


def test_what_is_there_is_written_while_the_work_goes_on_and_counts_of_a_broken_part_are_not(tmp_path, monkeypatch):
    from mechmsc.causal import filling
    from mechmsc.runs.effects import read_begun
    from mechmsc.runs.folder import Folder

    monkeypatch.setattr(filling, "SECONDS", 0.0)
    folder, settings, seen = Folder.of(tmp_path), {"seed": 0}, []
    found = xr.Dataset({"x": (("item", "round"), np.full((2, 2), np.nan))}, attrs={"passes": 0})

    def part(i, j):
        def compute():
            found["x"].values[i, j], found.attrs["passes"] = i + j, found.attrs["passes"] + 3_000_000_000
            seen.append(read_begun(folder, "a", settings))
            if (i, j) == (1, 0):
                raise MemoryError

        return filling.Part((i, j), compute)

    parts = [part(i, j) for i in range(2) for j in range(2)]
    how = {"text": "parts", "show": False, "total": 4, "kept": filling.Kept(folder, "a", settings)}
    with pytest.raises(MemoryError):
        filling.fill(found, parts, ("item", "round"), **how)
    assert [None if one is None else int(one["done"].values.sum()) for one in seen] == [None, 1, 2]
    again = xr.Dataset({"x": (("item", "round"), np.full((2, 2), np.nan))}, attrs={"passes": 0})
    done = np.zeros((2, 2), dtype=bool)
    filling.Kept(folder, "a", settings).restore(again, done)
    assert done.tolist() == [[True, True], [False, False]] and again.attrs == {"passes": 6_000_000_000}
    assert again["x"].values[0].tolist() == [0, 1]

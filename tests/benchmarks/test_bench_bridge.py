"""The benchmark of the second engine runs: its code paths on a tiny model, no time asserted."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import bench_bridge
import bench_decode_step
import bench_transcripts


def test_a_step_and_a_grid_are_timed_where_both_ways_agree(load_tiny, tiny_folder):
    model = load_tiny("llama", engine="bridge")
    hf = bench_transcripts.peer_model(tiny_folder("llama"))
    assert len(bench_decode_step.measure(model, hf, rows=3, branches=1, context=10, steps=3)) == 3
    cells = {"sites": ["resid_pre"], "layers": [1], "positions": [3, 5]}
    pairs = bench_bridge.partial_pass(model, list(range(10, 22)), list(range(40, 52)), runs=1, **cells)
    result = bench_bridge.partial_result(pairs, "tiny")
    assert set(result) == {"ratio", "ours_s", "peer_s", "runs", "note"} and result["ratio"] > 0


def test_whole_passes_that_say_something_else_are_refused(load_tiny, monkeypatch):
    from mechmsc.patching import injection

    true_write = injection._write
    monkeypatch.setattr(injection, "_write", lambda x, hook, **named: 1.5 * true_write(x, hook, **named))
    model = load_tiny("llama", engine="bridge")
    with pytest.raises(AssertionError, match="Not equal"):
        bench_bridge.partial_pass(
            model, list(range(10, 22)), list(range(40, 52)), runs=1, sites=["resid_pre"], layers=[1], positions=[3]
        )

"""The benchmark of patching runs: its code paths on a tiny model, no time asserted."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import bench_patching


@pytest.fixture
def pair():
    return [list(range(10, 22)), list(range(40, 52))]


def test_ours_and_transformer_lens_patch_the_same_cells_and_give_the_same_numbers(tiny_llama, pair, monkeypatch):
    monkeypatch.setattr(
        bench_patching, "installed", lambda: (Path("nowhere"), dict.fromkeys(bench_patching.PEERS, "no"))
    )
    raced = bench_patching.race(tiny_llama, pair, [[0, 2], [1]])
    assert {name: len(times) for name, times in raced["times"].items()} == {"ours": 2, "transformer_lens": 2}
    (result,) = bench_patching.results("grid", "tiny", raced).values()
    assert set(result) == {"ratio", "ours_s", "peer_s", "runs", "note"} and result["ratio"] > 0
    assert "nnsight could not be had: no" in result["note"]


def test_a_peer_that_computes_something_else_is_refused(tiny_llama, pair):
    _, grid = bench_patching.our_grid(tiny_llama, *pair, [7, 9])
    right = float(grid.sel(layer=1, position=5).squeeze())
    bench_patching.compared(grid, [(1, 5)], [right], "peer")
    with pytest.raises(RuntimeError, match="peer at layer 1, token 5"):
        bench_patching.compared(grid, [(1, 5)], [right + 0.1], "peer")


def test_the_conversation_has_four_rounds_about_400_tokens_and_two_last_instructions(smollm2):
    source, destination, span = bench_patching.conversation_pair(smollm2)
    assert len(source) == len(destination) and 350 <= len(source) <= 450
    differing = [i for i, (a, b) in enumerate(zip(source, destination, strict=True)) if a != b]
    assert set(differing) <= set(span) and len(differing) > len(span) / 2
    one, two = bench_patching.prompt_pair(smollm2)
    assert len(one) == len(two) == 120 and all(a != b for a, b in zip(one, two, strict=True))

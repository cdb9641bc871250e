"""What does the second engine cost: a decode step against bare Hugging Face, a partial pass against whole ones?

    python tests/benchmarks/bench_bridge.py        about two minutes; prints the result as JSON

Decoding is measured as in `bench_decode_step`, on a model loaded with engine="bridge"; limit 1.3. The partial pass
patches `resid_pre` and `z` at the last tokens of two layers in the second half; once in parts, which start at the
patched layer and token, and once by whole passes with injection, which is what architectures get whose blocks cannot
be run in parts. The two take turns, and both must give the same numbers.
"""

import json
import statistics
import sys
from typing import Any
from unittest import mock

import bench_decode_step as decode
import bench_patching as patching
import bench_transcripts as conversations

RUNS = 3
CELLS = {"sites": ["resid_pre"], "layers": [14, 20], "positions": list(range(100, 116, 2))}


def run() -> dict[str, dict]:
    """`decode_step_bridge_32`: ours over the peer's, smaller is better. `partial_bridge`: parts over whole passes."""
    from mechmsc import load_model, weights

    model = load_model(conversations.MODEL, engine="bridge")
    hf = conversations.peer_model(weights.prepared(weights.check_name(conversations.MODEL)))
    step = decode.result(
        decode.measure(model, hf, rows=32, branches=1), "engine bridge, 32 rows, one branch each; at most 1.3"
    )
    pairs = partial_pass(model, *patching.prompt_pair(model), **CELLS)
    n = len(CELLS["layers"]) * len(CELLS["positions"])
    return {
        "decode_step_bridge_32": step,
        "partial_bridge": partial_result(pairs, f"{n} cells of resid_pre in layers 14 and 20, last 20 of 120 tokens"),
    }


def partial_pass(
    model: Any, source: list[int], destination: list[int], *, runs: int = RUNS, **cells: Any
) -> list[tuple[float, float]]:
    """Seconds of each grid, in parts and by whole passes."""
    import numpy as np

    from mechmsc.model import bridge_engine

    whole = mock.patch.object(bridge_engine, "in_parts", lambda model: False)  # noqa: ARG005 - the signature
    patching.our_grid(model, source, destination, [7, 9], **cells)  # tables, and whether blocks agree
    pairs = []
    for _ in range(runs):
        our_s, grid = patching.our_grid(model, source, destination, [7, 9], **cells)
        with whole:
            peer_s, expected = patching.our_grid(model, source, destination, [7, 9], **cells)
        np.testing.assert_allclose(grid, expected, rtol=1e-3, atol=1e-3)
        pairs.append((our_s, peer_s))
    return pairs


def partial_result(pairs: list[tuple[float, float]], what: str) -> dict:
    """Medians over the runs."""
    return {
        "ratio": round(statistics.median(our_s / peer_s for our_s, peer_s in pairs), 3),
        "ours_s": round(statistics.median(our_s for our_s, _ in pairs), 3),
        "peer_s": round(statistics.median(peer_s for _, peer_s in pairs), 3),
        "runs": len(pairs),
        "note": f"a grid in parts over the same by whole passes with injection, engine bridge; {what}",
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1) + "\n")

"""How long do 1,000 simulated data sets take? Wall time of the structural simulation on all cores, beside the same with
scikit-learn's logistic regression and a bootstrap in a loop, on a few data sets.

python tests/benchmarks/bench_simulation.py        two minutes; prints the result as JSON
"""

import json
import statistics
import sys
import time

import numpy as np

DATASETS, RUNS, PEER_DATASETS = 250, 3, 3
BETAS, GAMMAS = (0.0, -0.2), (0.0, 1.0)
LIMIT_S = 120


def ours(datasets: int) -> None:
    """Four cells of so many data sets, on as many processes as there are cores."""
    from mechmsc.causal.simulation import structural_grid

    structural_grid(betas=BETAS, gammas=GAMMAS, datasets=datasets, progress=False)


def peer(datasets: int) -> None:
    """The same numbers as one would write them: five fits a data set, and items resampled one bootstrap at a time."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict

    from mechmsc.causal.simulation import Truth, draw_world

    for number in range(datasets):
        rng = np.random.default_rng(number)
        world = draw_world(Truth(-0.2, 1.0, 60), rng)
        dz, du = np.diff(world.concept, axis=1), np.diff(world.uncertainty, axis=1)
        dw = np.broadcast_to(np.diff(world.confounder, axis=1)[..., None], dz.shape)
        items = np.repeat(np.arange(60), du[0].size)
        for x in (dz, dw):
            cross_val_predict(LogisticRegression(), x.reshape(-1, 1), du.ravel() > 0, groups=items, cv=GroupKFold(5))
        for _ in range(1000):
            drawn = rng.integers(0, 60, 60)
            (world.clamped[drawn] - world.uncertainty[drawn, :, 0]).mean()
            for terms in ((dz,), (dz, dw)):
                design = np.stack([np.ones(dz[drawn].size), *(x[drawn].ravel() for x in terms)], axis=1)
                np.linalg.lstsq(design, du[drawn].ravel(), rcond=None)


def timed(call: object) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def run(datasets: int = DATASETS, runs: int = RUNS, peer_datasets: int = PEER_DATASETS) -> dict[str, dict]:
    """Median time of 4 * `datasets` data sets, processes started anew each time, over the peer's, one process."""
    import os

    total = 4 * datasets
    pairs = [(timed(lambda: ours(datasets)), timed(lambda: peer(peer_datasets))) for _ in range(runs)]
    ratios = [a / (b * total / peer_datasets) for a, b in pairs]
    seconds = statistics.median(a for a, _ in pairs)
    note = (
        f"{total} data sets of 60 items, 1,000 resamples each, on {os.cpu_count()} cores, start of processes included, "
        f"over scikit-learn and a loop on one core (measured on {peer_datasets} data sets), smaller is better; "
        f"at most {LIMIT_S} s for 1,000; ratio of each run {', '.join(f'{ratio:.3f}' for ratio in ratios)}"
    )
    return {
        "simulation": {
            "ratio": round(statistics.median(ratios), 3),
            "ours_s": round(seconds, 2),
            "peer_s": round(statistics.median(b for _, b in pairs) * total / peer_datasets, 2),
            "runs": runs,
            "note": note,
        }
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1) + "\n")

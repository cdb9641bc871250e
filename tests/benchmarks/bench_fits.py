"""How long do the six fits take over all layers, and how much faster is logistic regression than scikit-learn's?

python tests/benchmarks/bench_fits.py        about two minutes; prints the result as JSON
"""

import json
import statistics
import sys
import time

import numpy as np
import torch

RUNS = 3
STATEMENTS, LAYERS, D_MODEL = 1000, 30, 576
PEER_LAYERS = 6
PEER_TOL = 3e-8
LIMIT_S = 15


def statements(*, n: int = STATEMENTS, layers: int = LAYERS, d_model: int = D_MODEL, seed: int = 0):
    """Activations [statement, layer, d_model], sides [statement, 2, layer, d_model], labels and pairs.

    Correlated features with a falling spectrum on scales of their own, one of them massive; every other statement has
    label 1 and differs along a direction of its layer.
    """
    generator = torch.Generator().manual_seed(seed)
    spectrum = 5 * torch.arange(1, d_model + 1) ** -0.5
    basis = torch.linalg.qr(torch.randn(d_model, d_model, generator=generator))[0] * spectrum[:, None]
    scale = torch.exp(torch.randn(d_model, generator=generator))
    scale[5] = 300.0
    labels = torch.arange(n) % 2
    along = (labels - 0.5)[:, None, None] * torch.randn(layers, d_model, generator=generator) / d_model**0.5

    def noise() -> torch.Tensor:
        return torch.randn(n, layers, d_model, generator=generator) @ basis

    plain, shared = (noise() + 10 * along) * scale, noise()
    sides = torch.stack([(shared + noise() + sign * 10 * along) * scale for sign in (1, -1)], dim=1)
    return plain, sides, labels, [f"pair {i // 2}" for i in range(n)]


def six(plain: torch.Tensor, sides: torch.Tensor, labels: torch.Tensor, pairs: list[str]) -> dict[str, float]:
    """Seconds of each method."""
    from mechmsc.directions import METHODS

    taken = {}
    for method, fit in METHODS.items():
        start = time.perf_counter()
        fit(sides if fit.needs == "sides" else plain, labels, groups=pairs, pairs=pairs, seed=0)
        taken[method] = time.perf_counter() - start
    return taken


def ours(features: torch.Tensor, labels: torch.Tensor, folds: np.ndarray) -> np.ndarray:
    """Decision values [layer, penalty, fold, statement] at every penalty and fold, all at once."""
    from mechmsc.directions.fits.logistic import PENALTIES, margins_at

    kept = torch.tensor(np.stack([folds != fold for fold in np.unique(folds)]), dtype=torch.float32)
    penalties = torch.tensor(PENALTIES)
    return margins_at(features, labels, kept=kept, penalties=penalties, exact=True).numpy()


def peer(features: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """The same by a loop of scikit-learn fits with the loosest tolerance that gives equal solutions."""
    from sklearn.linear_model import LogisticRegression

    from mechmsc.directions.fits.logistic import PENALTIES

    values = np.zeros((features.shape[0], len(PENALTIES), len(np.unique(folds)), features.shape[1]))
    for layer, x in enumerate(features):
        for row, penalty in enumerate(PENALTIES):
            for fold in np.unique(folds):
                seen = folds != fold
                model = LogisticRegression(C=1 / (penalty * seen.sum()), tol=PEER_TOL, max_iter=10_000)
                values[layer, row, fold] = model.fit(x[seen], labels[seen]).decision_function(x)
    return values


def compared(plain: torch.Tensor, labels: torch.Tensor, pairs: list[str], *, layers: int) -> tuple[float, float, float]:
    """Seconds of ours, seconds of the peer, largest difference of decision values; for the first `layers`."""
    from mechmsc.directions.fits.logistic import N_FOLDS
    from mechmsc.directions.fits.training import standardised
    from mechmsc.directions.splitting import grouped_folds

    folds = grouped_folds(labels.numpy(), pairs, n_folds=N_FOLDS, seed=0)
    features = standardised(plain[:, :layers])[0]
    start = time.perf_counter()
    mine = ours(features, labels, folds)
    middle = time.perf_counter()
    theirs = peer(features.double().numpy(), labels.numpy(), folds)
    end = time.perf_counter()
    return middle - start, end - middle, float(np.abs(mine - theirs).max())


def run(runs: int = RUNS) -> dict[str, dict]:
    """Medians over `runs`: seconds of six fits (limit 15), and scikit-learn's time over ours (at least 5)."""
    plain, sides, labels, pairs = statements()
    six(plain[:, :1], sides[:, :, :1], labels, pairs)
    totals = [six(plain, sides, labels, pairs) for _ in range(runs)]
    pairs_of_times = [compared(plain, labels, pairs, layers=PEER_LAYERS) for _ in range(runs)]
    seconds = statistics.median(sum(taken.values()) for taken in totals)
    parts = ", ".join(f"{name} {statistics.median(taken[name] for taken in totals):.2f}" for name in totals[0])
    shape = f"{STATEMENTS} statements, {LAYERS} layers x {D_MODEL}"
    return {
        "fits": {
            "ratio": None,
            "ours_s": round(seconds, 2),
            "peer_s": None,
            "runs": runs,
            "note": f"six methods, {shape}, penalty chosen by cross-validation included; at most {LIMIT_S} s; {parts}",
        },
        "fits_logistic": {
            "ratio": round(statistics.median(theirs / mine for mine, theirs, _ in pairs_of_times), 2),
            "ours_s": round(statistics.median(mine for mine, _, _ in pairs_of_times), 2),
            "peer_s": round(statistics.median(theirs for _, theirs, _ in pairs_of_times), 2),
            "runs": runs,
            "note": (
                f"loop of scikit-learn fits over ours, larger is better, at least 5; {PEER_LAYERS} layers, 5 folds, "
                "6 penalties; largest difference of decision values "
                f"{max(difference for _, _, difference in pairs_of_times):.1e}"
            ),
        },
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1) + "\n")

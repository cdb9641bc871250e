"""What the bootstrap and the permutation tests share: checked clusters, and draws in blocks that fit into memory."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from mechmsc.errors import InputError

Seed = int | np.random.Generator
DRAWS_AT_ONCE = 4_000_000  # cluster counts held in memory at a time


def checked(values: ArrayLike, clusters: ArrayLike, level: float, n_boot: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Values as floats, clusters as codes from 0, and the number of clusters."""
    values = np.asarray(values, dtype=float)
    clusters = np.asarray(clusters)
    if values.ndim == 0 or clusters.ndim != 1 or len(values) != len(clusters):
        raise InputError(
            f"expected one cluster a row, got values of shape {values.shape} and clusters of shape {clusters.shape}"
        )
    if not 0 < level < 1:
        raise InputError(f"a confidence level lies between 0 and 1, got {level}")
    if n_boot < 1:
        raise InputError(f"expected at least 1 resample, got {n_boot}")
    names, codes = np.unique(clusters, return_inverse=True)
    return values, codes, len(names)


def cluster_sums(values: np.ndarray, codes: np.ndarray, n_clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the finite values, each [cluster, column]."""
    known = ~np.isnan(values)
    sums, sizes = np.zeros((2, n_clusters, values.shape[1]))
    np.add.at(sums, codes, np.where(known, values, 0.0))
    np.add.at(sizes, codes, known.astype(float))
    return sums, sizes


def cluster_counts(n_clusters: int, n_boot: int, seed: Seed, n_rows: int = 0) -> Iterator[np.ndarray]:
    """How often each cluster is drawn, [resample, cluster], in blocks that fit into memory and change no number."""
    rng = np.random.default_rng(seed)
    for size in block_sizes(n_boot, max(n_clusters, n_rows)):
        yield rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=size)


def block_sizes(total: int, width: int) -> Iterator[int]:
    """Sizes of blocks that add up to `total`, each with at most DRAWS_AT_ONCE numbers of `width` a row."""
    block = max(1, DRAWS_AT_ONCE // max(width, 1))
    for start in range(0, total, block):
        yield min(block, total - start)

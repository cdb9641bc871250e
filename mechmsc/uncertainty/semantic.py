"""Entropy over meanings: samples are grouped by what they say, and the spread is measured over the groups.

All functions take whole arrays [..., sample], e.g. [item, arm, round, sample], and return nats [...]. Which samples
mean the same is decided elsewhere, see `clusterers`; here a meaning is an integer.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from mechmsc.errors import InputError
from mechmsc.uncertainty.arrays import check_same_shape, cluster_ids_of, log_likelihoods_of

_PAIRS_AT_ONCE = 4_000_000  # pairs of samples held in memory at a time
KUHN_SHIFT = 5.0
"""What Kuhn's released code takes from the log mass of every cluster."""


def semantic_entropy(
    log_likelihoods: ArrayLike, cluster_ids: ArrayLike, *, unique: ArrayLike | None = None
) -> np.ndarray | float:
    """Semantic entropy, weighted by the probabilities of the samples.

    p(c) = sum_{m in c} exp(a_m) / sum_m exp(a_m);  SE = -sum_c p(c) log p(c)

    Kuhn et al. 2023, arXiv:2302.09664; with p(c) normalised over the samples: Farquhar et al. 2024,
    doi:10.1038/s41586-024-07421-0. It lies in [0, log M] for M samples. A sample that was drawn twice counts twice, as
    in the code that Farquhar et al. released.

    Args:
        log_likelihoods: [..., sample], a_m: log-probability of a sample divided by its number of tokens, in nats.
        cluster_ids: [..., sample], integers; samples of one set with equal ids mean the same.
        unique: [..., sample], integers; of samples of one set with equal ids here (the same token sequence, see
            `sequence_ids`) only the first counts. None: all count.

    Returns:
        Nats, [...]; a float for one set.

    Raises:
        InputError: shapes differ, a log-likelihood is above 0 or not finite, ids are not integers, fewer than two
            samples.

    Example:
        >>> import numpy as np
        >>> bool(np.isclose(semantic_entropy([-1.0, -1.0, -1.0, -1.0], [0, 0, 1, 1]), np.log(2)))
        True
    """
    likelihoods, ids = _checked(log_likelihoods, cluster_ids)
    if unique is not None:
        sequences = _sequences(unique, likelihoods)
        likelihoods = np.where(_is_first(sequences), likelihoods, -np.inf)
    return _over_sets(_weighted, likelihoods, ids)


def discrete_semantic_entropy(cluster_ids: ArrayLike) -> np.ndarray | float:
    """Semantic entropy of the cluster sizes alone; needs no probabilities.

    -sum_c (|c| / M) log(|c| / M)        Farquhar et al. 2024, doi:10.1038/s41586-024-07421-0

    It lies in [0, log M] and is too small on average, by about (|C| - 1) / (2M): compare only with equal M, and report
    M.

    Args:
        cluster_ids: [..., sample], integers.

    Returns:
        Nats, [...]; a float for one set.

    Raises:
        InputError: ids are not integers, or fewer than two samples.
    """
    ids = cluster_ids_of(cluster_ids)
    return _over_sets(_weighted, np.zeros(ids.shape), ids)


def miller_madow_semantic_entropy(cluster_ids: ArrayLike) -> np.ndarray | float:
    """Discrete semantic entropy with the first-order correction of its bias.

    discrete + (|C| - 1) / (2M)        Miller 1955; |C|: clusters that were seen, M: samples

    It may exceed log M.

    Args:
        cluster_ids: [..., sample], integers.

    Returns:
        Nats, [...]; a float for one set.

    Raises:
        InputError: ids are not integers, or fewer than two samples.
    """
    ids = cluster_ids_of(cluster_ids)
    discrete = _over_sets(_weighted, np.zeros(ids.shape), ids)
    return discrete + (number_of_clusters(ids) - 1) / (2 * ids.shape[-1])


def semantic_entropy_as_released(log_likelihoods: ArrayLike, cluster_ids: ArrayLike) -> np.ndarray | float:
    """What the code released by Kuhn et al. computes under the name of semantic entropy, shift included.

    -(1 / |C|) sum_c (log sum_{m in c} exp(a_m) - 5.0)        github.com/lorenzkuhn/semantic_uncertainty

    Not an entropy: masses are not normalised, clusters count equally, and 5.0 is added. Only differences between
    prompts were used there.

    Args:
        log_likelihoods: [..., sample], a_m in nats.
        cluster_ids: [..., sample], integers.

    Returns:
        [...]; a float for one set.

    Raises:
        InputError: as in `semantic_entropy`.
    """
    return _over_sets(_kuhn_released, *_checked(log_likelihoods, cluster_ids))


def cluster_nll_as_released(log_likelihoods: ArrayLike, cluster_ids: ArrayLike) -> np.ndarray | float:
    """What the code of the paper on moral self-correction (arXiv:2510.07290) computes as semantic uncertainty.

    (1 / |C|) sum_c (1 / |c|) sum_{m in c} -a_m

    It does not measure meaning: with equal a_m the clusters do not matter, one, two or five of them.

    Args:
        log_likelihoods: [..., sample], a_m in nats.
        cluster_ids: [..., sample], integers.

    Returns:
        Nats, [...]; a float for one set.

    Raises:
        InputError: as in `semantic_entropy`.
    """
    return _over_sets(_cluster_nll, *_checked(log_likelihoods, cluster_ids))


def number_of_clusters(cluster_ids: ArrayLike) -> np.ndarray | int:
    """How many meanings the samples have.

    Args:
        cluster_ids: [..., sample], integers.

    Returns:
        Counts, [...]; an int for one set.

    Raises:
        InputError: ids are not integers, or fewer than two samples.
    """
    ordered = np.sort(cluster_ids_of(cluster_ids), axis=-1)
    counts = 1 + (np.diff(ordered, axis=-1) != 0).sum(axis=-1)
    return counts if counts.ndim else int(counts)


def sequence_ids(sequences: Sequence[Sequence[int]] | Sequence[str]) -> np.ndarray:
    """Number the samples of one set so that equal ones share a number: for `unique` in `semantic_entropy`.

    Args:
        sequences: token ids (or texts) of each sample.

    Returns:
        Integers [sample], from 0 in order of first appearance.

    Example:
        >>> sequence_ids([[5, 2], [7, 2], [5, 2]]).tolist()
        [0, 1, 0]
    """
    seen: dict = {}
    keys = (s if isinstance(s, str) else tuple(int(token) for token in s) for s in sequences)
    return np.array([seen.setdefault(key, len(seen)) for key in keys], dtype=int)


def _checked(log_likelihoods: ArrayLike, cluster_ids: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    likelihoods, ids = log_likelihoods_of(log_likelihoods), cluster_ids_of(cluster_ids)
    check_same_shape(likelihoods, ids, "log_likelihoods and cluster_ids")
    return likelihoods, ids


def _sequences(unique: ArrayLike, likelihoods: np.ndarray) -> np.ndarray:
    if isinstance(unique, bool | np.bool_):
        raise InputError(
            "unique takes the ids of the token sequences [..., sample], e.g. from sequence_ids; got a bool"
        )
    sequences = cluster_ids_of(unique, name="unique")
    check_same_shape(likelihoods, sequences, "log_likelihoods and unique")
    return sequences


def _is_first(ids: np.ndarray) -> np.ndarray:
    """Whether no earlier sample of the set has the same id, [..., sample]."""
    m = ids.shape[-1]
    earlier = np.tri(m, k=-1, dtype=bool)
    rows = ids.reshape(-1, m)
    first = np.empty(rows.shape, dtype=bool)
    for block in _blocks(len(rows), m):
        first[block] = ~(_same(rows[block]) & earlier).any(axis=-1)
    return first.reshape(ids.shape)


def _over_sets(statistic: Callable, likelihoods: np.ndarray, ids: np.ndarray) -> np.ndarray | float:
    """A statistic (likelihoods, same) -> [set], over sets in blocks that fit into memory and change no number."""
    m = ids.shape[-1]
    a, rows = likelihoods.reshape(-1, m), ids.reshape(-1, m)
    values = np.empty(len(rows))
    for block in _blocks(len(rows), m):
        values[block] = statistic(a[block], _same(rows[block]))
    return values.reshape(ids.shape[:-1]) if ids.ndim > 1 else float(values[0])


def _blocks(n_sets: int, m: int) -> list[slice]:
    size = max(1, _PAIRS_AT_ONCE // m**2)
    return [slice(start, start + size) for start in range(0, n_sets, size)]


def _same(ids: np.ndarray) -> np.ndarray:
    """Whether two samples of a set share a cluster: [set, sample, sample]."""
    return ids[:, :, None] == ids[:, None, :]


def _log_mass(a: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log of the summed exp(a) of each sample's cluster [set, sample], less the largest a [set, 1], which is second.

    The largest of the set, not of the cluster, is taken out: a cluster that underflows has no weight beside the others.
    """
    top = a.max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):  # log 0 = -inf: a cluster too small to count
        return np.log(same @ np.exp(a - top)[:, :, None])[:, :, 0], top


def _weighted(a: np.ndarray, same: np.ndarray) -> np.ndarray:
    """-sum_m p_m log p(c(m)), which equals -sum_c p(c) log p(c)."""
    log_mass, top = _log_mass(a, same)
    p = np.exp(a - top)
    total = p.sum(axis=-1, keepdims=True)
    p /= total
    log_p = np.where(p > 0, log_mass - np.log(total), 0.0)  # 0 log 0 = 0
    return np.maximum(-(p * log_p).sum(axis=-1), 0.0)  # rounding may leave -1e-17


def _cluster_means(values: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Mean over clusters of a value that is equal within each (or of its mean within each)."""
    weight = 1.0 / same.sum(axis=-1)  # the samples of a cluster share a weight of 1
    return (weight * values).sum(axis=-1) / weight.sum(axis=-1)


def _kuhn_released(a: np.ndarray, same: np.ndarray) -> np.ndarray:
    top = np.where(same, a[:, None, :], -np.inf).max(axis=-1)  # of the cluster: its mass is reported by itself
    within = np.where(same, np.exp(np.minimum(a[:, None, :] - top[:, :, None], 0.0)), 0.0)
    return KUHN_SHIFT - _cluster_means(top + np.log(within.sum(axis=-1)), same)


def _cluster_nll(a: np.ndarray, same: np.ndarray) -> np.ndarray:
    return _cluster_means(-a, same)

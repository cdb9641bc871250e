"""Uncertainties that know nothing of meaning: of whole sequences, of their wording, and of the first token."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mechmsc.errors import InputError
from mechmsc.estimate import Estimate, Seed, cluster_bootstrap
from mechmsc.uncertainty.arrays import check_same_shape, check_samples, log_likelihoods_of, plain
from mechmsc.uncertainty.progress import Progress

if TYPE_CHECKING:
    import torch

    Logits = ArrayLike | torch.Tensor
else:
    Logits = Any


def predictive_entropy(log_likelihoods: ArrayLike) -> np.ndarray | float:
    """Monte Carlo estimate of the entropy of the distribution over responses.

    -(1 / M) sum_m l_m        Malinin & Gales 2021, arXiv:2002.07650

    Unbiased for samples at temperature 1 and top-p 1; with others it is a cross-entropy, and should be called so. Long
    responses have large values.

    Args:
        log_likelihoods: [..., sample], l_m = log p(response | prompt), summed over its tokens, in nats.

    Returns:
        Nats, [...]; a float for one set.

    Raises:
        InputError: a log-likelihood is above 0 or not finite, or fewer than two samples.
    """
    return plain(-log_likelihoods_of(log_likelihoods).mean(axis=-1))


def length_normalised_entropy(log_likelihoods: ArrayLike, lengths: ArrayLike) -> np.ndarray | float:
    """Predictive entropy per token.

    -(1 / M) sum_m a_m,  a_m = l_m / n_m        Malinin & Gales 2021, arXiv:2002.07650

    Args:
        log_likelihoods: [..., sample], l_m: summed over the tokens of the response, in nats.
        lengths: [..., sample], n_m: number of tokens, the end-of-turn token included.

    Returns:
        Nats per token, [...]; a float for one set.

    Raises:
        InputError: shapes differ, a length is below 1, a log-likelihood is above 0 or not finite, or fewer than two
            samples.
    """
    return plain(-per_token(log_likelihoods, lengths).mean(axis=-1))


def per_token(log_likelihoods: ArrayLike, lengths: ArrayLike) -> np.ndarray:
    """Length-normalised log-likelihoods a_m = l_m / n_m, which semantic entropy takes.

    Args:
        log_likelihoods: [..., sample], l_m in nats.
        lengths: [..., sample], n_m tokens.

    Returns:
        Nats per token, [..., sample].

    Raises:
        InputError: as in `length_normalised_entropy`.
    """
    values, lengths = log_likelihoods_of(log_likelihoods), np.asarray(lengths, dtype=float)
    check_same_shape(values, lengths, "log_likelihoods and lengths")
    if not (lengths >= 1).all():
        raise InputError(
            f"lengths count the tokens of a response, end-of-turn included: at least 1, got {np.min(lengths)}"
        )
    return values / lengths


def lexical_similarity(texts: Sequence[str]) -> float:
    """How alike the wording of the samples is: mean ROUGE-L F over all pairs. Higher = surer.

    2 / (M (M - 1)) sum_{i < j} ROUGE-L_F(i, j)        as in Kuhn et al. 2023, arXiv:2302.09664; ROUGE-L: Lin 2004

    By the package rouge_score: words in lower case, no stemming. Identical texts count 1, blank ones too.

    Args:
        texts: the samples of one set.

    Returns:
        From 0 to 1.

    Raises:
        InputError: fewer than two texts.
    """
    return float(lexical_similarities([texts])[0])


def lexical_similarities(sets: Sequence[Sequence[str]], *, progress: Progress | None = None) -> np.ndarray:
    """`lexical_similarity` of many sets; a text is split into words once, a pair of texts compared once.

    Args:
        sets: [set][sample], texts; sets may differ in size.
        progress: called with the number of sets done and of all.

    Returns:
        [set], from 0 to 1.

    Raises:
        InputError: a set has fewer than two texts.
    """
    for texts in sets:
        check_samples(np.asarray(texts, dtype=object), "texts")
    compare = _rouge_l()
    known: dict[tuple[str, str], float] = {}
    values = np.empty(len(sets))
    for s, texts in enumerate(sets):
        total = 0.0
        for i, first in enumerate(texts):
            for second in texts[i + 1 :]:
                pair = (first, second) if first <= second else (second, first)
                if pair not in known:
                    known[pair] = compare(*pair)
                total += known[pair]
        values[s] = 2 * total / (len(texts) * (len(texts) - 1))
        if progress is not None:
            progress(s + 1, len(sets))
    return values


def first_token_entropy(logits: Logits) -> "np.ndarray | float | torch.Tensor":
    """Entropy of the distribution of the first token of the response: cheap, exact and differentiable.

    H(softmax(logits)), in float32 or better. Report it beside semantic entropy, with their `rank_correlation`: two
    openings of one meaning count as uncertainty here, two meanings after one opening do not.

    Args:
        logits: [..., d_vocab], raw, an array or a torch tensor; -inf where a token is impossible.

    Returns:
        Nats, [...]: a tensor on the same device for a tensor (gradients flow), else an array, or a float.

    Raises:
        InputError: a logit is nan or +inf, or a row has none that is finite.
    """
    is_tensor = hasattr(logits, "log_softmax")
    x = logits.to(_at_least_float32(logits.dtype)) if is_tensor else np.asarray(logits, dtype=float)
    top = x.max(-1).values if is_tensor else x.max(-1)  # nan, inf or -inf wherever the row is of no use
    if not bool((abs(top) < float("inf")).all()):
        raise InputError("logits are finite, or -inf for impossible tokens: got a row with nan, +inf or only -inf")
    if is_tensor:
        log_p = x.log_softmax(-1)
        return -(log_p.exp() * log_p.masked_fill(log_p == -float("inf"), 0.0)).sum(-1)
    log_p = x - top[..., None] - np.log(np.exp(x - top[..., None]).sum(-1))[..., None]
    return plain(-(np.exp(log_p) * np.where(np.isneginf(log_p), 0.0, log_p)).sum(-1))


def rank_correlation(
    first_token: ArrayLike,
    semantic: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: Seed = 0,
) -> Estimate:
    """Spearman's rank correlation of two uncertainties, e.g. first-token and semantic entropy, ties at mid-ranks.

    Args:
        first_token: [row].
        semantic: [row]; rows where either is nan are left out.
        clusters: [row], the item of each row, resampled together; None: every row is an item.
        level: of the interval.
        n_boot: number of resamples.
        seed: an integer, or a generator of the caller's own.

    Returns:
        The correlation with its bootstrap interval over items; nan where one of them does not vary.

    Raises:
        InputError: lengths differ, or level or n_boot is out of range.
    """
    a, b = np.asarray(first_token, dtype=float), np.asarray(semantic, dtype=float)
    if a.ndim != 1 or a.shape != b.shape:
        raise InputError(f"expected two columns of one length, [row], got shapes {a.shape} and {b.shape}")
    clusters = np.arange(len(a)) if clusters is None else np.asarray(clusters)
    if clusters.shape != a.shape:
        raise InputError(f"expected one cluster a row, got {a.shape[0]} rows and clusters of shape {clusters.shape}")
    known = ~np.isnan(a + b)
    codes = np.column_stack([np.unique(x[known], return_inverse=True)[1] for x in (a, b)])  # same order, same ties
    return cluster_bootstrap(codes, clusters[known], statistic=_spearman, level=level, n_boot=n_boot, seed=seed)


def _spearman(codes: np.ndarray) -> float:
    """Pearson's correlation of the mid-ranks of two columns of small integers; nan where one is constant.

    By counting, not by sorting, as it is done for every resample.
    """
    ranks = np.empty(codes.shape)
    for c, column in enumerate(codes.T.astype(int)):
        counts = np.bincount(column)
        ranks[:, c] = (np.cumsum(counts) - (counts - 1) / 2)[column]
    ranks -= ranks.mean(axis=0)
    spread = np.sqrt((ranks**2).sum(axis=0).prod())
    return float((ranks[:, 0] * ranks[:, 1]).sum() / spread) if spread > 0 else float("nan")


def _rouge_l() -> Callable[[str, str], float]:
    """ROUGE-L F of two texts, the words of a text remembered."""
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

    class Remembering(Tokenizer):
        def __init__(self):
            self.plain, self.words = DefaultTokenizer(), {}

        def tokenize(self, text: str) -> list[str]:
            if text not in self.words:
                self.words[text] = self.plain.tokenize(text)
            return self.words[text]

    scorer = RougeScorer(["rougeL"], tokenizer=Remembering())

    def compare(first: str, second: str) -> float:
        return 1.0 if first == second else float(scorer.score(first, second)["rougeL"].fmeasure)

    return compare


def _at_least_float32(dtype: "torch.dtype") -> "torch.dtype":
    import torch

    return torch.promote_types(dtype, torch.float32)

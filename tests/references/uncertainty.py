"""Uncertainties as one would work them out on a blackboard: dictionaries and loops, one set of samples at a time."""

import math

import torch


def members(cluster_ids):
    """Cluster -> positions of its samples."""
    groups = {}
    for position, cluster in enumerate(cluster_ids):
        groups.setdefault(int(cluster), []).append(position)
    return groups


def semantic_entropy(log_likelihoods, cluster_ids):
    weights = [math.exp(a) for a in log_likelihoods]
    total = math.fsum(weights)
    entropy = 0.0
    for positions in members(cluster_ids).values():
        p = math.fsum(weights[m] for m in positions) / total
        entropy -= p * math.log(p) if p > 0 else 0.0
    return entropy


def semantic_entropy_without_repeats(log_likelihoods, cluster_ids, sequences):
    """Only the first of equal sequences is kept."""
    kept = [m for m, s in enumerate(sequences) if list(sequences).index(s) == m]
    return semantic_entropy([log_likelihoods[m] for m in kept], [cluster_ids[m] for m in kept])


def discrete_semantic_entropy(cluster_ids):
    return semantic_entropy([0.0] * len(cluster_ids), cluster_ids)


def miller_madow(cluster_ids):
    return discrete_semantic_entropy(cluster_ids) + (len(set(cluster_ids)) - 1) / (2 * len(cluster_ids))


def kuhn_released(log_likelihoods, cluster_ids):
    """The steps of the released function for one prompt: a log mass a cluster, less 5, averaged, minus."""
    a, ids = torch.as_tensor(log_likelihoods, dtype=torch.float64), torch.as_tensor(cluster_ids)
    masses = [torch.logsumexp(a[ids == cluster], dim=0) for cluster in torch.unique(ids)]
    shifted = torch.stack(masses) - 5.0
    return float(-shifted.sum() / len(shifted))


def cluster_nll(log_likelihoods, cluster_ids):
    groups = members(cluster_ids).values()
    return sum(sum(-log_likelihoods[m] for m in group) / len(group) for group in groups) / len(groups)


def choice_entropies(probabilities):
    """total, within, order of one question, from a list of distributions."""

    def entropy(p):
        return -sum(x * math.log(x) for x in p if x > 0)

    q = [sum(row[o] for row in probabilities) / len(probabilities) for o in range(len(probabilities[0]))]
    within = sum(entropy(row) for row in probabilities) / len(probabilities)
    return entropy(q), within, entropy(q) - within


def one_by_one(texts, same):
    """Each sample joins the first cluster whose first member means the same, or opens one; blanks belong together."""
    representatives, ids = [], []
    for text in (text.strip() for text in texts):
        for cluster, first in enumerate(representatives):
            if text == first or (text and first and same(first, text)):
                ids.append(cluster)
                break
        else:
            representatives.append(text)
            ids.append(len(representatives) - 1)
    return ids


def mean_rouge_l(texts):
    """Every ordered pair by the library, none remembered."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    scores = [
        1.0 if a == b else scorer.score(a, b)["rougeL"].fmeasure
        for i, a in enumerate(texts)
        for j, b in enumerate(texts)
        if i != j
    ]
    return sum(scores) / len(scores)

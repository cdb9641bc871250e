"""Calibration errors as one would explain them on a blackboard: loops and dictionaries."""

from fractions import Fraction


def expected_calibration_error(confidence, correct, n_bins):
    """Walk through the bins [0, 1/B], (1/B, 2/B], ...; compare mean confidence and accuracy of those inside."""
    n, total = len(confidence), 0.0
    for b in range(n_bins):
        low, high = b / n_bins, (b + 1) / n_bins
        inside = [i for i, c in enumerate(confidence) if (low < c <= high) or (b == 0 and c == 0)]
        if inside:
            mean_confidence = sum(confidence[i] for i in inside) / len(inside)
            accuracy = sum(correct[i] for i in inside) / len(inside)
            total += len(inside) / n * abs(accuracy - mean_confidence)
    return total


def equal_count_bins(values, n_bins):
    """Deal the sorted rows into bins of equal count; then join a bin to the one before while they share a value."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    n_bins = min(n_bins, len(values))
    dealt = [[] for _ in range(n_bins)]
    for place, i in enumerate(order):
        dealt[place * n_bins // len(order)].append(i)
    merged = []
    for rows in dealt:
        if merged and values[merged[-1][-1]] == values[rows[0]]:
            merged[-1].extend(rows)
        else:
            merged.append(list(rows))
    return merged


def rank_calibration_error(uncertainty, correctness, n_bins, ties="definition"):
    """Compare every bin with every bin, in exact fractions."""
    bins = equal_count_bins(uncertainty, n_bins)
    n = len(uncertainty)
    share = [Fraction(len(rows), n) for rows in bins]
    reg = [sum((Fraction(float(correctness[i])) for i in rows), Fraction(0)) / len(rows) for rows in bins]
    total = Fraction(0)
    for b in range(len(bins)):
        better = sum((share[c] for c in range(len(bins)) if reg[c] > reg[b]), Fraction(0))
        equal = sum((share[c] for c in range(len(bins)) if reg[c] == reg[b]), Fraction(0))
        before = sum(share[:b], Fraction(0))
        if ties == "mid":
            total += share[b] * abs(better + equal / 2 - before - share[b] / 2)
        else:
            total += share[b] * abs(better + equal - before - share[b])
    return float(total)

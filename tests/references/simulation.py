"""Slow, obvious versions of the simulations' numbers: scikit-learn, one fold, one item, one regression at a time."""

import numpy as np


def cross_validated(features, labels, folds):
    """Margins of each row from scikit-learn's logistic regression on the rows of the other folds."""
    from sklearn.linear_model import LogisticRegression

    margins = np.zeros(len(labels))
    for fold in np.unique(folds):
        held = folds == fold
        model = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(features[~held], labels[~held])
        margins[held] = model.decision_function(features[held])
    return margins


def changes_by_hand(table, column):
    """(item, arm, round) -> change since the round before, where both are there."""
    value = {(row.item_id, row.arm, row.round): getattr(row, column) for row in table.itertuples()}
    return {
        (item, arm, t): now - value[item, arm, t - 1]
        for (item, arm, t), now in value.items()
        if (item, arm, t - 1) in value and not np.isnan(now - value[item, arm, t - 1])
    }


def observed_slope(world, *, adjust):
    """Coefficient of the change of the concept in a regression of the change in uncertainty, row by row."""
    rows, outcome = [], []
    items, rounds, arms = world.concept.shape
    for i in range(items):
        for x in range(arms):
            for t in range(1, rounds):
                row = [1.0, world.concept[i, t, x] - world.concept[i, t - 1, x]]
                rows.append(row + [world.confounder[i, t] - world.confounder[i, t - 1]] * adjust)
                outcome.append(world.uncertainty[i, t, x] - world.uncertainty[i, t - 1, x])
    return np.linalg.lstsq(np.array(rows), np.array(outcome), rcond=None)[0][1]

"""A number with its interval, and the only bootstrap, permutation test and equivalence test of the package.

The unit is the item: all rounds, arms and samples of one item are resampled together, because they resemble each other.
Resampling rows instead would make intervals too narrow.
"""

from mechmsc.estimate.bootstrap import (
    cluster_bootstrap,
    cluster_bootstrap_columns,
    cluster_bootstrap_weighted,
    equivalence_test,
)
from mechmsc.estimate.permutation import (
    benjamini_hochberg,
    max_statistic_test,
    permutation_test,
    permutation_test_cells,
)
from mechmsc.estimate.proportions import proportion_interval
from mechmsc.estimate.records import Equivalence, Estimate
from mechmsc.estimate.resampling import Seed

__all__ = [
    "Equivalence",
    "Estimate",
    "Seed",
    "benjamini_hochberg",
    "cluster_bootstrap",
    "cluster_bootstrap_columns",
    "cluster_bootstrap_weighted",
    "equivalence_test",
    "max_statistic_test",
    "permutation_test",
    "permutation_test_cells",
    "proportion_interval",
]

"""When does a curve over rounds settle? Convergence round, decay fit, flips, lag, contrasts of arms.

Functions of tables with a row per (item_id, arm, round), such as a run's transcripts; with a column `task`, every task
is treated by itself. Items are the unit of every interval.
"""

from mechmsc.convergence.contrasts import arm_contrasts
from mechmsc.convergence.decay import decay_fit
from mechmsc.convergence.flips import flip_rate
from mechmsc.convergence.lag import lag_regression
from mechmsc.convergence.settling import convergence_round

__all__ = ["arm_contrasts", "convergence_round", "decay_fit", "flip_rate", "lag_regression"]

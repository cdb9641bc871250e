"""Does confidence mean what it says? Calibration error, rank calibration, Brier score, reliability.

Plain functions of arrays, one row an item. `calibration_summary` (confidence against correctness) and
`rank_calibration` (uncertainty against correctness) put intervals and nulls beside the errors.
"""

from mechmsc.calibration.confidence import expected_calibration_error, reliability_diagram
from mechmsc.calibration.rank import rank_calibration, rank_calibration_error
from mechmsc.calibration.scores import brier_score, negative_log_likelihood
from mechmsc.calibration.summary import calibration_summary

__all__ = [
    "brier_score",
    "calibration_summary",
    "expected_calibration_error",
    "negative_log_likelihood",
    "rank_calibration",
    "rank_calibration_error",
    "reliability_diagram",
]

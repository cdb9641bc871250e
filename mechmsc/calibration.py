"""Does confidence mean what it says? Calibration error, rank calibration, Brier score, reliability."""

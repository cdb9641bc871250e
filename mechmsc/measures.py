"""A run -> its measures: concept, uncertainty and calibration by item, arm, round and layer."""

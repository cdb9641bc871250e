"""Concept directions: a probe and a steering vector in one record, fitted on labelled statements and validated."""

from mechmsc.directions.record import Direction

__all__ = ["Direction"]

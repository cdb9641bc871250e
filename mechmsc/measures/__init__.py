"""A run -> its measures: uncertainty, concept, score by item, arm and round; and what they say of groups of items.

measure_run     fills RUN/measures.parquet and RUN/summaries.parquet
MEASURES        what can be asked for by name
"""

from mechmsc.measures.catalogue import MEASURES, Measure
from mechmsc.measures.measured import MARGINS
from mechmsc.measures.run import DEFAULT, measure_run

__all__ = ["DEFAULT", "MARGINS", "MEASURES", "Measure", "measure_run"]

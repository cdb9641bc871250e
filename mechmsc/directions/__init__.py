"""Concept directions: a probe and a steering vector in one record, fitted on labelled statements and validated.

    activations = read_statements(model, statements)                  once, for every method and for evaluation
    direction = fit_direction(model, statements, method="lda", activations=activations)
    direction.score(run.activations["resid_post.prompt_end"])         in class gaps

`METHODS` holds the six fits. Two are made for activations of their own: `caa` for `read_letters`, `ccs` for
`read_sides`; midpoints, gaps and scores are those of plain statements for all of them.
"""

from mechmsc.directions.exchange import export_vectors, import_vectors
from mechmsc.directions.files import load_direction
from mechmsc.directions.fits import METHODS, Fit
from mechmsc.directions.fitting import direction_from, fit_direction
from mechmsc.directions.reading import read_letters, read_sides, read_statements
from mechmsc.directions.record import Direction

__all__ = [
    "METHODS",
    "Direction",
    "Fit",
    "direction_from",
    "export_vectors",
    "fit_direction",
    "import_vectors",
    "load_direction",
    "read_letters",
    "read_sides",
    "read_statements",
]

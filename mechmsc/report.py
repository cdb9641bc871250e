"""Figures of a run: which there are, and where they go."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mechmsc.errors import InputError, nearest
from mechmsc.runs import Run
from mechmsc.runs.effects import effect_names, read_effect

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas

SMALL = ("smollm2-135m-instruct",)
"""Models whose results say that the tools work, and nothing about large models."""


def make_figures(run: Run, names: Sequence[str] | None = None, *, formats: Sequence[str] = ("png",)) -> list[str]:
    """Draw figures of a run into its folder, each beside a table of the numbers in it.

    Args:
        run: finished, or as far as it is.
        names: of `FIGURES`; None draws all that the run has numbers for.
        formats: of png, pdf, svg.

    Returns:
        The files written, in RUN/figures.

    Raises:
        InputError: an unknown figure or format, or nothing to draw.
    """
    from mechmsc.figures.saving import save_figure

    for name in names or FIGURES:
        if name not in FIGURES:
            raise InputError(f"unknown figure {name!r}: {nearest(name, FIGURES)}")
    written: list[str] = []
    for name in names or FIGURES:
        try:
            figure, table = FIGURES[name](run)
        except InputError:
            if names or name == "performance":
                raise
            continue  # not measured or analysed yet
        with tempfile.TemporaryDirectory() as folder:
            for path in save_figure(figure, table, Path(folder), name, formats=formats):
                run.folder.write(f"figures/{path.name}", path.read_bytes())
                written.append(run.folder.at(f"figures/{path.name}"))
    return written


def caption(run: Run) -> str:
    """What every figure says of the run it shows."""
    model, config = run.manifest["model"], run.manifest["config"]
    text = f"{model['name']}, {config['dtype']}, seed {config['seed']}."
    if run.status != "complete":
        text += " The run is not complete."
    if model["name"] in SMALL:
        text += " A 135M model shows that the tools work; it is no evidence about large models."
    return text


Drawn = "tuple[matplotlib.figure.Figure, pandas.DataFrame]"


def _performance(run: Run) -> Drawn:
    from mechmsc.figures.performance import draw_performance, performance_table

    table = performance_table(run.transcripts)
    if table.empty:
        raise InputError(f"{run.path} has no scores to draw yet: wait for its first batch, or name a scorer")
    return draw_performance(table, caption=caption(run)), table


def _measured(run: Run) -> "tuple[pandas.DataFrame, pandas.DataFrame]":
    measures, summaries = run.measures, run.summaries
    if measures is None or summaries is None:
        raise InputError(f"{run.path} was not measured yet: run mechmsc measure {run.path}")
    return measures, summaries


def _uncertainty(run: Run) -> Drawn:
    from mechmsc.figures.uncertainty import draw_uncertainty, uncertainty_table

    table = uncertainty_table(_measured(run)[1])
    return draw_uncertainty(table, caption=caption(run)), table


def _calibration(run: Run) -> Drawn:
    from mechmsc.figures.calibration import calibration_table, draw_calibration

    measures, summaries = _measured(run)
    table = calibration_table(summaries, measures)
    return draw_calibration(table, caption=caption(run)), table


def _convergence(run: Run) -> Drawn:
    from mechmsc.figures.convergence import convergence_table, draw_convergence

    table = convergence_table(_measured(run)[1])
    return draw_convergence(table, caption=caption(run)), table


def _concept(run: Run) -> Drawn:
    from mechmsc.figures.concept import concept_table, draw_concept

    table = concept_table(_measured(run)[0])
    return draw_concept(table, caption=caption(run)), table


def _concept_layers(run: Run) -> Drawn:
    from mechmsc.figures.concept_layers import concept_layers_table, draw_concept_layers

    table = concept_layers_table(_measured(run)[0])
    return draw_concept_layers(table, caption=caption(run)), table


def _dose(run: Run) -> Drawn:
    from mechmsc.causal import dose_curves, dose_table
    from mechmsc.figures.dose import draw_dose

    doses, settings = _effect(run, "dose", "mechmsc dose")
    curves, tests = dose_curves(doses), dose_table(doses)
    where = f"Arm {doses.attrs['arm']}, steered at {doses.attrs['site']}, layers {doses.attrs['layers']}."
    said = f"{where} {caption(run)}"
    return draw_dose(curves, tests, concept=settings["direction"]["concept"], caption=said), curves


def _mediation(run: Run) -> Drawn:
    from mechmsc.causal import mediation_table
    from mechmsc.figures.mediation import draw_mediation

    worlds, _ = _effect(run, "mediation", "mechmsc mediate")
    table, said = mediation_table(worlds), worlds.attrs
    mediator = said["concept"] or "activation"
    where = f"Mediator at {said['site']}; history: {said['history']}."
    drawn = draw_mediation(
        table,
        treatment=said["treatment"],
        control=said["control"],
        mediator=mediator,
        caption=f"{where} {caption(run)}",
    )
    return drawn, table


def _patch(run: Run) -> Drawn:
    from mechmsc.patching.runs import patch_figure

    effect, _ = _effect(run, "patch", "mechmsc patch")
    first = str(effect["outcome"].values[0]) if "outcome" in effect.dims else None
    return patch_figure(run, outcome=first, caption=caption(run))


def _predictive(run: Run) -> Drawn:
    from mechmsc.figures.simulation import draw_predictive

    table, _ = _effect(run, "predictive", "mechmsc simulate")
    return draw_predictive(table, caption=caption(run)), table


def _posterior(run: Run) -> Drawn:
    from mechmsc.figures.simulation import draw_posterior

    curves, fit = (_effect(run, name, "mechmsc simulate")[0] for name in ("posterior_curves", "posterior"))
    return draw_posterior(curves, fit, caption=caption(run)), curves


def _effect(run: Run, name: str, command: str):  # noqa: ANN202 - a Dataset and its settings
    if name not in effect_names(run.folder):
        raise InputError(f"{run.path} has no {name} effect yet: run {command} {run.path}")
    return read_effect(run.folder, name)


FIGURES: "dict[str, Callable[[Run], tuple[matplotlib.figure.Figure, pandas.DataFrame]]]" = {
    "performance": _performance,
    "concept": _concept,
    "concept_layers": _concept_layers,
    "uncertainty": _uncertainty,
    "calibration": _calibration,
    "convergence": _convergence,
    "patch": _patch,
    "dose": _dose,
    "mediation": _mediation,
    "predictive": _predictive,
    "posterior": _posterior,
}
"""Name on the command line -> the figure of a run and its numbers."""

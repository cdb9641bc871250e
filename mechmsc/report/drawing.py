"""Figures of a run: which there are, and where they go."""

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
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
        names: of `figures_of`; None draws all that the run has numbers for.
        formats: of png, pdf, svg.

    Returns:
        The files written, in RUN/figures.

    Raises:
        InputError: an unknown figure or format, or nothing to draw.
    """
    known = figures_of(run)
    for name in names or ():
        if name not in known:
            raise InputError(f"unknown figure {name!r}: {nearest(name, known)}")
    written: list[str] = []
    for name in names or known:
        try:
            written += store_figure(run, name, formats=formats)[0]
        except InputError:
            if names or name == "performance":
                raise  # else: not measured or analysed yet
    return written


def store_figure(run: Run, name: str, *, formats: Sequence[str] = ("png",)) -> "tuple[list[str], pandas.DataFrame]":
    """Draw one figure of `figures_of` into RUN/figures.

    Returns:
        The files written, and the table of its numbers.

    Raises:
        InputError: an unknown format, or the run has no numbers for it.
    """
    from mechmsc.figures.saving import save_figure

    figure, table = figures_of(run)[name](run)
    written = []
    with tempfile.TemporaryDirectory() as folder:
        for path in save_figure(figure, table, Path(folder), name, formats=formats):
            run.folder.write(f"figures/{path.name}", path.read_bytes())
            written.append(run.folder.at(f"figures/{path.name}"))
    return written, table


def figures_of(run: Run) -> "dict[str, Callable[[Run], tuple[matplotlib.figure.Figure, pandas.DataFrame]]]":
    """`FIGURES`, and a figure for each analysis that was stored under a name of its own."""
    own = {}
    for name, analysis in analyses_of(run).items():
        if analysis in NAMED and name not in FIGURES:
            own[name] = partial(NAMED[analysis], name=name)
    return FIGURES | own


def analyses_of(run: Run) -> dict[str, str]:
    """Name of each stored effect -> the analysis that made it; those under their first name come first."""
    found = {}
    for name in effect_names(run.folder):
        settings = json.loads(run.folder.read(f"effects/{name}.json") or b"{}")
        found[name] = str(settings.get("analysis", ""))
    return dict(sorted(found.items(), key=lambda pair: (pair[0] not in FIGURES, pair[0])))


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


def _injection(run: Run) -> Drawn:
    from mechmsc.causal import injected_arms, injection_effects
    from mechmsc.figures.injection import draw_injection

    arms = injected_arms(run)
    table = injection_effects(run, **arms)
    return draw_injection(table, **arms, caption=caption(run)), table


def _dose(run: Run, name: str = "dose") -> Drawn:
    from mechmsc.causal import dose_curves, dose_table
    from mechmsc.figures.dose import draw_dose

    doses, settings = _effect(run, name, "mechmsc dose")
    curves, tests = dose_curves(doses), dose_table(doses)
    where = f"Arm {doses.attrs['arm']}, steered at {doses.attrs['site']}, layers {doses.attrs['layers']}."
    said = f"{where} {caption(run)}"
    return draw_dose(curves, tests, concept=settings["direction"]["concept"], caption=said), curves


def _mediation(run: Run, name: str = "mediation") -> Drawn:
    from mechmsc.causal import mediation_table
    from mechmsc.figures.mediation import draw_mediation

    worlds, _ = _effect(run, name, "mechmsc mediate")
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


def _patch(run: Run, name: str = "patch") -> Drawn:
    from mechmsc.figures.patching import conditions, patch_grid, patching_table

    effect, _ = _effect(run, name, "mechmsc patch")
    if {"position", "head"} <= set(effect.dims):
        raise InputError(f"effect {name!r} has heads and positions, and a map has two axes: choose a head or a token")
    effect = effect.drop_dims("item")
    first = str(effect["outcome"].values[0]) if "outcome" in effect.dims else None
    said = f"{conditions(effect)} {caption(run)}"
    return patch_grid(effect, outcome=first, caption=said), patching_table(effect)


def _predictive(run: Run) -> Drawn:
    from mechmsc.figures.simulation import draw_predictive

    table = _as_asked(run, _effect(run, "predictive", "mechmsc simulate")[0])
    return draw_predictive(table, caption=caption(run)), table


def _posterior(run: Run) -> Drawn:
    from mechmsc.figures.simulation import draw_posterior

    names = "posterior_curves", "posterior"
    curves, fit = (_as_asked(run, _effect(run, name, "mechmsc simulate")[0]) for name in names)
    return draw_posterior(curves, fit, caption=caption(run)), curves


def _as_asked(run: Run, table: "pandas.DataFrame") -> "pandas.DataFrame":
    """The rows in the run's own order of tasks and arms, in which every figure names them."""
    config = run.manifest["config"]
    for column, wanted in (("arm", config["arms"]), ("task", config["tasks"])):
        if column in table:
            place = {name: place for place, name in enumerate(wanted)}
            table = table.sort_values(column, key=lambda names, place=place: names.map(place), kind="stable")
    return table.reset_index(drop=True)


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
    "injection": _injection,
    "predictive": _predictive,
    "posterior": _posterior,
}
"""Name on the command line -> the figure of a run and its numbers."""

NAMED = {"mediate": _mediation, "dose_response": _dose, "patch_run": _patch}
"""Analyses that may be stored under names of their own."""

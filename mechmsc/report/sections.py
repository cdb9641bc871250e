"""The sections of the page: what each shows, its figures and tables, or the command that would make its numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mechmsc.report.carried import dosed, mediated
from mechmsc.report.drawing import analyses_of
from mechmsc.report.tables import Table, by_measure, by_round, contrast_table, effect_table, plain_table
from mechmsc.report.words import plain
from mechmsc.runs import Run
from mechmsc.runs.effects import read_effect

if TYPE_CHECKING:
    import pandas

STRONGEST = 10
"""Cells of a patching map that the table shows; the file has all."""


class Section(NamedTuple):
    """A part of the page."""

    title: str
    about: str
    """What the reader sees, in a sentence or two."""
    figures: Sequence[str]
    """Names of figures in RUN/figures; those that are not there are left out."""
    tables: Sequence[Table]
    missing: str = ""
    """What would make the numbers of a section without any."""


class Held(NamedTuple):
    """What a run has for its sections."""

    run: Run
    contrasts: "pandas.DataFrame"
    numbers: "Mapping[str, pandas.DataFrame]"
    """Name of a figure -> the table behind it."""


def sections_of(run: Run, contrasts: "pandas.DataFrame", numbers: "Mapping[str, pandas.DataFrame]") -> list[Section]:
    """All sections in order.

    Args:
        run: whose page it is.
        contrasts: from `contrasts`.
        numbers: name of a figure -> the table behind it, for the figures that could be drawn.
    """
    return [make(Held(run, contrasts, numbers)) for make in SECTIONS]


def _performance(held: Held) -> Section:
    about = "Mean score by round and arm. Each arm is an instruction schedule; all arms answer the same items."
    tables = []
    for (task, measure, better), rows in _groups(held.numbers.get("performance"), ["task", "measure", "direction"]):
        title = f"{task}: {plain(measure)} ({better} is better)"
        tables.append(by_round(rows[rows["group"] == ""], title, "figures/performance.csv"))
    return _section("Performance", about, ["performance"], tables, contrast_table(held.contrasts, ["performance"]), "")


def _concept(held: Held) -> Section:
    about = (
        "Coordinate of the activations along the concept's direction, in class gaps: 1 is the distance between the two "
        "classes of statements that the direction was fitted on. That it differs between arms says that the "
        "instruction reaches it; other directions move, too, and only interventions tell what it does."
    )
    tables = []
    for (task, layers, source), rows in _groups(held.numbers.get("concept"), ["task", "layers", "source"]):
        if "-" in layers:
            title = f"{task}: {source}, mean over layers {layers}, {plain(rows['position'].iloc[0])}"
            tables.append(by_round(rows, title, "figures/concept.csv"))
    command = f"mechmsc measure {held.run.path} --direction FILE (from mechmsc fit)"
    names = ["concept", "concept_layers"]
    return _section("Concept", about, names, tables, contrast_table(held.contrasts, ["concept"]), command)


def _uncertainty(held: Held) -> Section:
    about = (
        "Entropies in nats. Of choices between options the total, which counts the option order's influence, and what "
        "is left within an order."
    )
    tables = []
    for (task, measure, source), rows in _groups(held.numbers.get("uncertainty"), ["task", "measure", "source"]):
        rows = rows[rows["group"] == ""]
        tables.append(by_round(rows, f"{task}: {plain(measure)} ({source})", "figures/uncertainty.csv"))
    beside = contrast_table(held.contrasts, ["uncertainty", "fall", "fall_beyond"])
    return _section("Uncertainty", about, ["uncertainty"], tables, beside, f"mechmsc measure {held.run.path}")


def _calibration(held: Held) -> Section:
    about = (
        "Errors of confidence (ECE) and of the rank of uncertainty (RCE), each beside what chance (null) and a perfect "
        "ranking (perfect) would show at the same scores."
    )
    table, tables = held.numbers.get("calibration"), []
    if table is not None:
        table = table[table["kind"] == "by round"]
    for (task, source), rows in _groups(table, ["task", "source"]):
        tables.append(by_measure(rows, f"{task}: of {plain(source)}", "figures/calibration.csv"))
    return _section("Calibration", about, ["calibration"], tables, None, f"mechmsc measure {held.run.path}")


def _convergence(held: Held) -> Section:
    about = (
        "The first round from which every later round differs by less than the margin (an equivalence test at 5 %); "
        "and the time constant of an exponential fit, where there is a change to time."
    )
    table, tables = held.numbers.get("convergence"), []
    if table is not None:
        ends = table[table["kind"] != "curve"]
        body = []
        for (task, curve, arm), rows in ends.groupby(["task", "curve", "arm"], sort=False):
            found = rows.set_index("measure")
            body.append([task, plain(curve), arm, *_settled(found), str(int(rows["n"].iloc[0]))])
        head = ["task", "curve", "arm", "settled from round", "margin", "tau (rounds)", "n"]
        tables = [Table("Convergence", head, body, "figures/convergence.csv", "tau: 95 % intervals over items.")]
    command = f"three rounds or more, and mechmsc measure {held.run.path}"
    return _section("Convergence", about, ["convergence"], tables, None, command)


def _settled(found: "pandas.DataFrame") -> list[str]:
    from mechmsc.report.tables import estimate

    end = found.loc["convergence_round"] if "convergence_round" in found.index else None
    if end is None:
        settled = margin = ""
    else:
        margin = f"{found.loc['convergence_margin', 'value']:g}"
        settled = f"{end['value']:.0f}" if end["value"] == end["value"] else "not within these rounds"
    tau = found.loc["decay_tau"] if "decay_tau" in found.index else None
    return [settled, margin, "" if tau is None or tau["value"] != tau["value"] else estimate(tau)]


def _patching(held: Held) -> Section:
    about = (
        "Activations of one arm written into conversations of another, one place at a time: how far the outcome moves, "
        "and its share of the difference between the arms."
    )
    names, tables = _named(held.run, "patch_run"), []
    for name in names:
        effect, _ = read_effect(held.run.folder, name)
        tables += _cells(name, effect.drop_dims("item"))
    command = f"mechmsc patch {held.run.path} --from moral --to neutral"
    return _section("Patching grid", about, names, tables, None, command)


def _cells(name: str, effect) -> list[Table]:  # noqa: ANN001 - an xarray Dataset
    from mechmsc.figures.patching import patching_table

    table = patching_table(effect)
    outcomes = (
        table.groupby("outcome", sort=False) if "outcome" in table else [(effect.attrs.get("outcome", ""), table)]
    )
    found = []
    for outcome, rows in outcomes:
        places = [key for key in ("component", "layer", "head", "span", "token", "position") if key in rows]
        top = rows.reindex(rows["effect"].abs().sort_values(ascending=False).index)[:STRONGEST]
        top = top.rename(columns={"effect": "value"}).assign(level=effect.attrs["level"])
        said = effect.attrs
        note = (
            f"{int(rows['significant'].sum())} of {len(rows)} cells differ from 0 after correction "
            f"({plain(said['correction'])}); the {len(top)} strongest are shown. Round {said['round_patched']}, from "
            f"{said['source_arm']} into {said['destination_arm']}, history {said['history']}."
        )
        columns = [*places, "value", "normalised", "p", "n"]
        title = f"{name}: {plain(str(outcome))}"
        found.append(plain_table(top, title, f"effects/{name}.nc", columns=columns, note=note))
    return found


def _dose(held: Held) -> Section:
    about = (
        "The concept is turned up and down by adding to the activation. Random directions that move it as far are the "
        "placebos; their effects have no sign, so sizes are compared."
    )
    names = _named(held.run, "dose_response")
    tables = [effect_table(dosed(held.run, name), name, f"effects/{name}.nc") for name in names]
    return _section("Dose-response", about, names, tables, None, f"mechmsc dose {held.run.path} --direction FILE")


def _mediation(held: Held) -> Section:
    about = (
        "The concept in one arm's conversation is set to what it was in the other's. Effects are means over items and "
        "rounds; the proportion is given only where the total effect is sure."
    )
    names = _named(held.run, "mediate")
    tables = [effect_table(mediated(held.run, name), name, f"effects/{name}.nc") for name in names]
    command = f"mechmsc mediate {held.run.path} --direction FILE --placebos 99"
    return _section("Mediation", about, names, tables, None, command)


def _injection(held: Held) -> Section:
    about = (
        "An arm whose instruction changes its stance in some rounds, minus its base, the same items: before the first "
        "such round, in these rounds, and in the others from then on. Before, the two hear the same."
    )
    table, tables = held.numbers.get("injection"), []
    if table is not None:
        rows = table[table["round"].isna()].drop(columns="p").rename(columns={"p_adjusted": "p"})
        columns = ["task", "measure", "source", "part", "value", "p", "n"]
        note = "p: sign flips of whole items, corrected over the parts of a measure."
        tables = [plain_table(rows, "Injected instruction", "figures/injection.csv", columns=columns, note=note)]
    command = "mechmsc run with --arms moral,moral+immoral@2/5"
    return _section("Injection", about, ["injection"], tables, None, command)


def _simulation(held: Held) -> Section:
    about = (
        "Does the change of the concept predict whether uncertainty rises or falls, on items left out? This is the "
        "test of the paper; it is one of association and passes where there is no effect at all. Below it, the course "
        "of the concept as a sum of evidence."
    )
    tables = []
    there = analyses_of(held.run)
    if "predictive" in there:
        rows, _ = read_effect(held.run.folder, "predictive")
        columns = ["task", "predictor", "measure", "value", "p", "n"]
        tables.append(plain_table(rows, "Prediction", "effects/predictive.parquet", columns=columns))
    if "posterior" in there:
        rows, _ = read_effect(held.run.folder, "posterior")
        columns = ["task", "model", "quantity", "value", "n"]
        tables.append(plain_table(rows, "Evidence", "effects/posterior.parquet", columns=columns))
    names = ["predictive", "posterior"]
    return _section("Simulation", about, names, tables, None, f"mechmsc simulate {held.run.path}")


SECTIONS: tuple[Callable[..., Section], ...] = (
    *(
        _performance,
        _concept,
        _uncertainty,
        _calibration,
        _convergence,
        _patching,
        _dose,
        _mediation,
        _injection,
        _simulation,
    ),
)


def _section(
    title: str, about: str, figures: Sequence[str], tables: Sequence[Table], beside: Table | None, command: str
) -> Section:
    tables = [*tables, *([beside] if beside is not None and tables else [])]
    missing = "" if tables else f"Not in this run; made by: {command or 'a task with a scorer'}."
    return Section(title, about, figures, tables, missing)


def _named(run: Run, analysis: str) -> list[str]:
    return [name for name, made in analyses_of(run).items() if made == analysis]


def _groups(table: "pandas.DataFrame | None", keys: Sequence[str]):  # noqa: ANN202 - groups of a frame
    return [] if table is None or table.empty else table.groupby(list(keys), sort=False)

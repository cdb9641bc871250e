"""The longitudinal question: what does an instruction do at the rounds into which it is injected, and after them?"""

from typing import TYPE_CHECKING

from mechmsc.convergence import arm_contrasts
from mechmsc.errors import InputError
from mechmsc.instructions import parse_arms
from mechmsc.runs import Run

if TYPE_CHECKING:
    import pandas

PARTS = ("before", "injected", "after")
"""Rounds before the first injection; with it; the others from then on. Before, the two arms are the same but for their
samples, so an effect there is a sign of something wrong."""
UNCERTAINTIES = ("choice_entropy", "semantic_entropy", "first_token_entropy")
COLUMNS = ["task", "measure", "source", "part", "round", "value", "low", "high", "level", "n", "p", "p_adjusted"]


def injected_arms(run: Run) -> dict[str, str]:
    """The first mixed schedule of a run as `treatment`, and its base as `control`.

    Raises:
        InputError: there is none, or not beside its base.
    """
    arms = run.manifest["config"]["arms"]
    for arm in arms:
        base, _, injection = arm.partition("+")
        if injection and base in arms:
            return {"treatment": arm, "control": base}
    raise InputError(f"{run.path} has no mixed schedule beside its base; run it with --arms moral,moral+immoral@2/5/8")


def injected_rounds(run: Run, *, treatment: str, control: str) -> list[int]:
    """The rounds in which the two arms hear different instructions.

    Raises:
        InputError: the run lacks an arm, or the arms never differ, or always.
    """
    known, rounds = run.manifest["config"]["arms"], run.manifest["config"]["rounds"]
    missing = [arm for arm in (treatment, control) if arm not in known]
    if missing:
        raise InputError(f"{run.path} has no arm {missing[0]!r}; it has {', '.join(known)}")
    schedules = [parse_arms(arm, rounds=rounds)[0] for arm in (treatment, control)]
    differ = [at for at in range(1, rounds + 1) if len({one.stance(at) for one in schedules}) > 1]
    if len(differ) in (0, rounds):
        which = "in no round" if not differ else "in every round"
        raise InputError(
            f"{treatment!r} and {control!r} differ {which}; expected a schedule and its base, e.g. moral+immoral@2/5/8 "
            "and moral"
        )
    return differ


def injection_effects(
    run: Run,
    *,
    treatment: str,
    control: str,
    measures: tuple[str, ...] | None = None,
    layers: tuple[int, int] | None = None,
    level: float = 0.95,
    n_perm: int = 9999,
    seed: int = 0,
) -> "pandas.DataFrame":
    """Paired difference of a schedule and its base: by round, and over the rounds before, with and after injections.

    Args:
        run: measured; with a direction, the concept is looked at too.
        treatment: the arm with injections, e.g. "moral+immoral@2/5/8".
        control: the arm without, e.g. "moral".
        measures: names in measures.parquet; None: the scores, `UNCERTAINTIES` and the concept; of several directions a
            task is read by the one for its concept, as in `figures.concept`.
        layers: the band of the concept; None: the middle half.
        level: of the cluster-bootstrap intervals over items.
        n_perm: sign flips of whole items for the p-values.
        seed: of bootstrap and flips.

    Returns:
        task, measure, source, part (before, injected, after), round (missing: the mean over the part), value (treatment
        minus control, in the measure's unit), low, high, level, n (items), p and p_adjusted (over the rounds of a
        measure, and over its parts, by the maximum statistic).

    Raises:
        InputError: the arms do not fit, or nothing was measured.
    """
    import pandas as pd

    injected = injected_rounds(run, treatment=treatment, control=control)
    how = {"treatment": treatment, "control": control, "value": "value", "level": level, "n_perm": n_perm, "seed": seed}
    rows = []
    for (task, measure, source), table in _values(run, measures, layers):
        by_round = arm_contrasts(table, **how)
        numbers = {part: place for place, part in enumerate(PARTS)}
        parts = table.assign(round=[numbers[_part(at, injected)] for at in table["round"]])
        whole = parts.groupby(["item_id", "arm", "round"], as_index=False, sort=False)["value"].mean()
        by_part = arm_contrasts(whole, **how)
        by_part["part"] = [PARTS[place] for place in by_part["round"]]
        by_part["round"] = pd.NA
        by_round["part"] = [_part(int(at), injected) for at in by_round["round"]]
        for found in (by_round, by_part):
            rows.append(found.assign(task=task, measure=measure, source=source)[COLUMNS])
    if not rows:
        raise InputError(f"{run.path} has no measures of both arms: mechmsc measure {run.path}")
    return pd.concat(rows, ignore_index=True).astype({"round": "Int64"})


def _part(at: int, injected: list[int]) -> str:
    return "injected" if at in injected else "before" if at < injected[0] else "after"


def _values(run: Run, measures: tuple[str, ...] | None, layers: tuple[int, int] | None):  # noqa: ANN202 - an iterator
    """((task, measure, source), table with item_id, arm, round and value)."""
    import pandas as pd

    from mechmsc.figures.concept import grids, in_band

    table = run.measures
    if table is None:
        return
    table = table.assign(task=table["item_id"].str.split("/").str[0])
    scores = set(run.transcripts["score_name"].dropna())
    wanted = {*UNCERTAINTIES, *scores, "concept"} if measures is None else set(measures)
    flat = table[table["measure"].isin(wanted - {"concept"}) & table["layer"].isna()]
    yield from flat.groupby(["task", "measure", "source"], sort=False)
    if "concept" in wanted and (table["measure"] == "concept").any():
        for what, items, cells, grid, numbers in grids(table, "concept", None):
            means = grid[:, :, in_band(numbers, layers)].mean(axis=2)
            wide = pd.DataFrame(means, index=items, columns=pd.MultiIndex.from_tuples(cells, names=["arm", "round"]))
            long = wide.unstack().rename("value").rename_axis(["arm", "round", "item_id"]).reset_index()
            yield (what["task"], "concept", what["source"]), long

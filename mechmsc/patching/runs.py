"""Patching between two arms of a run, stored in it: RUN/effects/NAME.nc with its settings, and its figure."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mechmsc.causal.histories import Pair, pairs_of
from mechmsc.causal.stored import settings_of
from mechmsc.chat import ChatFormat
from mechmsc.errors import InputError, nearest
from mechmsc.outcomes import OUTCOMES, named_outcome
from mechmsc.patching.effects import patching_effect
from mechmsc.patching.patch import patch_grid
from mechmsc.patching.wanted import Outcome, outcome
from mechmsc.positions import end_ids
from mechmsc.runs import Run
from mechmsc.runs.effects import effect_names, read_effect, write_effect
from mechmsc.tasks import TASKS

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas
    import xarray
    from transformer_lens import HookedTransformer

NOT_ASKED = ("model", "run", "name", "max_memory_gib", "progress")
"""Arguments that change nothing in what is found."""


def patch_run(
    model: "HookedTransformer",
    run: Run,
    *,
    source_arm: str,
    destination_arm: str,
    round: int,
    component: str | Sequence[str] = "resid_post",
    span: str = "instruction",
    align: str = "last",
    outcome: str | Sequence[str] = "choice_entropy",
    history: str = "shared",
    together: bool = False,
    layers: Sequence[int] | None = None,
    items: Sequence[str] | None = None,
    limit: int | None = None,
    direction: str = "denoise",
    correction: str = "max_statistic",
    max_memory_gib: float | int = 4.0,
    progress: bool = True,
    seed: int = 0,
    name: str = "patch",
) -> "xarray.Dataset":
    """Patch the conversations of one arm into those of another at one round, item by item, and store what it does.

    The conversations wait for the response of `round`; the outcome is read at the end of the prompt, in canonical order
    of the options. `choice_entropy` is therefore H(q) of one order: it holds the uncertainty `within` an order, and
    nothing of the position bias that the average over orders (`total`) would show. Averages over orders would need a
    sweep an order, and patched activations of one order mean another letter in the next.

    Repeated with the same settings it reads what is stored.

    Args:
        model: the run's model.
        run: holds both arms.
        source_arm: where activations come from.
        destination_arm: where they are written.
        round: from 1.
        component: one or several, as `sites` of `patch_grid`.
        span: of this round (or "prompt"), in both conversations.
        align: last, mean or shared: instructions of two arms differ in length.
        outcome: names from `outcomes.OUTCOMES`; `log_odds` is of the right answer, `kl` from the unpatched run.
        history: "shared": both arms continue the destination arm's conversation up to round - 1 and differ in the
            instruction of this round alone; "own": each arm's own conversation.
        together: as in `patch_grid`.
        layers: as in `patch_grid`.
        items: item ids; None: all that have what the outcome needs.
        limit: the first so many of them.
        direction: as in `patch_grid`.
        correction: as in `patching_effect`.
        max_memory_gib: as in `patch_grid`.
        progress: show a bar on stderr.
        seed: of bootstrap and permutations.
        name: in RUN/effects and RUN/figures.

    Returns:
        The variables of `patching_effect`, and `patched`, the raw grid with its items.

    Raises:
        InputError: no such arm, round, item, span or outcome; another model; items without what the outcome needs.
    """
    asked = {key: value for key, value in locals().items() if key not in NOT_ASKED}
    names = [outcome] if isinstance(outcome, str) else list(outcome)
    for one in names:
        if one not in OUTCOMES:
            raise InputError(f"unknown outcome {one!r}: {nearest(str(one), OUTCOMES)}")
    if limit is not None and limit < 1:
        raise InputError(f"limit: expected at least 1 item, got {limit}")
    settings = settings_of(model, None, "patch_run", asked)
    if name in effect_names(run.folder):
        stored, before = read_effect(run.folder, name)
        if before == settings:
            return stored
    options = {"treatment": source_arm, "control": destination_arm, "history": history, "rounds": [round]}
    pairs = _able(pairs_of(model, run, items=items, **options), names)[:limit]
    wanted = outcomes_at_prompt_end(model, run, pairs, names)
    grid = patch_grid(
        model,
        [pair.treatment for pair in pairs],
        [pair.control for pair in pairs],
        sites=component,
        outcome=wanted if len(wanted) > 1 else wanted[names[0]],
        layers=layers,
        span=span,
        round=round,
        align=align,
        together=together,
        direction=direction,
        max_memory_gib=max_memory_gib,
        progress=progress,
    )
    arms = {"source_arm": source_arm, "destination_arm": destination_arm, "round_patched": round, "history": history}
    grid = grid.assign_attrs(arms | ({"outcome": names[0]} if len(names) == 1 else {}))
    effect = patching_effect(grid, correction=correction, seed=seed).assign(patched=grid)
    write_effect(run.folder, name, effect, settings)
    _write_figures(run, name)
    return effect


def patch_figure(
    run: Run, name: str = "patch", *, outcome: str | None = None, caption: str = ""
) -> "tuple[matplotlib.figure.Figure, pandas.DataFrame]":
    """The map of a stored effect and the numbers in it.

    Raises:
        InputError: the run has no such effect.
    """
    from mechmsc.figures.patching import conditions, patching_table
    from mechmsc.figures.patching import patch_grid as draw

    effect, _ = read_effect(run.folder, name)
    effect = effect.drop_dims("item")
    return draw(effect, outcome=outcome, caption=f"{conditions(effect)} {caption}"), patching_table(effect)


def outcomes_at_prompt_end(
    model: "HookedTransformer", run: Run, pairs: Sequence[Pair], names: Sequence[str]
) -> dict[str, Outcome]:
    """Named outcomes of these items, each read with its own labels."""
    config = run.manifest["config"]
    chat = ChatFormat.of(model.tokenizer, system=config["system"], date=config["date"], extra_end_ids=end_ids(model))
    return {name: outcome(_by_item(chat, pairs, name), baseline=name == "kl") for name in names}


def _by_item(chat: ChatFormat, pairs: Sequence[Pair], name: str) -> Callable[..., Tensor]:
    """An outcome of logits `[item, 1, d_vocab]`, which knows each item's labels and right answer."""
    needs: list[dict[str, Any]] = [{} for _ in pairs]
    if name in ("choice_entropy", "choice_entropy_within", "log_odds"):
        prefixes = [TASKS[pair.item.task].answer_prefix for pair in pairs]
        needs = [
            {"labels": chat.label_ids(prefix, pair.item.labels)} for prefix, pair in zip(prefixes, pairs, strict=True)
        ]
    if name == "log_odds":
        needs = [need | {"option": pair.item.gold} for need, pair in zip(needs, pairs, strict=True)]

    def read(logits: Tensor, baseline: Tensor | None = None) -> Tensor:
        found = []
        for i, need in enumerate(needs):
            clean = {} if baseline is None else {"clean": baseline[i : i + 1]}
            found.append(named_outcome(name, **need, **clean)(logits[i : i + 1]))
        return torch.cat(found)

    return read


def _able(pairs: Sequence[Pair], names: Sequence[str]) -> list[Pair]:
    """The items that have options, and a right answer, where the outcomes need them."""
    choices = any(name in ("choice_entropy", "choice_entropy_within", "log_odds") for name in names)
    able = [pair for pair in pairs if pair.item.options or not choices]
    able = [pair for pair in able if pair.item.gold is not None or "log_odds" not in names]
    if not able:
        raise InputError(
            f"outcome {', '.join(names)}: no item of the run has options to choose from, with a right answer for "
            "log_odds; use first_token_entropy for free responses"
        )
    return able


def _write_figures(run: Run, name: str) -> None:
    """RUN/figures/NAME.png and .csv; with several outcomes NAME.OUTCOME.png."""
    from mechmsc.figures.saving import save_figure

    effect, _ = read_effect(run.folder, name)
    if {"position", "head"} <= set(effect.dims):
        return  # a map has two axes: the reader chooses a head or a token
    many = [str(one) for one in effect.outcome.values] if "outcome" in effect.dims else [None]
    for one in many:
        figure, table = patch_figure(run, name, outcome=one)
        with tempfile.TemporaryDirectory() as folder:
            for path in save_figure(figure, table, Path(folder), name if one is None else f"{name}.{one}"):
                run.folder.write(f"figures/{path.name}", path.read_bytes())

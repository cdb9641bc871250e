"""`dose_response`: what happens to an outcome when the concept is turned up or down, for it and for placebos."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mechmsc.causal.asked import bands_of, batches_of, check_mediator, rows_of, site_of, warn_of_few
from mechmsc.causal.filling import Kept, Part, fill
from mechmsc.causal.histories import Pair, check_run, conversations_of
from mechmsc.causal.outcomes import GUARDS, OF_CHOICES, SAMPLED, Sampling, check_outcomes, evaluate, outcomes_named
from mechmsc.causal.placebos import random_directions
from mechmsc.causal.steering import chosen_band
from mechmsc.causal.worlds import Band, Ready, Trunk, ready, steered_worlds
from mechmsc.directions import Direction
from mechmsc.errors import InputError
from mechmsc.permutations import labels_of
from mechmsc.runs import Run
from mechmsc.sites import Site

if TYPE_CHECKING:
    import xarray
    from transformer_lens import HookedTransformer

STRENGTHS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
BATCH_SIZE = 16
PLACEBOS = 99
SAMPLED_PLACEBOS = 20
"""Placebos where none are named: for outcomes of one pass, and where responses are drawn."""


def dose_response(
    model: "HookedTransformer",
    run: Run,
    direction: Direction,
    *,
    arm: str = "neutral",
    outcome: "str | Callable | Sequence[str] | Mapping[str, Any]" = "choice_entropy",
    strengths: Sequence[float | int] | None = None,
    site: str | Site = "prompt_end",
    layers: int | range | None = None,
    placebos: int | Sequence[Direction] | None = None,
    rounds: Sequence[int] | None = None,
    items: Sequence[str] | None = None,
    steering: "xarray.Dataset | None" = None,
    permutations: int | None = None,
    sampling: Sampling | None = None,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    progress: bool = True,
    kept: Kept | None = None,
) -> "xarray.Dataset":
    """The outcome at every strength: h + a gap u at the site, a on a symmetric grid, for the concept and for placebos.

    Every placebo moves the activation by the concept's own a * gap. Sampled outcomes use the same noise at every
    strength, so differences are paired.

    Args:
        model: the run's model.
        run: holds the arm.
        direction: of the concept.
        arm: whose conversations are steered.
        outcome: as in `mediate`; with one through text, perplexity, distinct_2 and length are reported beside it.
        strengths: in class gaps; symmetric about 0 and with 0 in it, so that odd and even part can be told apart;
            None: -2 to 2, or minus to plus what `steering` chose.
        site: a named position or a Site of the direction's component; its round is that of the conversation.
        layers: a layer, or a band that is edited together; None: the middle half of the layers.
        placebos: how many random directions, or directions of your own (`placebos.spanned_directions`,
            `placebos.shuffled_directions`); None: 99, or 20 where responses are drawn.
        rounds: from 1; None: all of the arm.
        items: item ids; None: all, but for those of `steering`.
        steering: from `select_steering`: gives layers and strengths; its items are not reported.
        permutations: orders of the options; None: all cyclic shifts.
        sampling: for outcomes through text.
        batch_size: conversations at once, orders and strengths counted one by one.
        seed: of the placebos.
        progress: show a bar on stderr.
        kept: where it is kept on its way, to go on after an interruption; `causal.store_*` give it.

    Returns:
        A Dataset: response (item, round, strength, outcome) along the concept and placebo_response (item, round,
        strength, placebo, outcome; without the guards of text), in the unit of the outcome. `dose_table` makes slopes,
        curvatures and tests of it.

    Raises:
        InputError: as `mediate`; strengths that are not symmetric; items that `steering` was chosen on.
    """
    if steering is not None:
        layers, strengths, items = _as_chosen(steering, run, layers, strengths, items)
    strengths = check_strengths(STRENGTHS if strengths is None else strengths)
    site, bands = site_of(site, direction), bands_of(layers, model.cfg.n_layers)
    if len(bands) != 1:
        raise InputError(f"layers: expected one layer or one band to steer, got {len(bands)}")
    check_mediator("concept", direction, site, run)
    check_run(model, run, [arm])
    wanted, sampling = outcomes_named(outcome), sampling or Sampling()
    spoken = any(isinstance(one, str) and one in SAMPLED for one in wanted.values())
    if spoken:
        wanted |= {name: name for name in GUARDS if name not in wanted}
    pairs = check_outcomes(wanted, conversations_of(run, arm=arm, rounds=rounds, items=items))
    warn_of_few(pairs)
    if placebos is None:
        placebos = SAMPLED_PLACEBOS if spoken else PLACEBOS
    others = random_directions(direction, placebos, seed=seed) if isinstance(placebos, int) else list(placebos)
    steered = _Steered(model, bands[0], [direction, *others], strengths, wanted, sampling, permutations)
    found = _empty(pairs, wanted, strengths, len(others))
    parts = (
        Part(rows_of(found, batch), partial(steered.of, batch, replace(site, round=batch[0].round), found))
        for batch in batches_of(model, pairs, wanted, max(1, batch_size // len(strengths)), permutations)
    )
    fill(found, parts, ("item", "round"), text="conversations steered", show=progress, total=len(pairs), kept=kept)
    return found.assign_attrs(
        {
            "concept_name": direction.concept,
            "method": direction.method,
            "arm": arm,
            "site": str(site),
            "layers": f"{bands[0][0]}-{bands[0][-1]}",
            "placebos": ", ".join(sorted({one.method for one in others})),
            "samples": sampling.samples if spoken else 0,
            "seed": seed,
        }
    )


def _as_chosen(
    steering: "xarray.Dataset",
    run: Run,
    layers: int | range | None,
    strengths: Sequence[float | int] | None,
    items: Sequence[str] | None,
) -> tuple[int | range, Sequence[float], list[str]]:
    """(layers, strengths, items), each as asked or else as chosen, without the items that the choice was made on."""
    looked_at = set(steering["item"].values.tolist())
    overlap = sorted(looked_at & set(items or ()))
    if overlap:
        raise InputError(f"items: {overlap[0]} was used to choose layer and strength; report other items")
    items = [item.item_id for item in run.items if item.item_id not in looked_at] if items is None else list(items)
    largest = float(steering.attrs["chosen_strength"])
    grid = [largest * share for share in (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)]
    return chosen_band(steering) if layers is None else layers, grid if strengths is None else strengths, items


def check_strengths(strengths: Sequence[float | int]) -> list[float]:
    """Strengths, ascending.

    Raises:
        InputError: they are not symmetric about 0, lack 0 or are fewer than three.
    """
    grid = sorted(float(a) for a in strengths)
    if len(grid) < 3 or 0.0 not in grid or not np.allclose(grid, [-a for a in reversed(grid)]):
        raise InputError(
            f"strengths: expected a grid that is symmetric about 0 and holds it, e.g. -1, 0, 1; got {grid}"
        )
    return grid


class _Steered:
    """Computes a batch of conversations at every strength along every direction."""

    def __init__(
        self,
        model: "HookedTransformer",
        band: Band,
        directions: Sequence[Direction],
        strengths: Sequence[float],
        wanted: Mapping[str, Any],
        sampling: Sampling,
        permutations: int | None,
    ) -> None:
        self.model, self.band, self.directions, self.strengths = model, band, directions, strengths
        self.wanted, self.sampling, self.permutations = wanted, sampling, permutations
        self.choices = any(isinstance(one, str) and one in OF_CHOICES for one in wanted.values())
        self.trunk: Trunk | None = None

    def of(self, pairs: Sequence[Pair], site: Site, found: "xarray.Dataset") -> None:
        """Fill in what a batch gives; strength 0 is the unedited model and computed once."""
        labels = labels_of(self.model.tokenizer, pairs[0].control) if self.choices else []
        how = {"permutations": self.permutations, "choices": self.choices, "trunk": self.trunk}
        batch = ready(self.model, pairs, site, **how)
        self.trunk = batch.trunk  # not the batch: its other halves of keys and values are done with
        moving = [a for a in self.strengths if a != 0.0]
        (clean,) = self._at(batch, pairs, labels, self.directions[0], [0.0])
        for number, direction in enumerate(self.directions):
            values = iter(self._at(batch, pairs, labels, direction, moving))
            for place, strength in enumerate(self.strengths):
                here = clean if strength == 0.0 else next(values)
                self._put(found, pairs, here, place, None if number == 0 else number - 1)

    def _at(
        self, batch: Ready, pairs: Sequence[Pair], labels: Any, direction: Direction, strengths: Sequence[float]
    ) -> list[dict[str, Any]]:
        own = direction is self.directions[0]
        wanted = {name: one for name, one in self.wanted.items() if own or one not in GUARDS}  # guards cost a pass each
        with steered_worlds(batch, self.band, direction, strengths) as (decoder, logits):
            values = evaluate(
                self.model,
                decoder,
                logits,
                [*pairs] * len(strengths),
                [pair.control for pair in pairs] * len(strengths),
                wanted,
                labels=labels,
                orders=batch.orders,
                sampling=self.sampling,
            )
        n = len(pairs)
        return [{name: v[i * n : (i + 1) * n] for name, v in values.items()} for i in range(len(strengths))]

    def _put(
        self, found: "xarray.Dataset", pairs: Sequence[Pair], values: Mapping[str, Any], place: int, placebo: int | None
    ) -> None:
        variable = found["response" if placebo is None else "placebo_response"]
        which = () if placebo is None else (placebo,)
        for outcome, numbers in values.items():
            if placebo is not None and outcome in GUARDS:
                continue
            at = (*rows_of(found, pairs), place, *which, found.indexes["outcome"].get_loc(outcome))
            variable.values[at] = numbers


def _empty(pairs: Sequence[Pair], wanted: Mapping[str, Any], strengths: list[float], placebos: int) -> "xarray.Dataset":
    import xarray

    coords = {
        "item": list(dict.fromkeys(pair.item.item_id for pair in pairs)),
        "round": sorted({pair.round for pair in pairs}),
        "strength": strengths,
        "placebo": list(range(placebos)),
        "outcome": list(wanted),
    }
    dims = {"response": ("item", "round", "strength", "outcome"), "placebo_response": tuple(coords)}
    arrays = {name: (of, np.full([len(coords[dim]) for dim in of], np.nan)) for name, of in dims.items()}
    return xarray.Dataset(arrays, coords=coords)

"""`mediate`: is the effect of the instruction on the outcome carried by the mediator?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mechmsc.causal.asked import band_name, bands_of, batches_of, check_mediator, rows_of, site_of, warn_of_few
from mechmsc.causal.filling import Kept, Part, fill
from mechmsc.causal.histories import Pair, pairs_of
from mechmsc.causal.outcomes import OF_CHOICES, Sampling, check_outcomes, evaluate, outcomes_named
from mechmsc.causal.placebos import random_directions
from mechmsc.causal.worlds import Band, Mediator, Ready, Trunk, Values, clean_worlds, crossed_worlds, ready
from mechmsc.directions import Direction
from mechmsc.permutations import labels_of
from mechmsc.runs import Run
from mechmsc.sites import Site

if TYPE_CHECKING:
    import xarray
    from transformer_lens import HookedTransformer

BATCH_SIZE = 16
COUNTS = ("row_passes", "row_passes_needed", "tokens_encoded", "tokens_without_sharing")
"""Attributes of the result: what it cost. Conversations encoded (a world of one is a row), and tokens of them."""


def mediate(
    model: "HookedTransformer",
    run: Run,
    direction: Direction | None = None,
    *,
    treatment: str = "moral",
    control: str = "neutral",
    outcome: "str | Callable | Sequence[str] | Mapping[str, Any]" = "choice_entropy",
    site: str | Site = "prompt_end",
    layers: int | range | Sequence[int | range] | None = None,
    mediator: str = "concept",
    history: str = "shared",
    rounds: Sequence[int] | None = None,
    items: Sequence[str] | None = None,
    placebos: int = 0,
    permutations: int | None = None,
    sampling: Sampling | None = None,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    progress: bool = True,
    kept: Kept | None = None,
) -> "xarray.Dataset":
    """Natural effects of the treatment arm's instruction, through the mediator and past it, for every item and round.

    TE = U(x') - U(x);  NIE = U(x, z(x')) - U(x);  NDE = U(x', z(x)) - U(x);  interaction = TE - NDE - NIE

    Pearl 2001, arXiv:1301.2300; for language models Vig et al. 2020, arXiv:2004.12265. x: control; x': treatment; U:
    the outcome at the end of the prompt; z: what the mediator was in the other arm's conversation, item by item and,
    for choices, order by order of the options. Differences, in the unit of the outcome.

    Args:
        model: the run's model.
        run: holds both arms.
        direction: of the concept; not used for mediator="activation".
        treatment: arm x'.
        control: arm x.
        outcome: names of choice_entropy, choice_entropy_within, log_odds (of the right option), first_token_entropy;
            semantic_entropy and predictive_entropy, for which responses are drawn anew in every world; or functions
            of logits `[pair, d_vocab]`. Several in a list or a dict.
        site: where the mediator is: a named position (sites.POSITIONS) or a Site of the direction's component; its
            round is that of the pair, its layers are `layers`.
        layers: a layer or a band (a range), set together; several of these in a list are analysed one by one; None:
            the middle half of the layers as one band.
        mediator: "concept" (the coordinate along the direction; on a span of several tokens their mean) or
            "activation" (all of it; with a Site at "all" token by token, at equal length).
        history: "shared" (both arms go on from the control's conversation; only the instruction of the round differs)
            or "own" (each arm's own conversation; TE then contains the path through earlier text).
        rounds: from 1; None: all that both arms have.
        items: item ids; None: all.
        placebos: random directions for which NIE is computed beside the concept's; 20 or more make a test.
        permutations: orders of the options; None: all cyclic shifts.
        sampling: for outcomes through text.
        batch_size: conversations at once, orders counted one by one.
        seed: of the placebos.
        progress: show a bar on stderr.
        kept: where it is kept on its way, to go on after an interruption; `causal.store_*` give it.

    Returns:
        A Dataset with dims (item, round, outcome, layer; placebo): control U(x), treatment U(x'), indirect_world
        U(x, z(x')), direct_world U(x', z(x)), placebo_world; concept_control and concept_treatment in class gaps, the
        mean over the band; attrs say how it was made and count passes. `mediation_table` makes estimates of it.

    Raises:
        InputError: arms, rounds or items that the run lacks; a direction of another model, component or fitted on the
            items of the run; a site that is not there; an outcome that no item has.
    """
    site, bands = site_of(site, direction), bands_of(layers, model.cfg.n_layers)
    along = check_mediator(mediator, direction, site, run)
    wanted, sampling = outcomes_named(outcome), sampling or Sampling()
    pairs = pairs_of(model, run, treatment=treatment, control=control, history=history, rounds=rounds, items=items)
    pairs = check_outcomes(wanted, pairs)
    warn_of_few(pairs)
    randoms = random_directions(direction, placebos, seed=seed) if placebos and along is not None else []
    worlds = _Worlds(model, bands, [along, *randoms], wanted, sampling, permutations)
    found = _empty(pairs, wanted, bands, len(randoms))
    parts = (
        Part(rows_of(found, batch), partial(worlds.of, batch, replace(site, round=batch[0].round), found))
        for batch in batches_of(model, pairs, wanted, batch_size, permutations)
    )
    fill(
        found,
        parts,
        ("item", "round"),
        text="pairs of conversations",
        show=progress,
        total=len(pairs),
        kept=kept,
    )
    settings = {
        "treatment": treatment,
        "control": control,
        "site": str(site),
        "mediator": mediator,
        "concept": "" if along is None else direction.concept,
        "history": history,
        "placebos": len(randoms),
        "seed": seed,
    }
    return found.assign_attrs(settings)


class _Worlds:
    """Computes all worlds of a batch, and counts what that costs."""

    def __init__(
        self,
        model: "HookedTransformer",
        bands: Sequence[Band],
        mediators: Sequence[Mediator],
        wanted: Mapping[str, Any],
        sampling: Sampling,
        permutations: int | None,
    ) -> None:
        self.model, self.bands, self.mediators = model, bands, mediators
        self.wanted, self.sampling, self.permutations = wanted, sampling, permutations
        self.choices = any(isinstance(one, str) and one in OF_CHOICES for one in wanted.values())
        self.trunk: Trunk | None = None

    def of(self, pairs: Sequence[Pair], site: Site, found: "xarray.Dataset") -> None:
        """Fill in what a batch of pairs gives; all of one round and number of options."""
        labels = labels_of(self.model.tokenizer, pairs[0].control) if self.choices else []
        how = {"permutations": self.permutations, "choices": self.choices, "trunk": self.trunk}
        batch = ready(self.model, pairs, site, **how)
        self.trunk = batch.trunk  # not the batch: its other halves of keys and values are done with
        found.attrs["row_passes"] += len(batch.decoder.lengths)  # their beginnings, encoded once
        found.attrs["tokens_encoded"] += batch.tokens
        decoder, logits, z = clean_worlds(
            batch, sorted({layer for band in self.bands for layer in band}), self.mediators
        )
        self._count(found, batch, both=True)
        control, treatment = self._outcomes(decoder, logits, pairs, labels, batch, sides=2)
        self._put(found, pairs, {"control": control, "treatment": treatment})
        for place, band in enumerate(self.bands):
            decoder, logits = crossed_worlds(batch, band, self.mediators[0], *z[0])
            self._count(found, batch, both=True)
            indirect, direct = self._outcomes(decoder, logits, pairs, labels, batch, sides=2)
            self._put(found, pairs, {"indirect_world": indirect, "direct_world": direct}, layer=(place,))
            if self.mediators[0] is not None:
                self._put_concept(found, pairs, batch, band, z[0], place)
            for number, (mediator, values) in enumerate(zip(self.mediators[1:], z[1:], strict=True)):
                decoder, logits = crossed_worlds(batch, band, mediator, *values, both=False)
                self._count(found, batch, both=False)
                (placebo,) = self._outcomes(decoder, logits, pairs, labels, batch, sides=1)
                self._put(found, pairs, {"placebo_world": placebo}, layer=(place,), placebo=(number,))

    def _outcomes(
        self, decoder: Any, logits: Any, pairs: Sequence[Pair], labels: Any, batch: Ready, *, sides: int
    ) -> list[dict[str, Any]]:
        values = evaluate(
            self.model,
            decoder,
            logits,
            [*pairs] * sides,
            [getattr(pair, side) for side in ("control", "treatment")[:sides] for pair in pairs],
            self.wanted,
            labels=labels,
            orders=batch.orders,
            sampling=self.sampling,
        )
        return [{name: half[part] for name, half in values.items()} for part in _parts(len(pairs), sides)]

    def _count(self, found: "xarray.Dataset", batch: Ready, *, both: bool) -> None:
        rows = [*batch.control, *(batch.treatment if both else [])]
        n_tokens = sum(map(len, rows))
        new = (len(rows), len(rows), n_tokens - sum(batch.decoder.lengths[: len(rows)]), n_tokens)
        for name, count in zip(COUNTS, new, strict=True):
            found.attrs[name] += count

    def _put(
        self,
        found: "xarray.Dataset",
        pairs: Sequence[Pair],
        values: Mapping[str, dict[str, Any]],
        *,
        layer: tuple[int, ...] = (),
        placebo: tuple[int, ...] = (),
    ) -> None:
        """Store values[variable][outcome][pair]."""
        for variable, by_outcome in values.items():
            for outcome, numbers in by_outcome.items():
                at = (*rows_of(found, pairs), *placebo, found.indexes["outcome"].get_loc(outcome), *layer)
                found[variable].values[at] = numbers

    def _put_concept(
        self,
        found: "xarray.Dataset",
        pairs: Sequence[Pair],
        batch: Ready,
        band: Band,
        z: tuple[Values, Values],
        place: int,
    ) -> None:
        direction = self.mediators[0]
        for variable, values in zip(("concept_control", "concept_treatment"), z, strict=True):
            gaps = [direction.gaps[direction.row(layer)].item() for layer in band]
            scores = np.array([[v.item() for v in values[layer]] for layer in band]) / np.array(gaps)[:, None]
            means = scores.mean(0).reshape(len(pairs), len(batch.orders)).mean(1)
            found[variable].values[(*rows_of(found, pairs), place)] = means


def _parts(n: int, sides: int) -> list[slice]:
    return [slice(side * n, (side + 1) * n) for side in range(sides)]


def _empty(pairs: Sequence[Pair], wanted: Mapping[str, Any], bands: Sequence[Band], placebos: int) -> "xarray.Dataset":
    import xarray

    coords = {
        "item": list(dict.fromkeys(pair.item.item_id for pair in pairs)),
        "round": sorted({pair.round for pair in pairs}),
        "placebo": list(range(placebos)),
        "outcome": list(wanted),
        "layer": [band_name(band) for band in bands],
    }
    dims = {
        "control": ("item", "round", "outcome"),
        "treatment": ("item", "round", "outcome"),
        "indirect_world": ("item", "round", "outcome", "layer"),
        "direct_world": ("item", "round", "outcome", "layer"),
        "concept_control": ("item", "round", "layer"),
        "concept_treatment": ("item", "round", "layer"),
    }
    if placebos:
        dims["placebo_world"] = ("item", "round", "placebo", "outcome", "layer")
    shape = {dim: len(values) for dim, values in coords.items()}
    arrays = {name: (of, np.full([shape[dim] for dim in of], np.nan)) for name, of in dims.items()}
    used = {dim for of in dims.values() for dim in of}
    coords = {dim: values for dim, values in coords.items() if dim in used}
    return xarray.Dataset(arrays, coords=coords, attrs=dict.fromkeys(COUNTS, 0))

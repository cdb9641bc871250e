"""What an analysis was asked for, checked: the site, the layers, the direction; and its pairs in batches."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mechmsc.causal.histories import Pair
from mechmsc.causal.outcomes import OF_CHOICES
from mechmsc.causal.worlds import Band, Mediator
from mechmsc.directions import Direction
from mechmsc.directions.fitting import text_digest
from mechmsc.errors import InputError, nearest
from mechmsc.permutations import n_options
from mechmsc.runs import Run
from mechmsc.sites import Site

if TYPE_CHECKING:
    import xarray
    from transformer_lens import HookedTransformer

MEDIATORS = ("concept", "activation")
FEW = 5
"""Fewer items than this are warned about."""


def site_of(site: str | Site, direction: Direction | None) -> Site:
    """The site of a named position, at the component of the direction; a Site as it is."""
    if isinstance(site, Site):
        return site
    return Site.named(site, component="resid_post" if direction is None else direction.component)


def bands_of(layers: int | range | Sequence[int | range] | None, n_layers: int) -> list[Band]:
    """Layers, or bands of them, one by one; None: the middle half as one band.

    Raises:
        InputError: a layer that the model does not have.
    """
    if layers is None:
        layers = range(n_layers // 4, max(n_layers // 4 + 1, 3 * n_layers // 4))  # as `figures.concept.in_band`
    several = [layers] if isinstance(layers, int | range) else list(layers)
    bands = [(one,) if isinstance(one, int) else tuple(one) for one in several]
    for band in bands:
        if not band or not all(0 <= layer < n_layers for layer in band):
            raise InputError(f"layers: expected layers from 0 to {n_layers - 1}, got {list(band)}")
    if not bands:
        raise InputError("layers: expected at least one layer or band")
    return bands


def band_name(band: Band) -> str:
    """A band as it stands on the axis `layer`: "12", or "10-19"."""
    return str(band[0]) if len(band) == 1 else f"{band[0]}-{band[-1]}"


def check_mediator(mediator: str, direction: Direction | None, site: Site, run: Run) -> Mediator:
    """The direction, if it fits the site and the run; None for the whole activation.

    Raises:
        InputError: no direction where one is needed, or one of another component, model, or of the run's own items.
    """
    if mediator not in MEDIATORS:
        raise InputError(f"unknown mediator {mediator!r}: {nearest(mediator, MEDIATORS)}")
    if mediator == "activation":
        return None
    if direction is None:
        raise InputError("mediator 'concept' needs a direction; fit one, or use mediator='activation'")
    if direction.component != site.component:
        raise InputError(f"the direction was fitted at {direction.component}, but the site is {site}")
    direction.check_model(run.manifest["model"])
    check_items(direction, run)
    return direction


def check_items(direction: Direction, run: Run) -> None:
    """Refuse a direction that was fitted on questions of the run: it would be read where it was made."""
    fitted = set(direction.data.get("texts", ()))
    for item in run.items:
        parts = {item.question, *item.question.split("\n"), str(item.metadata.get("prompt", item.question))}
        if fitted & {text_digest(part) for part in parts}:
            raise InputError(
                f"direction {direction.concept!r} was fitted on the text of {item.item_id}, an item of this run; "
                "fit it on other statements"
            )


def warn_of_few(pairs: Sequence[Pair]) -> None:
    """Warn where there are fewer items than intervals over items need."""
    n = len({pair.item.item_id for pair in pairs})
    if n < FEW:
        warnings.warn(f"{n} items are few: intervals over items are unreliable below {FEW}", stacklevel=3)


def batches_of(
    model: "HookedTransformer",
    pairs: Sequence[Pair],
    wanted: Mapping[str, Any],
    batch_size: int,
    permutations: int | None,
) -> Iterator[list[Pair]]:
    """Pairs of one round and number of options; one round after another of the same items, like lengths together."""
    choices = any(isinstance(one, str) and one in OF_CHOICES for one in wanted.values())
    alike: dict[int, dict[str, list[Pair]]] = {}
    for pair in pairs:
        options = n_options(model.tokenizer, pair.control) if choices else 0
        alike.setdefault(options, {}).setdefault(pair.item.item_id, []).append(pair)
    for options, by_item in sorted(alike.items()):
        size = max(1, batch_size // max(1, permutations or options))
        items = sorted(by_item.values(), key=lambda members: max(len(pair.treatment) for pair in members))
        for start in range(0, len(items), size):
            together = [pair for members in items[start : start + size] for pair in members]
            for number in sorted({pair.round for pair in together}):
                yield [pair for pair in together if pair.round == number]


def rows_of(found: "xarray.Dataset", pairs: Sequence[Pair]) -> tuple[list[int], int]:
    """Where the pairs of a batch, all of one round, are on the axes item and round."""
    items = found.indexes["item"].get_indexer([pair.item.item_id for pair in pairs])
    return items.tolist(), found.indexes["round"].get_loc(pairs[0].round)

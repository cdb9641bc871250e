"""Attribution patching: the first-order guess of every exact patch, from two forward passes and one backward pass.

    attribution = (a_source - a_destination) . d outcome / d a,  the gradient at the destination run

(Nanda 2023, "Attribution patching"; Syed et al. 2023, arXiv:2310.10348.) Its sign is that of the exact effect, patched
- destination. It is exact where the outcome is linear in the activation, and wrong where it saturates, e.g. behind a
softmax that is sure; therefore with `steps`, gradients are averaged along the straight line from the destination's to
the source's embeddings (integrated gradients by the midpoint rule; Hanna et al. 2024, arXiv:2403.17806), and always its
rank correlation with exact patches of a random subset stands in the result.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mechmsc.errors import InputError
from mechmsc.outcomes import one_number_an_item
from mechmsc.patching.alignment import Rounds
from mechmsc.patching.gradients import Graph
from mechmsc.patching.grid import Ends, Job, both_ends, chunks_of, compute, joined, logits_of, read, remembered
from mechmsc.patching.patch import coords_of, named_array
from mechmsc.patching.places import COMPONENTS
from mechmsc.patching.request import Request, read_request
from mechmsc.patching.wanted import Outcome, outcomes_of

if TYPE_CHECKING:
    import xarray
    from transformer_lens import HookedTransformer

    from mechmsc.sites import Site

SIGN = "attribution = (a_source - a_destination) . gradient at the destination run; sign of patched - destination"


def attribution_patch(
    model: "HookedTransformer",
    source: Any,
    destination: Any,
    *,
    sites: "str | Site | Sequence[str | Site]" = COMPONENTS,
    outcome: "str | Callable[..., Tensor] | Outcome | Mapping[str, Any]",
    steps: int | None = None,
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    span: str | None = None,
    round: Rounds = None,
    align: str | None = None,
    together: bool = False,
    check: int = 40,
    seed: int = 0,
    max_memory_gib: float | int = 4.0,
) -> "xarray.Dataset":
    """The approximate effect of every patch, all components at once.

    One forward pass of each run and one backward pass (with `steps`: a forward and a backward pass a step); one more
    forward pass where the items do not fit into memory together.

    Args:
        model: from `load_model`, without hooks.
        source: as in `patch_grid`.
        destination: as in `patch_grid`.
        sites: as in `patch_grid`, but components with and without heads may stand together; all by default (`pattern`
            needs conversations that correspond token by token).
        outcome: one differentiable outcome, as in `patch_grid`.
        steps: None: the gradient at the destination run; k: the mean of k gradients on the line to the source.
        layers: as in `patch_grid`.
        positions: as in `patch_grid`.
        span: as in `patch_grid`.
        round: as in `patch_grid`.
        align: as in `patch_grid`.
        together: as in `patch_grid`.
        check: exact patches that it is compared with, drawn evenly from the components among those where the two runs
            differ; 0: none.
        seed: of the draw.
        max_memory_gib: as in `patch_grid`; gradients of a processor's pass over 1024 tokens come on top.

    Returns:
        A variable for each component, dims item, layer, (head,) (position): the attribution, in the outcome's unit.
        Coordinates `source` and `destination` hold the unpatched outcomes. attrs: sign, steps, rank_correlation
        (Spearman, over patches and items, nan where nothing was checked or nothing varies), rank_correlation_n;
        each variable has its own two as well.

    Raises:
        InputError: as `patch_grid`; several outcomes; an outcome without a gradient.
    """
    outcomes = outcomes_of(outcome)
    if len(outcomes) > 1 or (steps is not None and steps < 1) or check < 0:
        raise InputError(
            f"expected one outcome, steps of at least 1 and check of at least 0, got {len(outcomes)}, {steps}, {check}"
        )
    asked = read_request(
        model,
        source,
        destination,
        sites=sites,
        layers=layers,
        positions=positions,
        span=span,
        round=round,
        align=align,
        together=together,
        mixed=True,
    )
    grids = {component: list(asked.places(component).values()) for component in asked.components}
    places = list(dict.fromkeys(place for grid in grids.values() for place in grid))
    job = Job(model, asked.pairing, places, outcomes, int(max_memory_gib * 2**30))
    values, differ, unpatched = _attribute(job, steps)
    exact = _sampled(job, differ, check, seed) if check else {}
    number = {place: i for i, place in enumerate(places)}
    numbers = {component: np.array([number[place] for place in grid]) for component, grid in grids.items()}
    return _dataset(job, asked, values, unpatched, exact, numbers).assign_attrs(
        sign=SIGN, steps=steps or 0, outcome=next(iter(outcomes)), model=str(model.cfg.model_name)
    )


def _attribute(job: Job, steps: int | None) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Attributions `[place, item]`, whether the runs differ there, and the outcomes of source and destination."""
    chunks = list(chunks_of(job))
    ((name, outcome),) = job.outcomes.items()
    with torch.no_grad():
        source, destination, runs = both_ends(job, chunks)
        baseline = logits_of(job.model, destination.final)
    pulled = partial(_pull, job, name, outcome, baseline)
    unpatched = tuple(pulled(side)[1] for side in (source, destination))
    values = np.zeros((len(job.places), job.pairing.n_items))
    differ = np.zeros(values.shape, dtype=bool)
    for alpha in [0.0] if steps is None else [(step + 0.5) / steps for step in range(steps)]:
        pull = pulled(destination)[0] if steps is None else None
        if pull is None and len(chunks) > 1:  # all items at this point of the line, before any gradient of theirs
            with torch.no_grad():
                ends = [Graph.of(job, chunk, *remembered(job, chunk), alpha).ends for chunk in chunks]
            pull = pulled(joined(ends, chunks))[0]
        for chunk in chunks:
            runs = runs if len(chunks) == 1 else remembered(job, chunk)
            graph = Graph.of(job, chunk, *runs, alpha)
            grads = graph.gradients(pull or pulled(joined([graph.ends], chunks))[0])
            graph.add_to(values, differ, grads, share=1.0 / (steps or 1))
    return values, differ, unpatched


def _pull(job: Job, name: str, outcome: Outcome, baseline: Tensor, ends: Ends) -> tuple[Ends, np.ndarray]:
    """The gradient of each item's outcome where the outcome is read, and the outcomes `[1, item]`."""
    with torch.enable_grad():
        leaves = {None: ends.final.detach(), **{layer: x.detach() for layer, x in ends.recorded.items()}}
        leaves = {layer: x.requires_grad_() for layer, x in leaves.items()}
        here = Ends(leaves[None], {layer: x for layer, x in leaves.items() if layer is not None})
        values = read(job, outcome, here, logits_of(job.model, here.final), baseline)
        values = one_number_an_item(values, job.pairing.n_items, name)
        if not values.requires_grad:
            raise InputError(f"outcome {name!r}: expected a differentiable function, got one without a gradient")
        grads = torch.autograd.grad(values.sum(), list(leaves.values()), allow_unused=True)
    found = {
        layer: torch.zeros_like(x) if g is None else g for (layer, x), g in zip(leaves.items(), grads, strict=True)
    }
    return Ends(found.pop(None), found), values.detach().double().cpu().numpy()[None]


def _sampled(job: Job, differ: np.ndarray, check: int, seed: int) -> dict[int, np.ndarray]:
    """Exact effects `[item]` of randomly drawn places where the runs differ."""
    dice = np.random.default_rng(seed)
    kinds = list(dict.fromkeys(place.component for place in job.places))
    drawn: list[int] = []
    for i, component in enumerate(kinds):
        open_ = [n for n in np.flatnonzero(differ.any(1)) if job.places[n].component == component]
        wanted = check // len(kinds) + (i < check % len(kinds))
        drawn += dice.permutation(open_)[:wanted].tolist()
    if not drawn:
        return {}
    exact = Job(job.model, job.pairing, [job.places[n] for n in drawn], job.outcomes, job.budget)
    patched, _, destination = compute(exact)
    return dict(zip(drawn, patched[:, 0] - destination[0], strict=True))


def _correlation(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, int]:
    """Spearman's rank correlation of attributions and exact effects, and how many there are."""
    from scipy.stats import spearmanr

    if not pairs:
        return float("nan"), 0
    guess, exact = (np.concatenate(side) for side in zip(*pairs, strict=True))
    known = np.isfinite(guess) & np.isfinite(exact)
    guess, exact = guess[known], exact[known]
    if len(guess) < 3 or np.ptp(guess) == 0 or np.ptp(exact) == 0:
        return float("nan"), len(guess)
    return float(spearmanr(guess, exact).statistic), len(guess)


def _dataset(
    job: Job,
    asked: Request,
    values: np.ndarray,
    unpatched: tuple[np.ndarray, np.ndarray],
    exact: dict[int, np.ndarray],
    numbers: dict[str, np.ndarray],
) -> "xarray.Dataset":
    """A variable a component; `numbers` are its places in the order of its axes."""
    import xarray

    found = {}
    for component, part in numbers.items():
        array = named_array(asked.only(component), values[part][None, :, None], unpatched, ["outcome"], single=True)
        array = array.isel(component=0, drop=True).rename("attribution").assign_coords(coords_of(job.model, asked))
        pairs = [(values[n], effect) for n, effect in exact.items() if job.places[n].component == component]
        rho, n = _correlation(pairs)
        found[component] = array.assign_attrs(rank_correlation=rho, rank_correlation_n=n, sign=SIGN)
    rho, n = _correlation([(values[n], effect) for n, effect in exact.items()])
    return xarray.Dataset(found, attrs={"rank_correlation": rho, "rank_correlation_n": n})

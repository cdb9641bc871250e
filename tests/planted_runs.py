"""Runs of the planted model for the tests of causal analyses: their truth is known by formula."""

import numpy as np

SIGNS = {"moral": 1.0, "neutral": 0.0, "immoral": -1.0}


def planted_run(out, *, n=5, rounds=2, arms="moral,neutral", seed=1, samples=0, **design):
    """(model, run): options in canonical order alone, so that a choice is the first token."""
    import mechmsc as mm
    from mechmsc.model.planted import planted_items

    model = mm.planted_model(**({"effect": -0.3} | design), seed=seed)
    run = mm.self_correct(
        model,
        planted_items(n, seed=seed),
        arms=arms,
        rounds=rounds,
        samples=samples,
        max_new_tokens=3,
        permutations=1,
        sites="none",
        batch_size=64,
        out=out,
        progress=False,
    )
    return model, run


def planted_direction(model, *, seed=1):
    """The planted axis as a Direction: one class gap is what the moral instruction adds."""
    import torch

    from mechmsc.directions import Direction
    from mechmsc.model import identity
    from mechmsc.model.planted import planted_axis

    n_layers, axis = model.cfg.n_layers, planted_axis(model, seed=seed)
    vectors = axis[None].repeat(n_layers, 1)
    return Direction(
        concept="morality",
        vectors=vectors,
        midpoints=vectors * (model.planted.start + 0.5),
        gaps=torch.ones(n_layers),
        layers=tuple(range(n_layers)),
        method="planted",
        component="resid_post",
        position="last",
        context="chat",
        model=identity(model),
    )


def truth(model, item_id: str, *, concept: float, stance: float) -> float:
    """U with the concept as under one stance and all else as under another, by formula."""
    return float(model.planted.entropy(model.planted.coordinate(concept), stance, case=item_id.split("-")[1]))


def true_effects(model, item_ids) -> dict[str, np.ndarray]:
    """Natural effects of the moral instruction on each item, by formula."""
    worlds = {
        (c, s): np.array([truth(model, item, concept=c, stance=s) for item in item_ids])
        for c in (0.0, 1.0)
        for s in (0.0, 1.0)
    }
    base = worlds[0.0, 0.0]
    found = {"total": worlds[1.0, 1.0] - base, "indirect": worlds[1.0, 0.0] - base, "direct": worlds[0.0, 1.0] - base}
    return found | {"interaction": found["total"] - found["indirect"] - found["direct"]}

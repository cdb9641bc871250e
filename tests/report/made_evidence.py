"""Tables of evidence as `mechmsc.report` reads them, made of numbers that a test chooses."""

import math

import pandas as pd

NAN = math.nan


def contrast(link, value, low, high, *, p=0.001, n=60, margin=0.05, task="t", rounds=(), better="", measure=None):
    """Rows of one link: the mean over rounds, then `rounds` of (value, low, high, p)."""
    measure = measure or {"performance": "accuracy", "concept": "concept.prompt_end.layers_7-21"}.get(
        link, "choice_entropy"
    )
    what = {"task": task, "link": link, "measure": measure, "source": "toxicity", "unit": "nats", "better": better}
    what |= {"treatment": "moral", "control": "neutral", "level": 0.95, "n": n, "margin": margin}
    cells = [(None, (value, low, high, p)), *enumerate(rounds, 1)]
    rows = [{**what, "round": t, **dict(zip(("value", "low", "high", "p"), c, strict=True))} for t, c in cells]
    return pd.DataFrame(rows).astype({"round": "Int32"})


def effect(value, low, high, *, p=0.001, placebos=99, p_placebo=0.01, excess=None, n=60, margin=0.05):
    """Numbers of an effect; the excess over placebos is (value, low, high)."""
    excess = excess or (abs(value) - 0.01, min(abs(low), abs(high)) - 0.01, max(abs(low), abs(high)) - 0.01)
    beside = dict(zip(("excess", "excess_low", "excess_high"), excess if placebos else (NAN,) * 3, strict=True))
    found = {"value": value, "low": low, "high": high, "level": 0.95, "n": n, "p": p, "margin": margin, "unit": "nats"}
    return found | {"placebos": placebos, "p_placebo": p_placebo if placebos else NAN} | beside


SURE = effect(-0.2, -0.3, -0.1)
NOTHING = effect(0.001, -0.01, 0.012, p=0.8, p_placebo=0.7, excess=(-0.01, -0.02, 0.005))
UNSURE = effect(-0.1, -0.3, 0.1, p=0.3, p_placebo=0.3, excess=(0.02, -0.1, 0.2))


def mediated(indirect=SURE, total=SURE, *, proportion=(1.0, 0.8, 1.2), mediator="concept", task="t", layer="7-21"):
    said = {"treatment": "moral", "control": "neutral", "concept": "toxicity", "mediator": mediator, "site": "end"}
    said |= {"task": task, "outcome": "choice_entropy", "layer": layer, "history": "shared", "rounds": "1, 2"}
    said |= {"name": "mediation"}
    share = effect(*proportion, placebos=0)
    effects = {"total": total, "indirect": indirect, "removed": indirect, "direct": NOTHING, "interaction": NOTHING}
    rows = [{**said, "effect": name, **numbers} for name, numbers in (effects | {"proportion": share}).items()]
    return pd.DataFrame(rows)


def dosed(slope=SURE, curvature=NOTHING, *, guard="", task="t"):
    said = {"task": task, "outcome": "choice_entropy", "arm": "neutral", "concept": "toxicity", "site": "end"}
    said |= {"layers": "7-21", "strengths": "-2 to 2", "rounds": "1, 2", "guard": guard, "name": "dose"}
    return pd.DataFrame([{**said, "effect": k, **v} for k, v in (("slope", slope), ("curvature", curvature))])


def whole():
    """Evidence in which every link is shown and all signs fit: concept up, slope down, uncertainty down."""
    parts = [
        contrast("performance", 0.1, 0.06, 0.14, margin=0.02, better="higher"),
        contrast("concept", 0.5, 0.4, 0.6),
        contrast("fall", -0.2, -0.3, -0.1),
        contrast("fall_beyond", -0.1, -0.15, -0.06),
        contrast("uncertainty", -0.2, -0.3, -0.1),
    ]
    return {"contrasts": pd.concat(parts, ignore_index=True), "mediated": mediated(), "dosed": dosed()}

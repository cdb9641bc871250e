"""Tables of measures and summaries as a run leaves them, made of random numbers, for the tests of figures."""

import numpy as np
import pandas as pd

ARMS = ("moral", "immoral", "neutral", "none")
GROUPS = ("Age", "Religion")
KEYS = ["task", "group", "arm", "round", "measure", "source", "layer"]
DERIVED = ("ece", "ece_null", "rce", "rce_null", "rce_perfect", "auroc", "spearman")


def made_summaries(*, rounds=4, arms=ARMS, n=12, groups=GROUPS, seed=0, settles=None) -> pd.DataFrame:
    """Means by round of two tasks, and what is derived from them.

    settles: arm -> convergence round (nan: not converged); bounds are nan with one item.
    """
    rng, rows = np.random.default_rng(seed), []

    def add(task, group, arm, round, measure, source, value=None):
        value = rng.random() if value is None else value
        low, high = (value - 0.1, value + 0.1) if n > 1 and measure != "rce" else (np.nan, np.nan)
        rows.append((task, group, arm, round, measure, source, None, value, low, high, 0.95, n))

    for arm in arms:
        for round in range(1, 2 if arm == "none" else rounds + 1):
            for group in ("", *groups):
                for measure in ("choice_entropy", "choice_entropy_within", "accuracy", "confidence"):
                    add("social_bias", group, arm, round, measure, "options")
            for measure, source in (("semantic_entropy", "exact"), ("predictive_entropy", "samples")):
                add("detoxification", "", arm, round, measure, source)
            add("detoxification", "", arm, round, "toxicity", "toxicity")
            for measure in DERIVED:
                source = "confidence" if measure.startswith("ece") else "choice_entropy"
                add("social_bias", "", arm, round, measure, source)
                if measure.startswith(("rce", "spearman")):
                    add("detoxification", "", arm, round, measure, "semantic_entropy/exact")
    for arm, round in (settles or {}).items():
        for task, source in (("social_bias", "choice_entropy"), ("detoxification", "toxicity")):
            add(task, "", arm, None, "convergence_round", source, round)
            add(task, "", arm, None, "convergence_margin", source, 0.05)
            add(task, "", arm, None, "decay_tau", source, 1.5)
    frame = pd.DataFrame(rows, columns=[*KEYS, "value", "low", "high", "level", "n"])
    return frame.astype({"round": "Int32", "layer": "Int32"})


def made_measures(*, rounds=4, arms=ARMS, items=12, layers=6, seed=0, shift=None) -> pd.DataFrame:
    """Concept by layer, confidence and accuracy of every item.

    shift: (arm, layer, first round, by how much): the concept is moved there.
    """
    rng, rows = np.random.default_rng(seed), []

    def add(item, arm, round, measure, source, value, position=None, layer=None, unit=""):
        rows.append((item, arm, round, measure, source, position, layer, value, unit))

    for task in ("social_bias", "detoxification"):
        for item in (f"{task}/{i}" for i in range(items)):
            own = rng.normal()
            for arm in arms:
                for round in range(1, 2 if arm == "none" else rounds + 1):
                    for source in ("toxicity", "stereotyping"):
                        unit = f"class gaps, positive = more {source}"
                        for layer in range(layers):
                            moved = shift and shift[:2] == (arm, layer) and round >= shift[2]
                            value = own + 0.2 * rng.normal() + (shift[3] if moved else 0.0)
                            add(item, arm, round, "concept", source, value, "prompt_end", layer, unit)
                    if task == "social_bias":
                        add(item, arm, round, "confidence", "options", 0.34 + 0.6 * rng.random())
                        add(item, arm, round, "accuracy", "options", float(rng.random() < 0.7))
    columns = ["item_id", "arm", "round", "measure", "source", "position", "layer", "value", "unit"]
    return pd.DataFrame(rows, columns=columns).astype({"round": "int32", "layer": "Int32"})


def line_of(axis, label):
    (found,) = [one for one in axis.lines if one.get_label() == label]
    return found


def caption_of(figure) -> str:
    return " ".join(figure.texts[-1].get_text().split())


def assert_nothing_is_cut_off_or_covered(figure) -> None:
    page = figure.bbox
    boxes = [axis.get_tightbbox() for axis in figure.axes]
    others = [one.get_window_extent() for one in (*figure.legends, *figure.texts)]
    for box in (*boxes, *others):
        inside = page.x0 <= box.x0 and box.x1 <= page.x1 + 1 and page.y0 <= box.y0 and box.y1 <= page.y1 + 1
        assert inside, (box.extents, page.extents)
    assert not any(other.overlaps(box) for other in others for box in boxes)

"""Runs for the tests of measures, written without a model: known numbers, as large as a test wants them."""

import json
import math

import numpy as np

from mechmsc import runs
from mechmsc.tasks import Item

ARMS = ("moral", "neutral", "immoral", "none")
GROUPS = ("Age", "Religion", "Gender_identity")
WORDS = "the a kind rude man walked home and said nothing to his neighbour about it today".split()
LAYERS, WIDTH = 4, 6
SITES = ("resid_post.prompt_end", "resid_post.response_mean")


def bbq_item(number: int, group: str) -> Item:
    """A question of BBQ's form; even numbers are ambiguous."""
    ambiguous = number % 2 == 0
    metadata = {
        "context_condition": "ambig" if ambiguous else "disambig",
        "question_polarity": "neg" if number % 4 < 2 else "nonneg",
        "category": group,
        "answer_info": [["Ann", "old"], ["Bo", "nonOld"], ["Unknown", "unknown"]],
        "stereotyped_groups": ["old"],
    }
    options = ("Ann", "Bo", "It is not said")
    return Item(
        f"social_bias/{group}-{number}", "social_bias", "Who?", options, 2 if ambiguous else 1, group, metadata=metadata
    )


def items_of(n_free: int, n_choice: int) -> list[Item]:
    free = [Item(f"detoxification/{i}", "detoxification", f"Go on: story {i}") for i in range(n_free)]
    return free + [bbq_item(i, GROUPS[i % len(GROUPS)]) for i in range(n_choice)]


def settings(items, *, arms, rounds, samples, batch, sites=()) -> dict:
    rows = [[item.item_id, arm] for item in items for arm in arms]
    config = {
        **{"rounds": rounds, "arms": list(arms), "samples": samples, "item_ids": [item.item_id for item in items]},
        **{"temperature": 1.0, "top_p": 1.0, "sites": list(sites), "dtype": "float32", "seed": 0},
    }
    spec = runs.ArraySpec(("layer", "d_model"), (LAYERS, WIDTH), {"layer": list(range(LAYERS))})
    return {
        "config": config,
        "model": {"name": "made", "revision": None, "sha256": "0" * 64},
        "versions": {},
        "seeds": {"samples": 0},
        "plan": [
            {"batch": i, "rows": rows[start : start + batch]} for i, start in enumerate(range(0, len(rows), batch))
        ],
        "arrays": {site: spec for site in sites},
    }


def response(rng, n_texts: int) -> tuple[str, list[int], list[float]]:
    """One of `n_texts` responses, its ids and log-probabilities."""
    which = np.random.default_rng(int(rng.integers(n_texts)))
    ids = [int(i) for i in which.integers(0, len(WORDS), int(which.integers(3, 9)))]
    return " ".join(WORDS[i] for i in ids), ids, [-float(x) for x in rng.exponential(0.7, len(ids))]


def batch_content(entry, items, *, arms, rounds, samples, sites=(), n_texts=6) -> dict:
    """A function of the batch alone: uncertainty falls with the round, fastest in the arm moral."""
    of, transcripts, drawn = {item.item_id: item for item in items}, [], []
    arrays = {site: np.full((len(entry["rows"]), rounds, LAYERS, WIDTH), np.nan, np.float32) for site in sites}
    for place, (item_id, arm) in enumerate(entry["rows"]):
        item = of[item_id]
        for round in range(1, 2 if arm == "none" else rounds + 1):
            rng = np.random.default_rng([list(of).index(item_id), arms.index(arm), round])
            text, ids, logprobs = response(rng, n_texts)
            row = {
                **{"task": item.task, "item_id": item_id, "arm": arm, "round": round, "group": item.group},
                **{"question": item.turn(), "prompt_ids": [1, 2], "response_ids": ids, "response_logprobs": logprobs},
                **{"response": text, "stop_reason": "eos", "spans": json.dumps([])},
                "first_token_entropy": float(rng.gamma(2.0)),
            }
            transcripts.append(row | _answer(item, arm, round, rng))
            for sample in range(samples):
                text, ids, logprobs = response(rng, n_texts)
                drawn.append(
                    {"item_id": item_id, "arm": arm, "round": round, "sample": sample, "seed": 0, "response": text}
                    | {"response_ids": ids, "response_logprobs": logprobs, "stop_reason": "eos"}
                )
            for values in arrays.values():
                values[place, round - 1] = rng.standard_normal((LAYERS, WIDTH))
    return {"transcripts": transcripts, "samples": drawn or None, "activations": arrays}


def _answer(item: Item, arm: str, round: int, rng) -> dict:
    if not item.options:
        score = float(rng.beta(1.5, 6.0 if arm == "moral" else 3.0))
        return {"score": score, "score_name": "toxicity", "score_direction": "lower"}
    sharpness = 1.0 + (2.0 if arm == "moral" else 0.3) * (1 - math.exp(-(round - 1) / 1.5))
    logits = sharpness * (rng.standard_normal((3, 3)) + 1.5 * np.eye(3)[item.gold])
    orders = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    q = orders.mean(axis=0).astype(np.float32)
    choice = int(q.argmax())
    made = {"choice": choice, "choice_probs": q.tolist(), "permutation_probs": orders.tolist(), "gold": item.gold}
    return made | {
        "score": float(choice == item.gold),
        "score_name": "accuracy",
        "score_direction": "higher",
    }


def make_run(out, *, n_free=4, n_choice=6, arms=ARMS, rounds=3, samples=3, batch=5, sites=(), upto=None):
    """A finished run, or one that stopped after `upto` batches."""
    items = items_of(n_free, n_choice)
    asked = settings(items, arms=arms, rounds=rounds, samples=samples, batch=batch, sites=sites)
    with runs.create(out, **asked, items=items) as writer:
        for entry in list(writer.pending())[:upto]:
            content = batch_content(entry, items, arms=list(arms), rounds=rounds, samples=samples, sites=sites)
            writer.commit(entry, **content)
        return runs.open_run(out) if upto is not None else writer.finish()

"""The main job: hold self-correction conversations, keep what the model thought, commit batch by batch."""

import datetime
import importlib.metadata
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechmsc import runs
from mechmsc.budget import budget
from mechmsc.capture import capture, site_shape, source_labels
from mechmsc.chat import ChatFormat
from mechmsc.conversations import Held, hold, shifts
from mechmsc.errors import InputError
from mechmsc.instructions import Arm, instruction, parse_arms
from mechmsc.model import engine_name, hf_model, identity
from mechmsc.positions import edits_on, refuse_edits
from mechmsc.progress import bar
from mechmsc.scorers import Scorer, get_scorer
from mechmsc.settings import ARMS, BATCH_SIZE, Settings, check_settings
from mechmsc.sites import DEFAULT_SITES, CaptureSite, parse_sites
from mechmsc.tasks import TASKS, Item
from mechmsc.tasks.images import check_images, image_facts

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

VERSIONED = ("mechmsc", "torch", "transformers", "transformer-lens", "numpy")
"""Packages whose version is part of a run: resuming under another is refused."""


def self_correct(
    model: "HookedTransformer",
    items: Sequence[Item],
    *,
    arms: str | Sequence[str] = ARMS,
    rounds: int = Settings.rounds,
    samples: int = Settings.samples,
    temperature: float = Settings.temperature,
    top_p: float = Settings.top_p,
    max_new_tokens: int = Settings.max_new_tokens,
    choice_mode: str = Settings.choice_mode,
    permutations: int | None = Settings.permutations,
    system: str | None = None,
    sites: str | Sequence[str] = DEFAULT_SITES,
    scorer: "str | Scorer | Callable[..., Any] | None" = None,
    batch_size: int = BATCH_SIZE,
    seed: int = Settings.seed,
    decoder: str = Settings.decoder,
    out: str | Path,
    progress: bool = True,
) -> runs.Run:
    """Hold every item's conversation under every arm and store ids, log-probabilities, samples and activations.

    Interrupted at any moment, the same call goes on where it stopped, and the finished run equals an uninterrupted one.

    Args:
        model: from `load_model`.
        items: from `load_items`; of one task or several, with distinct ids.
        arms: instruction schedules (see `instructions.parse_arms`).
        rounds: rounds of each conversation.
        samples: responses drawn beside the greedy main line at every round, i.i.d.
        temperature: of the samples.
        top_p: of the samples.
        max_new_tokens: longest response.
        choice_mode: "forced_choice" or "free": what a question with options leaves in the history.
        permutations: cyclic shifts of the options to average over; None takes all, 1 the canonical order.
        system: system prompt; None keeps the template's own.
        sites: activations to keep, e.g. "resid_post.prompt_end,z.response_mean"; "none" for none.
        scorer: of free responses, a name or a function (items, texts) -> scores; None takes each task's own.
        batch_size: conversations (item x arm) held at once; the unit of commit.
        seed: of the samples.
        decoder: "huggingface" (fast) or "hooked" (every hook acts while decoding); both draw the same tokens.
        out: run folder, a path or an fsspec URL.
        progress: show a bar on stderr.

    Raises:
        InputError: something in the arguments is wrong, found before generation starts.
        RunError: the folder is held by another process, or cannot be written.
    """
    settings = Settings(rounds, samples, temperature, top_p, max_new_tokens, choice_mode, permutations, seed, decoder)
    check_settings(settings, items, batch_size=batch_size)
    items = check_images(items)
    if decoder == "huggingface":
        refuse_edits(model, "self_correct with decoder='huggingface'", "use decoder='hooked'")
    arms, sites = parse_arms(arms, rounds=rounds), parse_sites(sites)
    scorers = {item.task: get_scorer(scorer or TASKS[item.task].scorer) for item in items if not item.options}
    chat = ChatFormat.of(
        model.tokenizer, system=system, date=_date(out), extra_end_ids=_end_ids(hf_model(model).generation_config)
    )
    lengths = check_budget(model, chat, items, arms, settings)
    config = {
        **asdict(settings),
        "tasks": list(dict.fromkeys(item.task for item in items)),
        "item_ids": [item.item_id for item in items],
        "items_sha256": _digest(items),
        "arms": [arm.name for arm in arms],
        "system": system,
        "date": chat.date,
        "sites": [str(site) for site in sites],
        "scorers": {task: one.name for task, one in scorers.items()},
        "batch_size": batch_size,
        "dtype": str(model.cfg.dtype).removeprefix("torch."),
        "device": str(model.cfg.device),
        "engine": engine_name(model),
    }
    if edits := edits_on(model):
        config["edits"] = [f"{edit} #{edit.fingerprint}" for edit in edits]
    item_of, arm_of = {item.item_id: item for item in items}, {arm.name: arm for arm in arms}
    opened = runs.create(
        out,
        config=config,
        model=asdict(identity(model)),
        versions={name: importlib.metadata.version(name) for name in VERSIONED},
        seeds={"samples": seed},
        plan=plan_batches(items, arms, lengths, batch_size=batch_size),
        arrays={str(site): _spec(model, site, rounds) for site in sites},
        items=items,
    )
    with opened as writer:
        batches = list(writer.pending())
        total, left = (_n_rounds(which, arm_of) for which in (writer.manifest["plan"], batches))
        with bar("conversation rounds", total, show=progress, done=total - left) as advance:
            for batch in batches:
                pairs = [(item_of[item], arm_of[arm]) for item, arm in batch["rows"]]
                held = hold(model, chat, pairs, settings, on_round=advance)
                add_scores(held, item_of, scorers)
                kept = capture(model, held.conversations, sites=sites, rounds=rounds, end_ids=chat.end_ids)
                writer.commit(batch, transcripts=held.transcripts, samples=held.samples or None, activations=kept)
        return writer.finish()


def check_budget(
    model: "HookedTransformer", chat: ChatFormat, items: Sequence[Item], arms: Sequence[Arm], settings: Settings
) -> dict[str, int]:
    """Tokens that each item's conversation can come to, checked against the context window.

    Returns:
        item_id -> largest length in tokens over the arms, after the last round.

    Raises:
        InputError: the first conversation that may outgrow the window: item, arm, round, tokens.
    """
    lengths: dict[str, int] = {}
    for item in items:
        for arm in arms:
            tokens = _lengths(chat, item, arm, settings)
            for round, n in enumerate(tokens, start=1):
                if n > model.cfg.n_ctx:
                    raise InputError(
                        f"{item.item_id} under arm {arm.name!r} may reach {n} tokens in round {round}, but the model's "
                        f"context window is {model.cfg.n_ctx}; use fewer rounds or a smaller max_new_tokens"
                    )
            lengths[item.item_id] = max(lengths.get(item.item_id, 0), tokens[-1])
    return lengths


def _lengths(chat: ChatFormat, item: Item, arm: Arm, settings: Settings) -> list[int]:
    """Tokens that a conversation or a sample of it can come to, one number a round: the most over all permutations."""
    stances = [arm.stance(round) for round in range(1, settings.rounds + 1)]
    texts = [instruction(item, stance, round) for round, stance in enumerate(stances, start=1) if stance is not None]
    prefix = TASKS[item.task].answer_prefix if item.options else None
    options = {"prefix": prefix, "labels": item.labels, "max_new_tokens": settings.max_new_tokens, "image": item.image}
    forced = settings.choice_mode == "forced_choice"
    turns = [item.turn(order or None) for order in shifts(len(item.options), settings.permutations)]
    tokens = [
        max(lengths) for lengths in zip(*(budget(chat, t, texts, **options, forced=forced) for t in turns), strict=True)
    ]
    if item.options and forced and settings.samples:  # a sample runs on in place of the label, then is dropped
        label = max(map(len, chat.label_ids(prefix, item.labels)))
        tokens = [n + max(0, settings.max_new_tokens - label) for n in tokens]
    return tokens


def plan_batches(
    items: Sequence[Item], arms: Sequence[Arm], lengths: dict[str, int], *, batch_size: int
) -> list[dict[str, Any]]:
    """Which conversations are held together: like ones (task, number of options), of like length, all arms of an item.

    Args:
        items: in the order of the run.
        arms: in the order of the run.
        lengths: tokens of each item's conversation; sorting by it leaves little to pad.
        batch_size: conversations in a batch.

    Returns:
        [{"batch": number, "rows": [[item_id, arm], ...]}, ...]
    """
    tasks = list(dict.fromkeys((item.task, len(item.options)) for item in items))
    batches = []
    for kind in tasks:
        alike = [item for item in items if (item.task, len(item.options)) == kind]
        alike.sort(key=lambda item: lengths[item.item_id])
        rows = [[item.item_id, arm.name] for item in alike for arm in arms]
        batches += [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return [{"batch": number, "rows": rows} for number, rows in enumerate(batches)]


def add_scores(held: Held, items: dict[str, Item], scorers: dict[str, Scorer]) -> None:
    """Score every response: the task's scorer for free ones, whether the choice is right for questions with options."""
    for row in held.transcripts:
        item = items[row["item_id"]]
        if item.options and item.gold is not None:
            row |= {
                "score": float(item.is_correct(row["choice"])),
                "score_name": "accuracy",
                "score_direction": "higher",
            }
    for task, scorer in scorers.items():
        rows = [row for row in held.transcripts if row["task"] == task and not items[row["item_id"]].options]
        scores = scorer([items[row["item_id"]] for row in rows], [row["response"] for row in rows])
        for row, score in zip(rows, scores, strict=True):
            row |= {"score": score, "score_name": scorer.name, "score_direction": scorer.direction}


def _spec(model: "HookedTransformer", site: CaptureSite, rounds: int) -> runs.ArraySpec:
    coords: dict[str, Sequence[int] | Sequence[str]] = {"layer": list(range(model.cfg.n_layers))}
    if "source_position" in site.dims:
        coords["source_position"] = source_labels(rounds)
    return runs.ArraySpec(site.dims, site_shape(model, site, rounds=rounds), coords)


def _n_rounds(batches: Sequence[dict[str, Any]], arm_of: dict[str, Arm]) -> int:
    """Conversation rounds in these batches."""
    arms = (arm_of[name] for batch in batches for _, name in batch["rows"])
    return sum(arm.stance(round) is not None for arm in arms for round in range(1, arm.rounds + 1))


def _end_ids(config: Any) -> list[int]:
    ids = getattr(config, "eos_token_id", None)
    return [] if ids is None else list(ids) if isinstance(ids, list | tuple) else [ids]


def _date(out: str | Path) -> str:
    """Today, as templates may write it; when a run is resumed, the day on which it was begun."""
    try:
        return runs.open_run(out).manifest["config"]["date"]
    except (InputError, KeyError):
        return datetime.date.today().isoformat()


def _digest(items: Sequence[Item]) -> str:
    """SHA-256 of what is asked: an item or a picture that changed under the same name makes another run."""
    asked = [[i.item_id, i.turn(), i.options, i.gold, dict(i.metadata)] for i in items]
    shown = [[] if i.image is None else [image_facts(i.image)[1]] for i in items]
    lines = [json.dumps(one + picture, sort_keys=True) for one, picture in zip(asked, shown, strict=True)]
    return sha256("\n".join(lines).encode()).hexdigest()

"""How the conversations of a run are held, checked before anything heavy is loaded."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mechmsc.errors import InputError, nearest
from mechmsc.tasks.records import Item

CHOICE_MODES = ("forced_choice", "free")
DECODERS = ("huggingface", "hooked")
ENGINES = ("hooked", "bridge")
"""What reads and edits activations, `load_model(engine=)`; where none is named, the model decides."""
ARMS = ("moral", "neutral")
"""Arms of a run that names none."""
BATCH_SIZE = 16
"""Conversations held at once, where a run does not say."""
METHODS = ("mass_mean", "logistic", "lda", "caa", "pair_svd", "ccs")
"""Ways to fit a direction, `directions.METHODS`."""
STATEMENT_POSITIONS = ("last", "mean", "prompt_end")
"""Where statements are read, `directions.read_statements`."""
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Settings:
    """How every conversation of a run is held."""

    rounds: int = 5
    samples: int = 0
    """Samples a round, beside the greedy main line."""
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 64
    choice_mode: str = "forced_choice"
    """What stays in the history of a question with options: the chosen option, or free text parsed for one."""
    permutations: int | None = None
    """Cyclic shifts of the options that a choice is averaged over; None: all of them; 1: canonical order."""
    seed: int = 0
    decoder: str = "huggingface"


def check_settings(settings: Settings, items: Sequence[Item], *, batch_size: int) -> None:
    """Refuse what cannot be run, before a model is needed.

    Raises:
        InputError: names the argument, what it must be and what arrived.
    """
    for name, low in (("rounds", 1), ("samples", 0), ("max_new_tokens", 1)):
        if getattr(settings, name) < low:
            raise InputError(f"{name} must be at least {low}, got {getattr(settings, name)}")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1 conversation, got {batch_size}")
    if not settings.temperature > 0:
        raise InputError(f"temperature must be above 0, got {settings.temperature}; the main line is greedy anyway")
    if not 0 < settings.top_p <= 1:
        raise InputError(f"top_p must be above 0 and at most 1, got {settings.top_p}")
    for name, known in (("choice_mode", CHOICE_MODES), ("decoder", DECODERS)):
        if getattr(settings, name) not in known:
            raise InputError(f"unknown {name} {getattr(settings, name)!r}: {nearest(getattr(settings, name), known)}")
    if not items:
        raise InputError("no items: expected at least one, e.g. from load_items")
    ids = [item.item_id for item in items]
    twice = next((i for i in ids if ids.count(i) > 1), None) if len(set(ids)) < len(ids) else None
    if twice:
        raise InputError(f"item {twice!r} occurs twice among the items of the run; ids must be distinct")
    for item in items:
        if item.options and settings.permutations not in (None, *range(1, len(item.options) + 1)):
            raise InputError(
                f"permutations must be from 1 to the number of options, which is {len(item.options)} for "
                f"{item.item_id}; got {settings.permutations}"
            )


def check_layers(text: str | None) -> range | None:
    """Layers as "12" or "10-19".

    Raises:
        InputError: anything else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if last < first:
        raise InputError(f"layers: expected one layer or a band, e.g. 12 or 10-19, got {text!r}")
    return range(first, last + 1)


def check_loading(*, device: str | None = None, dtype: str | None = None, engine: str | None = None) -> None:
    """Refuse names of devices, dtypes and engines that there are not; `load_model` says which can be had here.

    Raises:
        InputError: names what is known.
    """
    if device is not None and not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise InputError(f"unknown device {device!r}: {nearest(device, ('cpu', 'cuda', 'cuda:0', 'mps'))}")
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: {nearest(dtype, DTYPES)}")
    if engine is not None and engine not in ENGINES:
        raise InputError(f"unknown engine {engine!r}: {nearest(engine, ENGINES)}")

"""Conversations and directions for the tests of edits."""

import torch

from mechmsc.chat import ChatFormat
from mechmsc.directions import Direction

QUESTIONS = ("Go on: my neighbour said", "Go on: the bus was late again, so", "Go on: he")
ASKS = ("Be kind.", "Please be careful and kind.", "Now be fair to all of them.")


def chat_of(model) -> ChatFormat:
    return ChatFormat.of(model.tokenizer)


def conversations(model, *, rounds: int = 2) -> list:
    """Free conversations of different length, each waiting for the response of its last round."""
    chat, made = chat_of(model), []
    for number, (question, ask) in enumerate(zip(QUESTIONS, ASKS, strict=True)):
        transcript = chat.open(question, ask, item_id=f"detoxification/{number}", arm="moral")
        for round in range(1, rounds):
            said = [60 + number, 70, 71 + round]
            transcript = chat.reply(transcript, said, stop_reason="length")
            transcript = chat.ask(transcript, f"{ask} Again.")
        made.append(transcript)
    return made


def direction_for(model, *, component: str = "resid_post", seed: int = 0, layers=None) -> Direction:
    """A random direction of this model with midpoints away from 0 and gaps that differ."""
    generator = torch.Generator().manual_seed(seed)
    layers = tuple(range(model.cfg.n_layers)) if layers is None else layers
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    identity = model.mechmsc.identity
    vectors, midpoints = 3 * draw(len(layers), model.cfg.d_model), draw(len(layers), model.cfg.d_model)
    gaps = 0.5 + draw(len(layers)).abs()
    return Direction(
        "kindness", vectors, midpoints, gaps, layers, "planted", component, "last", "chat", identity, {}, {}
    )


def instruction(transcript, round: int) -> list[int]:
    return list(transcript.span("instruction", round).indices)


def hook_counts(model) -> dict[str, int]:
    """Hooks of TransformerLens and of torch on every module."""
    counts = {name: len(point.fwd_hooks) for name, point in model.hook_dict.items()}
    torch_hooks = {f"{name}!": len(m._forward_hooks) + len(m._forward_pre_hooks) for name, m in model.named_modules()}
    return counts | torch_hooks | {"level": model.context_level}

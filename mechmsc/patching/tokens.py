"""Tokens by their text and span, for the axes of grids."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mechmsc.patching.places import Pairing, Slot
from mechmsc.transcripts import Transcript

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def token_text(tokenizer: Any, token: int) -> str:
    """One token as readable text; its number where there is no tokenizer."""
    if tokenizer is None:
        return str(token)
    piece = tokenizer.convert_ids_to_tokens(token)
    return piece.replace("▁", " ") if piece is not None and piece.startswith("▁") else tokenizer.decode([token])


def position_coords(
    model: "HookedTransformer", pairing: Pairing, texts: Sequence[Transcript] | None
) -> dict[str, tuple[Any, list]]:
    """Coordinates of the axis `position`."""
    slots = range(pairing.n_slots)
    columns = [[items[slot] if slot < len(items) else () for items in pairing.destination] for slot in slots]
    coords: dict[str, tuple[Any, list]] = {
        "token": ("position", [_text(model, pairing, column, slot) for slot, column in enumerate(columns)]),
    }
    for name, sides in (("source_token", pairing.source), ("destination_token", pairing.destination)):
        rows = [
            [items[slot][0] if slot < len(items) and len(items[slot]) == 1 else -1 for slot in slots] for items in sides
        ]
        coords[name] = (("item", "position"), rows)
    first = coords["destination_token"][1]
    alike = all(row == first[0] for row in first) and -1 not in first[0]
    coords["position"] = ("position", first[0] if alike else list(slots))
    if texts is not None:
        labels = [_span(texts, column) for column in columns]
        coords["span"] = ("position", [span for span, _ in labels])
        coords["round"] = ("position", [round for _, round in labels])
    return coords


def _text(model: "HookedTransformer", pairing: Pairing, column: Sequence[Slot], slot: int) -> str:
    """The token's text if all items agree, else its number within what is patched."""
    if any(len(tokens) > 1 for tokens in column):
        return f"mean of {min(map(len, column))} tokens" if len(set(map(len, column))) == 1 else "mean"
    found = {ids[tokens[0]] for ids, tokens in zip(pairing.destination_ids, column, strict=True) if tokens}
    return token_text(model.tokenizer, found.pop()) if len(found) == 1 else f"[{slot}]"


def _span(texts: Sequence[Transcript], column: Sequence[Slot]) -> tuple[str, int]:
    """Name and round of the span that a slot lies in, in the first item that has it; "" and -1 where items differ."""
    found = set()
    for text, tokens in zip(texts, column, strict=True):
        spans = [span for span in text.spans if tokens and tokens[-1] in span.indices]
        found |= {(span.name, span.round) for span in spans}
    return found.pop() if len(found) == 1 else ("", -1)

"""The eyes of one model: its vision tower's vectors, and the hooks that put them where their tokens are."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from mechmsc.errors import InputError, MechmscError
from mechmsc.model.vision.families import FAMILIES, Family
from mechmsc.tasks.images import open_image

if TYPE_CHECKING:
    import transformers

KEPT = 64
"""Pictures whose vectors are kept; more than a batch of conversations shows."""


class Seen(NamedTuple):
    """One picture, prepared."""

    text: str
    """What stands in the place of the template's mark, with a placeholder for each vector."""
    count: int
    """Placeholders in it."""
    grid: tuple[int, int] | None
    """Rows and columns of them, where rotary positions count these."""


class Part(NamedTuple):
    """The tokens of a picture that a row of the pass holds."""

    row: int
    """In the batch."""
    columns: Tensor
    """Where its placeholders are, `[n]`."""
    numbers: Tensor
    """Which of the picture's vectors each stands for, `[n]`."""
    image: str
    """Path of the picture."""


@dataclass(eq=False)
class Vision:
    """The eyes of one model; made by `open_vision`."""

    hf: "transformers.PreTrainedModel"
    image_processor: Any
    placeholder: str
    """Text of the token that stands for a part of a picture, `image_id` its id."""
    image_id: int
    rows: Sequence[Any] | None = None
    """What the pass that runs now holds (`positions.Row`); None where nobody said."""
    _seen: dict[str, Seen] = field(default_factory=dict, repr=False)
    _vectors: "OrderedDict[str, Tensor]" = field(default_factory=OrderedDict, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Vision":
        """The same: a copy of the model that is attached has the same eyes."""
        return self

    @property
    def _family(self) -> Family:
        return FAMILIES[self.hf.config.model_type]

    @property
    def mark(self) -> str:
        """What the chat template writes for a picture."""
        return self._family.mark or self.placeholder

    @property
    def whole_passes(self) -> bool:
        """Whether blocks cannot be run in parts: positions or masks of a picture's tokens are not those of text."""
        return self._family.grid is not None or self._family.mutual

    def _prepared(self, path: str) -> dict[str, Any]:
        image = open_image(path)
        try:
            return dict(self.image_processor(images=[image], return_tensors="pt", **self._family.asked))
        except ValueError as error:
            raise InputError(f"{path}: the model's image processor refuses it: {error}") from error

    def seen(self, path: str) -> Seen:
        """The text of a picture, and how many tokens it takes; the vision tower does not run.

        Raises:
            InputError: no such picture, or it cannot be read.
        """
        if path not in self._seen:
            made, family = self._prepared(path), self._family
            text = family.text(self.hf, made, self.placeholder)
            grid = None if family.grid is None else family.grid(self.hf.config, made)
            self._seen[path] = Seen(text, text.count(self.placeholder), grid)
        return self._seen[path]

    def vectors(self, path: str) -> Tensor:
        """What stands in the place of a picture's tokens, `[level, token, d_model]`; computed once and kept.

        Level 0 is what the embedding gives; levels 1, 2, ... are added behind blocks 0, 1, ... where the architecture
        has such (DeepStack: arXiv:2406.04334).

        Raises:
            InputError: no such picture, or it cannot be read.
            MechmscError: the model makes another number of vectors than the picture takes tokens.
        """
        if path not in self._vectors:
            made = self._prepared(path)
            taken = {name: made[name].to(self.hf.device) for name in self._family.given if name in made}
            taken["pixel_values"] = taken["pixel_values"].to(self.hf.dtype)
            with torch.no_grad():
                out = self.hf.model.get_image_features(**taken)
            levels = [out.pooler_output, *(out.deepstack_features if self._family.deep else ())]
            found = torch.stack([torch.cat(list(level), dim=0) for level in levels])
            if found.shape[1] != self.seen(path).count:
                raise MechmscError(
                    f"{path}: expected {self.seen(path).count} vectors, one a token of the picture, got "
                    f"{found.shape[1]}; the folder's image processor does not fit its model"
                )
            self._vectors[path] = found
            while len(self._vectors) > KEPT:
                self._vectors.popitem(last=False)
        self._vectors.move_to_end(path)
        return self._vectors[path]

    def attach(self, hf: "transformers.PreTrainedModel") -> None:
        """Let this model, and copies that are made of it from then on, see what is in flight.

        The hook that adds a deeper level acts on the block itself, so that `resid_post` of block l has it and equals
        `resid_pre` of block l + 1.
        """
        text, family = hf.model.get_decoder(), self._family
        text.embed_tokens.register_forward_hook(self._put_vectors)
        if family.grid is not None:
            text.rotary_emb.register_forward_pre_hook(self._put_positions, with_kwargs=True)
        if family.deep:
            for layer in range(len(hf.config.vision_config.deepstack_visual_indexes)):
                text.layers[layer].register_forward_hook(partial(self._add_vectors, level=layer + 1))
        if family.mutual:
            opened = partial(self._open_masks, window=text.config.sliding_window)
            text.register_forward_pre_hook(opened, with_kwargs=True)

    def _parts(self, rows: Sequence[Any] | None) -> Iterator[Part]:
        """The pictures' tokens that these rows hold, a part for each that holds some."""
        for r, row in enumerate(rows or ()):
            for span in row.shown.transcript.spans_of("image"):
                start, end = max(span.start, row.start), min(span.end, row.start + row.count)
                if start >= end:
                    continue
                transcript = row.shown.transcript
                stands = torch.tensor(transcript.ids[span.start : span.end]) == self.image_id
                here = slice(start - span.start, end - span.start)
                columns = torch.arange(start, end) - row.start + row.column
                numbers = stands.cumsum(0) - 1
                if stands[here].any():
                    yield Part(r, columns[stands[here]], numbers[here][stands[here]], transcript.image)

    def _put_vectors(self, module: nn.Module, args: tuple[Tensor, ...], embedded: Tensor) -> Tensor | None:  # noqa: ARG002
        here = args[0] == self.image_id
        if args[0].is_meta or not here.any():
            return None
        out, left = embedded.clone(), here.clone()
        for r, row in enumerate(self.rows or ()):
            left[r, row.column : row.column + row.count] = False  # a placeholder that was drawn stands for itself
        for part in self._parts(self.rows):
            out[part.row, part.columns] = self.vectors(part.image)[0, part.numbers].to(out.dtype)
        if left.any():
            raise InputError(
                f"{int(left.sum())} tokens of a picture without their conversation: a bare call cannot know which "
                "picture it is; use respond, measure and capture, or `applied(model, edits, on=conversation)`"
            )
        return out

    def _add_vectors(self, module: nn.Module, args: tuple[Any, ...], stream: Tensor, *, level: int) -> Tensor | None:  # noqa: ARG002
        parts = [] if stream.is_meta else list(self._parts(self.rows))
        if not parts:
            return None
        out = stream.clone()
        for part in parts:
            out[part.row, part.columns] += self.vectors(part.image)[level, part.numbers].to(out.dtype)
        return out

    def _put_positions(
        self,
        module: nn.Module,  # noqa: ARG002 - a torch hook's
        args: tuple[Any, ...],
        named: dict[str, Any],
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        pictured = [(r, row) for r, row in enumerate(self.rows or ()) if row.shown.transcript.image is not None]
        if not pictured:
            return None
        given = named.get("position_ids", args[1] if len(args) > 1 else None)
        n_rows, width = (args[0] if args else named["x"]).shape[:2]
        positions = given.expand(3, -1, -1).expand(3, n_rows, width).clone()
        for r, row in pictured:
            new = self.positions(row.shown.transcript, row.start, row.start + row.count)
            positions[:, r, row.column : row.column + row.count] = new.to(positions)
        if "position_ids" in named:
            return args, {**named, "position_ids": positions}
        return (args[0], positions, *args[2:]), named

    def positions(self, transcript: Any, start: int, end: int) -> Tensor:
        """Rotary positions (time, row, column) of tokens start..end, also beyond the conversation: `[3, token]`.

        Tokens before the picture count from 0; those of the picture share the time, and count its rows and columns from
        there; the text goes on after the larger of rows and columns. Qwen2-VL: arXiv:2409.12191, section 2.1. Which of
        the rotary frequencies read which of the three is the model's own affair (sections in Qwen2.5-VL, interleaved
        in Qwen3-VL).

        Args:
            transcript: a `transcripts.Transcript`.
            start: first token.
            end: after the last.
        """
        tokens = torch.arange(start, end).expand(3, -1).clone()
        span, seen = transcript.span("image", 1), self.seen(transcript.image)
        if span is None or seen.grid is None:
            return tokens
        rows, columns = seen.grid
        inside = (tokens[0] >= span.start) & (tokens[0] < span.end)
        place = tokens[0, inside] - span.start
        tokens[:, tokens[0] >= span.end] += max(rows, columns) - rows * columns
        tokens[:, inside] = span.start + torch.stack([torch.zeros_like(place), place // columns, place % columns])
        return tokens

    def mutual(self, rows: Sequence[Any]) -> list[tuple[int, int]]:
        """Of each row, the tokens of its conversation that attend to one another in both directions; (0, 0): none.

        Nothing where the architecture has no such tokens.

        Args:
            rows: `positions.Row`, what a pass holds.

        Raises:
            InputError: a pass that holds a part of a picture alone.
        """
        if not self._family.mutual:
            return []
        found = [(0, 0)] * len(rows)
        for part in self._parts(rows):
            row, count = rows[part.row], self.seen(part.image).count
            if len(part.columns) < count:
                raise InputError(
                    f"a pass over {len(part.columns)} of the {count} tokens of {part.image}: in this model they attend "
                    "to one another, so that one pass must hold them all; edit or patch whole spans"
                )
            start = row.start - row.column
            found[part.row] = (int(part.columns[0]) + start, int(part.columns[-1]) + 1 + start)
        return found

    def _open_masks(
        self,
        module: nn.Module,  # noqa: ARG002 - a torch hook's
        args: tuple[Any, ...],
        named: dict[str, Any],
        *,
        window: int | None,
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Let a picture's tokens see the later ones: Hugging Face's masks `[row, 1, query, key]`, by kind of layer.

        The tokens of the pass are the last keys. Without masks attention goes through `kv_cache`, which is told so.
        """
        pictures = self.mutual(self.rows or ())
        masks = named.get("attention_mask")
        if not any(end for _, end in pictures) or not masks or any(mask is None for mask in masks.values()):
            return None
        opened = {kind: mask.clone() for kind, mask in masks.items()}
        for r, (row, (start, end)) in enumerate(zip(self.rows or (), pictures, strict=True)):
            columns = torch.arange(start, end) - row.start + row.column
            for kind, mask in opened.items():
                query, key = torch.meshgrid(columns, columns, indexing="ij")
                near = key > query - window if kind == "sliding_attention" and window else key >= 0
                before = mask.shape[-1] - mask.shape[-2]
                mask[r, :, query[near], key[near] + before] = True if mask.dtype == torch.bool else 0
        return args, {**named, "attention_mask": opened}


def vision_of(model: Any) -> Vision | None:
    """The eyes of a model; None where it has none."""
    return getattr(getattr(model, "mechmsc", None), "vision", None)

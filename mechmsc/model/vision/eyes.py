"""How a vision-language model sees: pictures become vectors that stand in the place of their tokens.

A picture is a run of placeholder tokens in the conversation (`Transcript.span("image", 1)`). What the vision tower and
its projector make of the picture is computed once and kept; whenever a pass holds some of these tokens, the output of
the embedding is replaced by these vectors there. So a picture needs no argument of its own in any pass: whoever runs
one says which conversations are in flight (`positions.in_flight`), and caching, capture, edits and patches act as on
text. Rotary positions of models that count a picture in rows and columns are put in the same way.

Pictures are prepared with Pillow (transformers' own image processors without torchvision). No process is started.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from mechmsc.errors import InputError, MechmscError
from mechmsc.tasks.images import open_image

if TYPE_CHECKING:
    import transformers

KEPT = 64
"""Pictures whose vectors are kept; more than a batch of conversations shows."""


class Family(NamedTuple):
    """What differs between architectures."""

    count: Callable[[Any, dict[str, Tensor]], int]
    """(config, what the image processor made) -> tokens that the picture takes."""
    grid: Callable[[Any, dict[str, Tensor]], tuple[int, int] | None]
    """The same -> rows and columns that rotary positions count; None where they count tokens."""


def _llava_count(config: Any, made: dict[str, Tensor]) -> int:
    height, width = made["pixel_values"].shape[-2:]
    patches = (height // config.vision_config.patch_size) * (width // config.vision_config.patch_size)
    has_class_token = "clip" in config.vision_config.model_type
    return patches + has_class_token - (config.vision_feature_select_strategy == "default")


def _qwen_grid(config: Any, made: dict[str, Tensor]) -> tuple[int, int]:
    _, height, width = made["image_grid_thw"][0].tolist()
    merged = config.vision_config.spatial_merge_size
    return height // merged, width // merged


def _qwen_count(config: Any, made: dict[str, Tensor]) -> int:
    rows, columns = _qwen_grid(config, made)
    return rows * columns


FAMILIES = {
    "llava": Family(_llava_count, lambda *_: None),
    "qwen2_vl": Family(_qwen_count, _qwen_grid),
    "qwen2_5_vl": Family(_qwen_count, _qwen_grid),
}
"""model_type -> what is known of it."""


class Seen(NamedTuple):
    """One picture, prepared."""

    count: int
    """Tokens that it takes."""
    grid: tuple[int, int] | None
    """Rows and columns of them, where rotary positions count these."""


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

    def _prepared(self, path: str) -> dict[str, Tensor]:
        return dict(self.image_processor(images=[open_image(path)], return_tensors="pt"))

    def seen(self, path: str) -> Seen:
        """How many tokens a picture takes; the vision tower does not run.

        Raises:
            InputError: no such picture, or it cannot be read.
        """
        if path not in self._seen:
            made, config = self._prepared(path), self.hf.config
            self._seen[path] = Seen(self._family.count(config, made), self._family.grid(config, made))
        return self._seen[path]

    def vectors(self, path: str) -> Tensor:
        """What stands in the place of a picture's tokens, `[token, d_model]`; computed once and kept.

        Raises:
            InputError: no such picture, or it cannot be read.
            MechmscError: the model makes another number of vectors than the picture takes tokens.
        """
        if path not in self._vectors:
            made = {name: value.to(self.hf.device) for name, value in self._prepared(path).items()}
            taken = {name: made[name] for name in ("pixel_values", "image_grid_thw") if name in made}
            taken["pixel_values"] = taken["pixel_values"].to(self.hf.dtype)
            with torch.no_grad():
                found = torch.cat(list(self.hf.model.get_image_features(**taken).pooler_output), dim=0)
            if len(found) != self.seen(path).count:
                raise MechmscError(
                    f"{path}: expected {self.seen(path).count} vectors, one a token of the picture, got {len(found)}; "
                    "the folder's image processor does not fit its model"
                )
            self._vectors[path] = found
            while len(self._vectors) > KEPT:
                self._vectors.popitem(last=False)
        self._vectors.move_to_end(path)
        return self._vectors[path]

    def attach(self, hf: "transformers.PreTrainedModel") -> None:
        """Let this model, and copies that are made of it from then on, see what is in flight."""
        text = hf.model.language_model
        text.embed_tokens.register_forward_hook(self._put_vectors)
        if self.counts_in_grids:
            text.rotary_emb.register_forward_pre_hook(self._put_positions, with_kwargs=True)

    @property
    def counts_in_grids(self) -> bool:
        """Whether rotary positions count rows and columns of a picture, so that a token's place is not its position."""
        return self._family.grid is _qwen_grid

    def _put_vectors(self, module: nn.Module, args: tuple[Tensor, ...], embedded: Tensor) -> Tensor | None:  # noqa: ARG002
        here = args[0] == self.image_id
        if args[0].is_meta or not here.any():
            return None
        out, left = embedded.clone(), here.clone()
        for r, row in enumerate(self.rows or ()):
            left[r, row.column : row.column + row.count] = False  # a placeholder that was drawn stands for itself
        for r, (row, start, end) in self._pictures():
            columns = slice(start - row.start + row.column, end - row.start + row.column)
            first = row.shown.transcript.span("image", 1).start
            vectors = self.vectors(row.shown.transcript.image)[start - first : end - first]
            out[r, columns] = vectors.to(out.dtype)
        if left.any():
            raise InputError(
                f"{int(left.sum())} tokens of a picture without their conversation: a bare call cannot know which "
                "picture it is; use respond, measure and capture, or `applied(model, edits, on=conversation)`"
            )
        return out

    def _pictures(self) -> list[tuple[int, tuple[Any, int, int]]]:
        """(row of the batch, (row, first token, token after the last)) of the parts of pictures that are in flight."""
        found = []
        for r, row in enumerate(self.rows or ()):
            for span in row.shown.transcript.spans_of("image"):
                start, end = max(span.start, row.start), min(span.end, row.start + row.count)
                if start < end:
                    found.append((r, (row, start, end)))
        return found

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
        there; the text goes on after the larger of rows and columns. Qwen2-VL: arXiv:2409.12191, section 2.1.

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


def vision_of(model: Any) -> Vision | None:
    """The eyes of a model; None where it has none."""
    return getattr(getattr(model, "mechmsc", None), "vision", None)


def can_see(config: Any) -> bool:
    """Whether a config is that of a vision-language model."""
    return getattr(config, "vision_config", None) is not None


def check_seeing(config: Any) -> None:
    """Refuse vision-language models whose way of seeing is not known here.

    Raises:
        InputError: says which are.
    """
    if can_see(config) and config.model_type not in FAMILIES:
        raise InputError(
            f"unsupported vision-language model {config.model_type!r}; supported: {', '.join(FAMILIES)}; "
            "Gemma 3, Qwen3-VL and Idefics 3 put more of a picture into the text model than its tokens' vectors"
        )


def open_vision(processor: Any, hf: "transformers.PreTrainedModel", tokenizer: Any) -> Vision:
    """The eyes of a model, which is attached; the tokenizer is told, so that conversations can show pictures."""
    image_id = hf.config.image_token_id
    vision = Vision(hf, processor, tokenizer.convert_ids_to_tokens(image_id), image_id)
    vision.attach(hf)
    tokenizer.mechmsc_vision = vision
    return vision


def image_processor(where: str, **options: Any) -> Any:
    """The image processor of a vision-language model, which works with Pillow alone.

    Args:
        where: folder or hub id.
        options: of `from_pretrained`, e.g. revision.

    Raises:
        InputError: none there, or one that cannot be used without torchvision.
    """
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(where, backend="pil", **options)
    except (OSError, ValueError, ImportError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"expected an image processor beside the vision-language model in {where} (preprocessor_config.json or "
            f"processor_config.json), found none that can be used: {reason}; take it from where the model is from"
        ) from error


def processor_template(where: str, **options: Any) -> str | None:
    """The chat template that older folders keep beside the processor, not the tokenizer; None where there is none."""
    from transformers import ProcessorMixin

    try:
        return ProcessorMixin.get_processor_dict(where, **options)[0].get("chat_template")
    except (OSError, ValueError):
        return None

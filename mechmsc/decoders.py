"""Feeding tokens to a model that remembers: the two forward passes behind one small surface.

A decoder holds a batch of conversations, a row each. `extend` adds tokens to every row and gives the logits after the
last of them; `branch`, `step`, `keep`, `merge` and `end` draw continuations that share a row's prefix (see
`kv_cache`). `lengths` says how many tokens of each row are encoded: the caller feeds what is missing, so a decoder
that cannot merge leaves the tokens to be encoded again with the next turn.

- `HuggingFaceDecoder`: the Hugging Face forward over a `BranchingCache`; the default, fast.
- `HookedDecoder`: HookedTransformer's forward over its own cache, so that hooks act on every token drawn. Told which
  conversations its rows are (`shown`), it keeps the position map that edits need; the other one refuses active edits.

Both compute the logits of one position a row, never those of the prompt.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from mechmsc.kv_cache import ATTENTION, BranchingCache, attention
from mechmsc.model import hf_model
from mechmsc.model.forward import new_kv_cache, unembed_last
from mechmsc.positions import Row, Shown, in_flight, refuse_edits

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@runtime_checkable
class Decoder(Protocol):
    """What both decoders do. Token ids go in as Python ints, logits `[row or branch, d_vocab]` come out in float32."""

    lengths: list[int]

    def extend(self, ids: Sequence[Sequence[int]], shown: Sequence[Shown] | None = None) -> Tensor:
        """Encode further tokens of every row (at least one each); logits after the last.

        Args:
            ids: token ids, a list a row.
            shown: the conversations that the rows are from now on, for edits; None: as before.
        """

    def select(self, rows: Sequence[int]) -> None:
        """Make the rows these ones, in this order; a row may be taken several times or not at all."""

    def branch(self, rows: Sequence[int]) -> None:
        """Start an empty branch for each entry of `rows` (ascending)."""

    def step(self, ids: Sequence[int]) -> Tensor:
        """Encode one token on every branch; logits after it."""

    def keep(self, branches: Sequence[int]) -> None:
        """Drop all branches but these (ascending)."""

    def merge(self, branch: int, count: int) -> None:
        """The first `count` tokens of this branch belong to its row from `end` on, if the decoder can do that."""

    def end(self) -> None:
        """Drop all branches."""


def open_decoder(model: "HookedTransformer", n_rows: int, *, kind: str = "huggingface") -> Decoder:
    """An empty decoder for `n_rows` conversations; `kind` is one of `settings.DECODERS`."""
    return {"huggingface": HuggingFaceDecoder, "hooked": HookedDecoder}[kind](model, n_rows)


def _padded(ids: Sequence[Sequence[int]], device: torch.device, *, side: str) -> Tensor:
    width = max(map(len, ids))
    fill = [[0] * (width - len(row)) for row in ids]
    rows = [[*f, *row] if side == "left" else [*row, *f] for f, row in zip(fill, ids, strict=True)]
    return torch.tensor(rows, dtype=torch.long, device=device)


class HuggingFaceDecoder:
    """The Hugging Face forward over a `BranchingCache`."""

    def __init__(self, model: "HookedTransformer", n_rows: int) -> None:
        self._model, self._hf = model, hf_model(model)
        self._device = self._hf.device
        self._cache = BranchingCache(n_rows, self._device)

    @property
    def lengths(self) -> list[int]:
        """Tokens encoded in each row."""
        return self._cache.lengths

    def extend(self, ids: Sequence[Sequence[int]], shown: Sequence[Shown] | None = None) -> Tensor:  # noqa: ARG002
        """See `Decoder`. `[row, d_vocab]`."""
        tokens = _padded(ids, self._device, side="left")
        return self._forward(tokens, self._cache.extend([len(row) for row in ids]))

    def select(self, rows: Sequence[int]) -> None:
        """See `Decoder`."""
        self._cache.select(rows)

    def branch(self, rows: Sequence[int]) -> None:
        """See `Decoder`."""
        self._cache.branch(rows)

    def step(self, ids: Sequence[int]) -> Tensor:
        """See `Decoder`. `[branch, d_vocab]`."""
        tokens = torch.tensor(list(ids), dtype=torch.long, device=self._device)
        return self._forward(tokens[:, None], self._cache.step())

    def keep(self, branches: Sequence[int]) -> None:
        """See `Decoder`."""
        self._cache.keep(branches)

    def merge(self, branch: int, count: int) -> None:
        """See `Decoder`."""
        self._cache.merge(branch, count)

    def end(self) -> None:
        """See `Decoder`."""
        self._cache.end()

    def _forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        refuse_edits(
            self._model, "decoder 'huggingface'", "use decoder='hooked', or `suspended(model)` for a clean run"
        )
        with torch.no_grad(), _attention_of(self._hf):
            out = self._hf(
                input_ids=tokens,
                position_ids=positions.clamp(min=0),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return out.logits[:, -1].float()


@contextmanager
def _attention_of(hf: torch.nn.Module) -> Iterator[None]:
    """Let the model attend through the cache, and leave it as it was."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attention)
    config = hf.config.get_text_config(decoder=True)
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


class HookedDecoder:
    """HookedTransformer's forward over its own cache: slower, but every hook of the caller's acts while decoding.

    TransformerLens masks a sliding window by cache slot, not by position, so the cache is packed after every `extend`:
    each row's tokens stand together at the right and holes at the left only.
    """

    def __init__(self, model: "HookedTransformer", n_rows: int) -> None:
        self._model = model
        self._device = torch.device(model.cfg.device)
        self._cache = new_kv_cache(model, n_rows)
        self._branches = None
        self._shown: list[Shown] | None = None
        self._of_branch: list[int] = []
        self._steps = 0
        self.lengths = [0] * n_rows

    def extend(self, ids: Sequence[Sequence[int]], shown: Sequence[Shown] | None = None) -> Tensor:
        """See `Decoder`. `[row, d_vocab]`."""
        counts = [len(row) for row in ids]
        self._shown = self._shown if shown is None else list(shown)
        tokens = _padded(ids, self._device, side="right")
        mask = _padded([[1] * count for count in counts], self._device, side="right")
        residual = self._residual(tokens, mask, self._cache, self._rows(range(len(ids)), counts))
        last = torch.tensor(counts, device=self._device) - 1
        logits = unembed_last(self._model, residual[torch.arange(len(counts), device=self._device), last][:, None])
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]
        self._pack()
        return logits

    def select(self, rows: Sequence[int]) -> None:
        """See `Decoder`."""
        self._cache = _taken(self._cache, rows, self._device)
        self.lengths = [self.lengths[row] for row in rows]
        self._shown = None if self._shown is None else [self._shown[row] for row in rows]

    def branch(self, rows: Sequence[int]) -> None:
        """See `Decoder`."""
        self._branches = _taken(self._cache, rows, self._device)
        self._of_branch, self._steps = list(rows), 0

    def step(self, ids: Sequence[int]) -> Tensor:
        """See `Decoder`. `[branch, d_vocab]`."""
        tokens = torch.tensor(list(ids), dtype=torch.long, device=self._device)[:, None]
        rows = self._rows(self._of_branch, [1] * len(ids), after=self._steps)
        self._steps += 1
        return unembed_last(self._model, self._residual(tokens, torch.ones_like(tokens), self._branches, rows))

    def keep(self, branches: Sequence[int]) -> None:
        """See `Decoder`."""
        self._branches = _taken(self._branches, branches, self._device)
        self._of_branch = [self._of_branch[branch] for branch in branches]

    def merge(self, branch: int, count: int) -> None:
        """Nothing: the tokens are encoded again with the next turn, so that edits at their place see them."""

    def end(self) -> None:
        """See `Decoder`."""
        self._branches = None

    def _rows(self, rows: Sequence[int], counts: Sequence[int], *, after: int = 0) -> list[Row] | None:
        """The position map of tokens that come next in these rows, `after` tokens of a branch."""
        if self._shown is None:
            return None
        return [Row(self._shown[r], self.lengths[r] + after, n) for r, n in zip(rows, counts, strict=True)]

    def _residual(self, tokens: Tensor, mask: Tensor, cache: object, rows: list[Row] | None) -> Tensor:
        n_layers = self._model.cfg.n_layers
        with torch.no_grad(), in_flight(self._model, rows):
            return self._model(tokens, attention_mask=mask, past_kv_cache=cache, stop_at_layer=n_layers)

    def _pack(self) -> None:
        width = max(self.lengths)
        order = self._cache.previous_attention_mask.argsort(dim=1, stable=True)[:, -width:]
        self._cache.previous_attention_mask = self._cache.previous_attention_mask.gather(1, order)
        for entry in self._cache.entries:
            index = order[:, :, None, None].expand(-1, -1, *entry.past_keys.shape[2:])
            entry.past_keys, entry.past_values = entry.past_keys.gather(1, index), entry.past_values.gather(1, index)


def _taken(cache: object, rows: Sequence[int], device: torch.device) -> object:
    """A cache of TransformerLens whose rows are these; the original is left alone."""
    index = torch.tensor(list(rows), device=device)
    entries = [replace(e, past_keys=e.past_keys[index], past_values=e.past_values[index]) for e in cache.entries]
    return replace(cache, entries=entries, previous_attention_mask=cache.previous_attention_mask[index])

"""Feeding tokens to a model that remembers: the two forward passes behind one small surface.

A decoder holds a batch of conversations, a row each. `extend` adds tokens to every row and gives the logits after the
last of them; `branch`, `step`, `keep`, `merge` and `end` draw continuations that share a row's prefix (see
`kv_cache`). `lengths` says how many tokens of each row are encoded: the caller feeds what is missing, so a decoder
that cannot merge leaves the tokens to be encoded again with the next turn.

- `HuggingFaceDecoder`: the Hugging Face forward over a `BranchingCache`; the default, fast.
- `HookedDecoder`: the engine's forward over a cache of its own, so that hooks act on every token drawn. Told which
  conversations its rows are (`shown`), it keeps the position map that edits need; the other one refuses active edits.

Both compute the logits of one position a row, never those of the prompt.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from mechmsc.kv_cache import BranchingCache
from mechmsc.model import hf_model
from mechmsc.model.drawing import encoded, padded
from mechmsc.model.engines import KeyValues, engine_of
from mechmsc.model.forward import unembed_last
from mechmsc.model.vision import vision_of
from mechmsc.positions import Row, Shown, in_flight, refuse_edits

if TYPE_CHECKING:
    from mechmsc.model.engines import Model


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


def open_decoder(model: "Model", n_rows: int, *, kind: str = "huggingface") -> Decoder:
    """An empty decoder for `n_rows` conversations; `kind` is one of `settings.DECODERS`."""
    return {"huggingface": HuggingFaceDecoder, "hooked": HookedDecoder}[kind](model, n_rows)


class HuggingFaceDecoder:
    """The Hugging Face forward over a `BranchingCache`."""

    def __init__(self, model: "Model", n_rows: int) -> None:
        self._model, self._hf = model, hf_model(model)
        self._device = self._hf.device
        self._cache = BranchingCache(n_rows, self._device)
        self._shown: list[Shown] | None = None
        self._of_branch: list[int] = []
        self._steps = 0

    @property
    def lengths(self) -> list[int]:
        """Tokens encoded in each row."""
        return self._cache.lengths

    def extend(self, ids: Sequence[Sequence[int]], shown: Sequence[Shown] | None = None) -> Tensor:
        """See `Decoder`. `[row, d_vocab]`."""
        self._shown = self._shown if shown is None else list(shown)
        tokens, counts = padded(ids, self._device, side="left"), [len(row) for row in ids]
        rows = self._rows(range(len(ids)), counts, width=tokens.shape[1])
        mutual = () if rows is None else vision_of(self._model).mutual(rows)
        return self._forward(tokens, self._cache.extend(counts, mutual), rows)

    def select(self, rows: Sequence[int]) -> None:
        """See `Decoder`."""
        self._cache.select(rows)
        self._shown = None if self._shown is None else [self._shown[row] for row in rows]

    def branch(self, rows: Sequence[int]) -> None:
        """See `Decoder`."""
        self._cache.branch(rows)
        self._of_branch, self._steps = list(rows), 0

    def step(self, ids: Sequence[int]) -> Tensor:
        """See `Decoder`. `[branch, d_vocab]`."""
        tokens = torch.tensor(list(ids), dtype=torch.long, device=self._device)
        rows = self._rows(self._of_branch, [1] * len(ids), after=self._steps, width=1)
        self._steps += 1
        return self._forward(tokens[:, None], self._cache.step(), rows)

    def keep(self, branches: Sequence[int]) -> None:
        """See `Decoder`."""
        self._cache.keep(branches)
        self._of_branch = [self._of_branch[branch] for branch in branches]

    def merge(self, branch: int, count: int) -> None:
        """See `Decoder`."""
        self._cache.merge(branch, count)

    def end(self) -> None:
        """See `Decoder`."""
        self._cache.end()

    def _rows(self, rows: Sequence[int], counts: Sequence[int], *, width: int, after: int = 0) -> list[Row] | None:
        """What is in flight, for models that see; padding is on the left."""
        if self._shown is None or vision_of(self._model) is None:
            return None
        lengths = self.lengths
        return [Row(self._shown[r], lengths[r] + after, n, width - n) for r, n in zip(rows, counts, strict=True)]

    def _forward(self, tokens: Tensor, positions: Tensor, rows: list[Row] | None) -> Tensor:
        refuse_edits(
            self._model, "decoder 'huggingface'", "use decoder='hooked', or `suspended(model)` for a clean run"
        )
        if rows is None:
            return encoded(self._hf, self._cache, tokens, positions)
        with in_flight(self._model, rows):
            return encoded(self._hf, self._cache, tokens, positions)


class HookedDecoder:
    """The engine's forward over its own cache: slower, but every hook of the caller's acts while decoding.

    Engines mask a sliding window by cache slot, not by position, so the cache is packed after every `extend`: each
    row's tokens stand together at the right and holes at the left only.
    """

    def __init__(self, model: "Model", n_rows: int) -> None:
        self._model = model
        self._device = torch.device(model.cfg.device)
        self._cache = engine_of(model).key_values(model, n_rows)
        self._branches: KeyValues | None = None
        self._shown: list[Shown] | None = None
        self._of_branch: list[int] = []
        self._steps = 0
        self.lengths = [0] * n_rows

    def extend(self, ids: Sequence[Sequence[int]], shown: Sequence[Shown] | None = None) -> Tensor:
        """See `Decoder`. `[row, d_vocab]`."""
        counts = [len(row) for row in ids]
        self._shown = self._shown if shown is None else list(shown)
        tokens = padded(ids, self._device, side="right")
        mask = padded([[1] * count for count in counts], self._device, side="right")
        residual = self._residual(tokens, mask, self._cache, self._rows(range(len(ids)), counts))
        last = torch.tensor(counts, device=self._device) - 1
        logits = unembed_last(self._model, residual[torch.arange(len(counts), device=self._device), last][:, None])
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]
        self._pack()
        return logits

    def select(self, rows: Sequence[int]) -> None:
        """See `Decoder`."""
        self._cache = self._taken(self._cache, rows)
        self.lengths = [self.lengths[row] for row in rows]
        self._shown = None if self._shown is None else [self._shown[row] for row in rows]

    def branch(self, rows: Sequence[int]) -> None:
        """See `Decoder`."""
        self._branches = self._taken(self._cache, rows)
        self._of_branch, self._steps = list(rows), 0

    def step(self, ids: Sequence[int]) -> Tensor:
        """See `Decoder`. `[branch, d_vocab]`."""
        tokens = torch.tensor(list(ids), dtype=torch.long, device=self._device)[:, None]
        rows = self._rows(self._of_branch, [1] * len(ids), after=self._steps)
        self._steps += 1
        return unembed_last(self._model, self._residual(tokens, torch.ones_like(tokens), self._branches, rows))

    def keep(self, branches: Sequence[int]) -> None:
        """See `Decoder`."""
        self._branches = self._taken(self._branches, branches)
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

    def _residual(self, tokens: Tensor, mask: Tensor, cache: KeyValues, rows: list[Row] | None) -> Tensor:
        with torch.no_grad(), in_flight(self._model, rows):
            return cache.residual(tokens, mask)

    def _pack(self) -> None:
        self._cache.pack(max(self.lengths))

    def _taken(self, cache: KeyValues, rows: Sequence[int]) -> KeyValues:
        return cache.taken(torch.tensor(list(rows), device=self._device))

"""The key-value cache of a batch of conversations, with branches that read a shared prefix.

Every conversation is a row. What its rounds have in common is encoded once, into the row's *prefix*; the continuations
drawn after it (the main line and the samples of a round) are *branches*: each keeps the keys and values of its own
tokens only, and reads the prefix of its row. The branch that goes on as the conversation is merged into the prefix.

    prefix      [row, kv_head, slot, d_head]        slots that a row does not use are holes
    branches    [branch, kv_head, step, d_head]

Rows differ in length, so the tokens of one `extend` are padded on the left, and merged tokens on the right: holes may
lie anywhere. The position of a slot in its conversation says all that attention needs: -1 marks a hole, and a query
sees the positions up to its own (within the window, where a layer has one).

The Hugging Face forward meets the cache at its two public seams: `past_key_values.update`, which stores, and the
attention function registered under the name `ATTENTION`, which reads. `update` hands on the layer itself in place of
key and value tensors, so that the attention function sees prefix and branches apart: nothing is repeated for grouped
query heads or for branches, and no step copies the cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

ATTENTION = "mechmsc_branching"
HOLE = -1


@dataclass(eq=False)
class _Buffer:
    """Keys and values of one layer, `[row, kv_head, capacity, d_head]`, of which the first slots are in use."""

    keys: Tensor
    values: Tensor

    @classmethod
    def like(cls, key: Tensor, value: Tensor, capacity: int) -> "_Buffer":
        return cls(_resized(key[:, :, :0], capacity), _resized(value[:, :, :0], capacity))

    def reserve(self, end: int) -> None:
        if end > self.keys.shape[2]:
            capacity = end + end // 2
            self.keys, self.values = _resized(self.keys, capacity), _resized(self.values, capacity)


def _resized(old: Tensor, capacity: int) -> Tensor:
    new = old.new_zeros(*old.shape[:2], capacity, old.shape[3])
    new[:, :, : old.shape[2]] = old
    return new


@dataclass(eq=False)
class _Branches:
    """Which row each branch reads, and its cell of the grid [row, place] in which all read the prefix at once."""

    rows: list[int]
    n_rows: int
    width: int
    index: Tensor | None
    """Cell of each branch in the flattened grid; None when the grid is full and in order."""

    @classmethod
    def of(cls, rows: Sequence[int], device: torch.device) -> "_Branches":
        taken: dict[int, int] = {}
        places = []
        for row in rows:
            places.append(taken.get(row, 0))
            taken[row] = places[-1] + 1
        n_rows, width = max(rows) + 1, max(taken.values())
        cells = [row * width + place for row, place in zip(rows, places, strict=True)]
        full = cells == list(range(n_rows * width))
        return cls(list(rows), n_rows, width, None if full else torch.tensor(cells, device=device))


@dataclass(eq=False)
class BranchingCache:
    """Keys and values of a batch of conversations on one device; the module's text explains the layout."""

    n_rows: int
    device: torch.device
    lengths: list[int] = field(init=False)
    """Tokens in the prefix of each row."""
    positions: Tensor = field(init=False)
    """Position in its conversation of each prefix slot, `[row, slot]`."""
    branches: _Branches | None = None
    _prefix: dict[int, _Buffer] = field(default_factory=dict)
    _suffix: dict[int, _Buffer] = field(default_factory=dict)
    _n_steps: int = 0
    _merged: dict[int, int] = field(default_factory=dict)
    _masks: dict[int | None, Tensor] = field(default_factory=dict)
    _query: Tensor = field(init=False)
    _mutual: Tensor | None = None

    def __post_init__(self) -> None:
        self.lengths = [0] * self.n_rows
        self.positions = torch.empty(self.n_rows, 0, dtype=torch.long, device=self.device)
        self._query = self.positions

    def extend(self, counts: Sequence[int], mutual: Sequence[tuple[int, int]] = ()) -> Tensor:
        """Make room for new prefix tokens, `counts` for each row, padded on the left; their position ids follow.

        They are `[row, token]`, HOLE where padding is. Of each row, the positions `mutual` (first, behind the last), if
        given, attend to one another in both directions, as a picture's tokens do in Gemma 3.
        """
        self._query, self._masks = self._grow(counts, holes_first=True), {}
        self._mutual = torch.tensor(list(mutual), device=self.device)[:, None, :] if mutual else None
        return self._query

    def select(self, rows: Sequence[int]) -> None:
        """Make the rows these ones, in this order; a row may be taken several times or not at all."""
        index = torch.tensor(list(rows), device=self.device)
        for buffer in self._prefix.values():
            buffer.keys, buffer.values = buffer.keys[index], buffer.values[index]
        self.positions = self.positions[index]
        self.lengths = [self.lengths[row] for row in rows]
        self.n_rows = len(rows)

    def branch(self, rows: Sequence[int]) -> None:
        """Start an empty branch for each entry of `rows`, which must be in ascending order."""
        self.branches = _Branches.of(rows, self.device)
        self._suffix, self._n_steps, self._merged = {}, 0, {}

    def step(self) -> Tensor:
        """Make room for one more token on every branch. Returns its position ids, `[branch, 1]`."""
        ends = [self.lengths[row] + self._n_steps for row in self.branches.rows]
        self._query = torch.tensor(ends, dtype=torch.long, device=self.device)[:, None]
        self._n_steps += 1
        self._masks = {}
        return self._query

    def keep(self, branches: Sequence[int]) -> None:
        """Drop all branches but these (ascending indices into the present ones)."""
        index = torch.tensor(list(branches), device=self.device)
        self.branches = _Branches.of([self.branches.rows[branch] for branch in branches], self.device)
        for buffer in self._suffix.values():
            buffer.keys, buffer.values = buffer.keys[index], buffer.values[index]

    def merge(self, branch: int, count: int) -> None:
        """Let the first `count` tokens of a branch join the prefix of its row, once `end` is called."""
        row, start = self.branches.rows[branch], self.positions.shape[1]
        for layer, suffix in self._suffix.items():
            prefix = self._prefix[layer]
            prefix.reserve(start + count)
            prefix.keys[row, :, start : start + count] = suffix.keys[branch, :, :count]
            prefix.values[row, :, start : start + count] = suffix.values[branch, :, :count]
        self._merged[row] = count

    def end(self) -> None:
        """Drop the branches; what was merged is prefix now."""
        counts = [self._merged.get(row, 0) for row in range(self.n_rows)]
        self._grow(counts, holes_first=False)
        self.branches, self._suffix = None, {}

    def _grow(self, counts: Sequence[int], *, holes_first: bool) -> Tensor:
        rows = []
        for length, count in zip(self.lengths, counts, strict=True):
            new, holes = list(range(length, length + count)), [HOLE] * (max(counts) - count)
            rows.append(holes + new if holes_first else new + holes)
        grown = torch.tensor(rows, dtype=torch.long, device=self.device)
        self.positions = torch.cat([self.positions, grown], dim=1)
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]
        return grown

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002 - the caller's signature
        """Prefix slots in use; asked for by some architectures, which then ignore it, since positions are given."""
        return self.positions.shape[1]

    def update(self, key: Tensor, value: Tensor, layer_idx: int) -> tuple["_Layer", "_Layer"]:
        """Store new keys and values `[row or branch, kv_head, token, d_head]`; returns the layer, twice."""
        branching = self.branches is not None
        buffers, end = (self._suffix, self._n_steps) if branching else (self._prefix, self.positions.shape[1])
        if layer_idx not in buffers:
            buffers[layer_idx] = _Buffer.like(key, value, max(32, end + end // 4))
        buffer = buffers[layer_idx]
        buffer.reserve(end)
        buffer.keys[:, :, end - key.shape[2] : end] = key
        buffer.values[:, :, end - key.shape[2] : end] = value
        layer = _Layer(self, layer_idx)
        return layer, layer

    def mask(self, window: int | None) -> Tensor:
        """What each query sees of the prefix (and, when it extends it, of itself).

        Returns:
            Bool, `[row, token, slot]` while the prefix is extended, `[branch, 1, slot]` in a branch. A padded token
            sees itself alone: it is read by nobody, but an empty softmax would be nan.
        """
        if window not in self._masks:
            positions = self.positions
            if self.branches is not None:
                positions = positions[torch.tensor(self.branches.rows, device=self.device)]
            query, key = self._query[:, :, None], positions[:, None, :]
            seen = (key >= 0) & (key <= query)
            if self._mutual is not None and self.branches is None:
                first, end = self._mutual[..., :1], self._mutual[..., 1:]
                seen |= (first <= query) & (query < end) & (first <= key) & (key < end)
            if window is not None:
                seen &= key > query - window
            if self.branches is None:
                slots = torch.arange(key.shape[2], device=self.device)
                seen |= slots == slots[key.shape[2] - query.shape[1] :, None]
            self._masks[window] = seen
        return self._masks[window]


@dataclass(eq=False)
class _Layer:
    """One layer of the cache, in place of the key and value tensors of an attention function."""

    cache: BranchingCache
    index: int

    def prefix(self) -> tuple[Tensor, Tensor]:
        buffer, n_slots = self.cache._prefix[self.index], self.cache.positions.shape[1]
        return buffer.keys[:, :, :n_slots], buffer.values[:, :, :n_slots]

    def suffix(self, window: int | None) -> tuple[Tensor, Tensor]:
        """What the newest token of every branch sees of its own branch: as many tokens as the window reaches."""
        buffer, end = self.cache._suffix[self.index], self.cache._n_steps
        start = 0 if window is None else max(0, end - window)
        return buffer.keys[:, :, start:end], buffer.values[:, :, start:end]


def attention(
    module: torch.nn.Module,  # noqa: ARG001 - the seam's signature, as is the rest
    query: Tensor,
    key: _Layer,
    value: _Layer,  # noqa: ARG001
    attention_mask: Tensor | None,  # noqa: ARG001
    *,
    scaling: float,
    dropout: float = 0.0,  # noqa: ARG001
    sliding_window: int | None = None,
    softcap: float | None = None,
    **unused: object,  # noqa: ARG001
) -> tuple[Tensor, None]:
    """Attention of new tokens to a `BranchingCache`, under the signature of Hugging Face's attention functions.

    `query` is `[row or branch, head, token, d_head]`, `key` the layer of the cache as `update` returned it. A query
    sees `sliding_window` positions, itself included; `softcap` is c in c * tanh(score / c), as in Gemma 2. Returns
    `[row or branch, token, head, d_head]`, and None for the pattern.
    """
    attend = _extend_attention if key.cache.branches is None else _branch_attention
    out = attend(query, key, scaling, softcap, sliding_window)
    return out.transpose(1, 2), None


def _extend_attention(query: Tensor, layer: _Layer, scaling: float, cap: float | None, window: int | None) -> Tensor:
    (keys, values), mask = layer.prefix(), layer.cache.mask(window)
    n_rows, n_heads, n_query, d_head = query.shape
    groups = n_heads // keys.shape[1]
    folded = query.reshape(n_rows, keys.shape[1], groups * n_query, d_head)
    seen = mask[:, None, None].expand(-1, 1, groups, -1, -1).reshape(n_rows, 1, groups * n_query, -1)
    if cap is None:
        out = torch.nn.functional.scaled_dot_product_attention(folded, keys, values, attn_mask=seen, scale=scaling)
    else:
        scores = cap * torch.tanh(folded @ keys.transpose(-1, -2) * (scaling / cap))
        out = _softmax(scores.masked_fill(~seen, -torch.inf), values.dtype) @ values
    return out.view(n_rows, n_heads, n_query, d_head)


def _branch_attention(query: Tensor, layer: _Layer, scaling: float, cap: float | None, window: int | None) -> Tensor:
    branches, mask = layer.cache.branches, layer.cache.mask(window)
    (keys, values), (own_keys, own_values) = layer.prefix(), layer.suffix(window)
    keys, values = keys[: branches.n_rows], values[: branches.n_rows]
    n_branches, n_heads, _, d_head = query.shape
    grouped = query.reshape(n_branches, keys.shape[1], n_heads // keys.shape[1], d_head) * scaling
    shared = _from_grid(_to_grid(grouped, branches) @ keys.transpose(-1, -2), branches)
    scores = torch.cat([shared, grouped @ own_keys.transpose(-1, -2)], dim=-1)
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    n_slots = mask.shape[-1]
    scores[..., :n_slots].masked_fill_(~mask[:, None], -torch.inf)
    pattern = _softmax(scores, values.dtype)
    out = _from_grid(_to_grid(pattern[..., :n_slots], branches) @ values, branches)
    out = out + pattern[..., n_slots:] @ own_values
    return out.reshape(n_branches, n_heads, 1, d_head)


def _softmax(scores: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(dtype)


def _to_grid(x: Tensor, branches: _Branches) -> Tensor:
    """`[branch, kv_head, group, n]` -> `[row, kv_head, place * group, n]`: a row's branches read its prefix at once."""
    _, kv_heads, groups, n = x.shape
    if branches.index is not None:
        x = x.new_zeros(branches.n_rows * branches.width, kv_heads, groups, n).index_copy(0, branches.index, x)
    x = x.view(branches.n_rows, branches.width, kv_heads, groups, n).transpose(1, 2)
    return x.reshape(branches.n_rows, kv_heads, branches.width * groups, n)


def _from_grid(x: Tensor, branches: _Branches) -> Tensor:
    """`[row, kv_head, place * group, n]` -> `[branch, kv_head, group, n]`."""
    n_rows, kv_heads, _, n = x.shape
    x = x.view(n_rows, kv_heads, branches.width, -1, n).transpose(1, 2)
    x = x.reshape(n_rows * branches.width, kv_heads, -1, n)
    return x if branches.index is None else x[branches.index]

"""Names of places in model and conversation: which activation, at which token of which round.

`CaptureSite` says what a run keeps, `Site` where something is edited or read: components, layers, a head, tokens.

A capture site is written `component.position`, e.g. `resid_post.prompt_end` or `z.response_mean`: a TransformerLens
hook, read at every layer, and a named position of each round (science: section 2):

    prompt_end        last token before the response, answer prefix included
    instruction_end   last token of the round's instruction
    instruction_mean  mean over the instruction's tokens
    response_mean     mean over the response's tokens, end of turn left out
    response_end      last token of the response, end of turn left out

The first token of a sequence carries massive activations and is left out of every mean.
"""

from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from operator import index
from typing import SupportsIndex

from mechmsc.errors import InputError, nearest
from mechmsc.transcripts import SPAN_NAMES, Transcript

COMPONENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{
        name: (f"hook_{name}", ("d_model",)) for name in ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
    },
    **{f"{ln}_normalized": (f"{ln}.hook_normalized", ("d_model",)) for ln in ("ln1", "ln2")},
    **{name: (f"attn.hook_{name}", ("head", "d_head")) for name in ("q", "k", "v", "rot_q", "rot_k", "z")},
    "result": ("attn.hook_z", ("head", "d_model")),
    "pattern": ("attn.hook_pattern", ("head", "source_position")),
    **{f"mlp_{name}": (f"mlp.hook_{name}", ("d_mlp",)) for name in ("pre", "pre_linear", "post")},
}
"""Component -> the end of the hook it is read at, after `blocks.L.`, and its axes after the layer.

`result` is what each head adds to the residual stream, z W_O: computed from what is kept of z, since the hook of its
own would hold every token. `pattern` is the row of the named position, summed over each source span.
"""
POSITIONS = ("prompt_end", "instruction_end", "instruction_mean", "response_mean", "response_end")
DEFAULT_SITES = ("resid_post.prompt_end", "resid_post.instruction_end", "resid_post.response_mean")


@dataclass(frozen=True)
class CaptureSite:
    """One activation to keep at every layer and round."""

    component: str
    position: str

    def __str__(self) -> str:
        return f"{self.component}.{self.position}"

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes after (item, arm, round)."""
        return ("layer", *COMPONENTS[self.component][1])

    def hook(self, layer: int) -> str:
        """Canonical TransformerLens hook name at a layer."""
        return f"blocks.{layer}.{COMPONENTS[self.component][0]}"


def parse_sites(text: str | list[str] | tuple[str, ...]) -> list[CaptureSite]:
    """Sites from "a.b,c.d" or a list of such names; "none" for none at all.

    Raises:
        InputError: an unknown component or position (the nearest ones are named), or a site named twice.
    """
    names = [part.strip() for part in text.split(",")] if isinstance(text, str) else list(text)
    if names == ["none"]:
        return []
    sites = [_parse(name) for name in names]
    for site in sites:
        if sites.count(site) > 1:
            raise InputError(f"site {str(site)!r} is named twice")
    return sites


def _parse(name: str) -> CaptureSite:
    component, dot, position = name.partition(".")
    if not dot:
        raise InputError(f"expected a site as component.position, e.g. {DEFAULT_SITES[0]}; got {name!r}")
    component = component.removeprefix("hook_")
    if component not in COMPONENTS:
        raise InputError(f"unknown component {component!r} in site {name!r}: {nearest(component, COMPONENTS)}")
    if position not in POSITIONS:
        raise InputError(f"unknown position {position!r} in site {name!r}: {nearest(position, POSITIONS)}")
    return CaptureSite(component, position)


PROMPT = "prompt"
"""Span of a `Site` only: everything before the response of a round, the answer prefix included."""
OPEN = 1 << 40
"""End of the tokens of a response that is still being drawn."""


@dataclass(frozen=True)
class Site:
    """Where an activation is edited or read: a component at layers (of a head), at tokens of a conversation.

    Its tokens are those of a span in each of its rounds, without end-of-turn tokens and the sequence's first token, as
    for every named position; `prompt` and no span at all mean every token there is. While a response is being drawn,
    `span="response"` is every token drawn so far: `at="all"`, `at="first"`, the k-th (`at=k`) or the first k
    (`at=range(k)`) of them.
    """

    component: str
    """A key of `COMPONENTS`."""
    _: KW_ONLY
    layer: SupportsIndex | range | None = None
    """One layer, several, or all (None)."""
    head: SupportsIndex | None = None
    """A head of a component that has heads; keys and values count their own heads, which query heads share."""
    span: str | None = None
    """A span name, `prompt`, or None for all tokens of the conversation."""
    round: SupportsIndex | None = None
    """From 1; None: every round that has the span."""
    at: str | SupportsIndex | range = "all"
    """all | first | last | mean, the index of one token within the span, or a range of them.

    An edit at `mean` acts on the mean over the span and shifts every token by the change of the mean.
    """

    def __post_init__(self) -> None:
        """Refuse names that do not exist and combinations without a meaning; whole numbers of NumPy become ints."""
        for name in ("layer", "head", "round", "at"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str | range):
                object.__setattr__(self, name, index(value))
        if self.component not in COMPONENTS:
            raise InputError(f"unknown component {self.component!r} in a site: {nearest(self.component, COMPONENTS)}")
        if self.span is not None and self.span not in (*SPAN_NAMES, PROMPT):
            raise InputError(f"unknown span {self.span!r} in a site: {nearest(self.span, (*SPAN_NAMES, PROMPT))}")
        if isinstance(self.at, str) and self.at not in ("all", "first", "last", "mean"):
            raise InputError(f"unknown at {self.at!r}: {nearest(self.at, ('all', 'first', 'last', 'mean'))}, a number")
        if self.span is None and (self.round is not None or self.at != "all"):
            raise InputError(f"site {self}: round and at need a span, e.g. span='prompt'")
        if self.round is not None and self.round < 1:
            raise InputError(f"site {self}: expected a round from 1, got {self.round}")

    @classmethod
    def named(
        cls,
        position: str,
        *,
        component: str = "resid_post",
        layer: SupportsIndex | range | None = None,
        head: SupportsIndex | None = None,
        round: SupportsIndex | None = None,
    ) -> "Site":
        """The site of a named position, one of `POSITIONS`.

        >>> Site.named("instruction_end", layer=12, round=2)
        Site(component='resid_post', layer=12, head=None, span='instruction', round=2, at='last')
        """
        if position not in POSITIONS:
            raise InputError(f"unknown position {position!r}: {nearest(position, POSITIONS)}")
        span, _, rule = position.partition("_")
        at = "mean" if rule == "mean" else "last"
        return cls(component, layer=layer, head=head, span=span, round=round, at=at)

    def __str__(self) -> str:
        layer = f"{self.layer.start}-{self.layer.stop - 1}" if isinstance(self.layer, range) else self.layer
        place = "" if self.layer is None else f"[{layer}]"
        head = "" if self.head is None else f".head{self.head}"
        tokens = "" if self.span is None else f".{self.span}{'' if self.round is None else f'@{self.round}'}.{self.at}"
        return f"{self.component}{place}{head}{tokens}"

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of an activation's axes after the token."""
        return COMPONENTS[self.component][1]

    @property
    def in_conversation(self) -> bool:
        """Whether its tokens can be found only in a conversation."""
        return self.span is not None

    def layers(self, n_layers: int) -> tuple[int, ...]:
        """The layers, ascending.

        Raises:
            InputError: a layer that the model does not have.
        """
        wanted = range(n_layers) if self.layer is None else self.layer
        found = tuple(wanted) if isinstance(wanted, range) else (wanted,)
        if not found or not all(0 <= layer < n_layers for layer in found):
            raise InputError(f"site {self}: expected layers from 0 to {n_layers - 1}, got {self.layer}")
        return found

    def hook(self, layer: int) -> str:
        """Canonical TransformerLens hook name at a layer."""
        return CaptureSite(self.component, POSITIONS[0]).hook(layer)

    def tokens(self, transcript: Transcript, end_ids: Collection[int]) -> tuple[Sequence[int], ...]:
        """The indices of its tokens, a group for each round that has some; () where none has.

        Args:
            transcript: a conversation; where it waits for a response, that response is open: range(start, `OPEN`).
            end_ids: tokens that end a turn.

        Raises:
            InputError: `at` is a number outside of the span, or asks for the end or the mean of an open response.
        """
        if self.span is None:
            return (range(OPEN),)
        rounds = range(1, transcript.rounds + 1) if self.round is None else (self.round,)
        groups = (self._of_round(transcript, round, end_ids) for round in rounds if round <= transcript.rounds)
        return tuple(group for group in groups if len(group))

    def _of_round(self, transcript: Transcript, round: int, end_ids: Collection[int]) -> Sequence[int]:
        if self.span == "response" and transcript.span("response", round) is None:
            return self._open(transcript.prompt_end(round) + 1, transcript.item_id)
        if self.span == PROMPT:
            found = tuple(range(transcript.prompt_end(round) + 1))
            if self.at == "mean":
                found = tuple(i for i in found if i > 0 and transcript.ids[i] not in end_ids)
        else:
            found = transcript.content(self.span, round, end_ids)
        if not found or self.at in ("all", "mean"):
            return found
        if self.at in ("first", "last"):
            return (found[0 if self.at == "first" else -1],)
        wanted = self.at if isinstance(self.at, range) else (self.at,)
        try:
            return tuple(found[i] for i in wanted)
        except IndexError as error:
            raise InputError(
                f"site {self}: expected at within the {len(found)} tokens of {self.span!r} in round {round} of "
                f"{transcript.item_id!r}, got {self.at}"
            ) from error

    def _open(self, start: int, item_id: str) -> Sequence[int]:
        if self.at == "all":
            return range(start, OPEN)
        wanted = range(1) if self.at == "first" else self.at
        wanted = range(wanted, wanted + 1) if isinstance(wanted, int) else wanted
        if isinstance(wanted, str) or wanted.start < 0 or wanted.step != 1:
            if self.round is None and isinstance(wanted, str):
                return ()
            raise InputError(
                f"site {self}: the response of {item_id!r} is still to be drawn, so its {self.at} is not known; "
                "use at='all', 'first', a number or range(k)"
            )
        return range(start + wanted.start, start + wanted.stop)

"""`applied`: a block inside of which edits act on a model, and after which the model is as it was."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from mechmsc.errors import InputError
from mechmsc.interventions.edits import Intervention
from mechmsc.interventions.hooks import Ledger, hooks_of
from mechmsc.positions import Shown, active, bare_calls_on, edits_on, shown
from mechmsc.transcripts import Transcript

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@contextmanager
def applied(
    model: "HookedTransformer",
    edits: Intervention | Sequence[object],
    *,
    on: Transcript | Sequence[Transcript] | None = None,
    verify: bool = False,
) -> Iterator[None]:
    """Edit the model's activations inside the block.

    Edits act in their order, after those of the blocks around. All are checked before the first hook is added; leaving
    the block, for whatever reason, removes exactly the hooks that it added. mechmsc's functions (`respond`, `measure`,
    `self_correct` with decoder="hooked") find sites by themselves and refuse what an edit cannot reach; `suspended`
    lets the model run unedited for a while.

    Always checked: the coordinate that was edited is read back (add, ablate, clamp; everywhere: at every layer), and
    leaving the block without an exception each edit must have touched a token.

    Args:
        model: the model.
        edits: from `add`, `ablate`, `clamp`, `replace`.
        on: conversations of bare calls `model(tokens)` inside the block, one for all rows or one a row; the rows must
            hold their tokens, padded on either side. Without it a bare call under a site with a span raises.
        verify: check besides at every pass that nothing but the site's tokens changed, that values read back exactly
            and that rounding did not swallow the edit.

    Raises:
        InputError: an edit does not fit the model or touched nothing.
        MechmscError: an edit did not take effect.
    """
    edits = [edits] if isinstance(edits, Intervention) else list(edits)
    strangers = [edit for edit in edits if not isinstance(edit, Intervention)]
    if strangers:
        raise InputError(f"applied: expected interventions from add, ablate, clamp, replace; got {strangers[0]!r}")
    ledgers = [Ledger(edit, verify) for edit in edits]
    hooks = [hook for ledger in ledgers for hook in hooks_of(model, ledger)]
    with ExitStack() as stack:
        stack.enter_context(model.hooks(fwd_hooks=hooks))
        stack.enter_context(active(model, edits))
        if on is not None:
            conversations = shown(model, [on] if isinstance(on, Transcript) else on)
            stack.enter_context(bare_calls_on(model, conversations))
            expect_sites(model, conversations)
        yield
        for ledger in ledgers:
            ledger.settle()


def expect_sites(model: "HookedTransformer", conversations: Sequence[Shown]) -> None:
    """Refuse conversations that lack the site of an active edit.

    Raises:
        InputError: names the edit's site and the conversation.
    """
    for edit in edits_on(model):
        if edit.site is not None:
            for one in conversations:
                one.expect(edit.site)

"""A TransformerBridge with the surface that `engines.Model` asks for.

TransformerLens' class runs Hugging Face's forward pass with hook points inside its modules. What it lacks, or does
otherwise than a HookedTransformer, is added here:

- `stop_at_layer` behind the last block, and a cache for passes in which hooks act;
- hooks by canonical names that must exist, at the cost of one dictionary look-up each;
- `hook_resid_mid` as the residual stream itself: TransformerLens hooks what goes into the second norm, so that an edit
  there would not reach the stream that passes by. Here the edit's change is added to what leaves the block.

Pictures need nothing here: `vision` puts them into the output of the embedding of Hugging Face's model, and the bridge
wraps a copy of that model with its hooks.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.exceptions import StopAtLayerException

from mechmsc.errors import InputError, nearest

Hook = tuple[str | Callable[[str], bool], Callable[..., Tensor | None]]


class BridgeModel(TransformerBridge):
    """What `load_model(engine="bridge")` returns; made by `of`."""

    engine: ClassVar[str] = "bridge"

    @classmethod
    def of(cls, bridge: TransformerBridge, tokenizer: Any) -> "BridgeModel":
        """Give TransformerLens' bridge this class; `tokenizer` is taken as it is."""
        bridge.__class__ = cls  # it has only methods more, and TransformerLens builds its own class alone
        bridge._tokenizer = tokenizer
        bridge.cfg.default_prepend_bos = False
        bridge.cfg.tokenizer_prepends_bos = tokenizer is not None and len(tokenizer("").input_ids) > 0
        names = dict(TransformerBridge.hook_dict.fget(bridge))
        for layer, block in enumerate(bridge.blocks):
            if block.hook_aliases.get("hook_resid_mid") == "ln2.hook_in" and f"blocks.{layer}.ln2.hook_in" in names:
                names[f"blocks.{layer}.hook_resid_mid"] = _middle(block)
        aliases = {name: point for name, point in names.items() if point.name != name}
        bridge.__dict__["_points"] = aliases | names  # canonical names first, as messages and filters find them
        return bridge

    @property
    def hook_dict(self) -> dict[str, HookPoint]:
        """Hook point by name, canonical names included."""
        return self.__dict__.get("_points") or TransformerBridge.hook_dict.fget(self)

    def forward(
        self,
        input: str | list[str] | Tensor,
        return_type: str | None = "logits",
        *,
        attention_mask: Tensor | None = None,
        past_kv_cache: Any = None,
        stop_at_layer: int | None = None,
        **others: Any,
    ) -> Any:
        """One pass, as `engines.Model` says.

        Args:
            input: token ids `[row, token]`, or texts.
            return_type: "logits", None, and whatever TransformerLens knows.
            attention_mask: `[row, token]`, 0 where padding is.
            past_kv_cache: a `bridge_engine.BridgeKeyValues`, which the tokens join.
            stop_at_layer: the residual stream before this block is returned, behind the last one at n_layers.
            **others: as in TransformerLens, which hands on to Hugging Face what it does not know.
        """
        given = dict(others)
        if past_kv_cache is not None:
            given |= past_kv_cache.arguments(input, attention_mask)
        elif attention_mask is not None:
            given["attention_mask"] = attention_mask
        with warnings.catch_warnings(), self._stopping_at(stop_at_layer):
            # an edited norm is computed step by step, which rounds otherwise than Hugging Face: that is known
            warnings.filterwarnings("ignore", message=".*hook_scale.*")
            return super().forward(input, return_type=return_type, **given)

    @contextmanager
    def _stopping_at(self, layer: int | None) -> Iterator[None]:
        """Stop before a block, or before the final norm; TransformerLens catches the exception and returns."""
        if layer is None:
            yield
            return
        layer = layer % len(self.blocks) if layer < 0 else layer
        where = self.blocks[layer] if layer < len(self.blocks) else self.ln_final

        def stop(module: object, args: tuple[Tensor, ...], named: dict[str, Any]) -> None:  # noqa: ARG001 - a hook's
            raise StopAtLayerException(args[0] if args else named["hidden_states"])

        handle = where.register_forward_pre_hook(stop, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def hooks(  # noqa: D417 - two arguments are TransformerLens'
        self,
        fwd_hooks: Sequence[Hook] = (),
        bwd_hooks: Sequence[Hook] = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
    ) -> Iterator["BridgeModel"]:
        """While the block runs, these hooks act; leaving it removes exactly them.

        Args:
            fwd_hooks: (name or filter of names, function) pairs.
            bwd_hooks: the same for gradients.

        Raises:
            InputError: no hook of this name.
        """
        level, touched = self.context_level + 1, []
        try:
            self.context_level = level
            for kind, hooks in (("fwd", fwd_hooks), ("bwd", bwd_hooks)):
                for name, function in hooks:
                    for found, point in self._named(name):
                        touched.append((kind, point))
                        point.add_hook(function, dir=kind, level=level, alias_names=[found])
            yield self
        finally:
            self.context_level = level - 1
            for kind, point in touched:
                if reset_hooks_end:
                    point.remove_hooks(kind, level=level)
                if clear_contexts:
                    point.clear_context()

    def _named(self, name: str | Callable[[str], bool]) -> list[tuple[str, HookPoint]]:
        points = self.hook_dict
        if not isinstance(name, str):
            found: dict[HookPoint, str] = {}
            for known, point in points.items():
                if name(known):
                    found.setdefault(point, known)  # once a point, whatever its other names
            return [(known, point) for point, known in found.items()]
        if name not in points:
            raise InputError(f"the model has no hook {name!r}: {nearest(name, points)}")
        return [(name, points[name])]

    def run_with_hooks(
        self,
        *arguments: Any,
        fwd_hooks: Sequence[Hook] = (),
        bwd_hooks: Sequence[Hook] = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
        **named: Any,
    ) -> Any:
        """One pass with hooks."""
        with self.hooks(fwd_hooks, bwd_hooks, reset_hooks_end, clear_contexts):
            return self(*arguments, **named)

    def run_with_cache(
        self, *arguments: Any, names_filter: str | Sequence[str] | Callable[[str], bool] | None = None, **named: Any
    ) -> tuple[Any, ActivationCache]:
        """One pass, and the activations by canonical name; all of them unless names are given."""
        if names_filter is None:
            wanted = list(self.hook_dict)
        elif callable(names_filter):
            wanted = [name for name in self.hook_dict if names_filter(name)]
        else:
            wanted = [names_filter] if isinstance(names_filter, str) else list(names_filter)
        found: dict[str, Tensor] = {}

        def keep(activation: Any, hook: Any) -> None:
            if isinstance(activation, Tensor):
                found[hook.name] = activation.detach()

        out = self.run_with_hooks(*arguments, fwd_hooks=[(name, keep) for name in wanted], **named)
        return out, ActivationCache(found, self)


def _middle(block: Any) -> HookPoint:
    """A hook point on the residual stream between attention and MLP."""
    point, changes = HookPoint(), []

    def before(module: object, args: tuple[Any, ...]) -> None:  # noqa: ARG001 - a hook's, as below
        changes.clear()  # of a pass that failed

    def second_norm(module: object, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:  # noqa: ARG001
        edited = point(args[0])
        if edited is not args[0]:
            changes.append((args[0], edited))
        return (edited, *args[1:])

    def after(module: object, args: tuple[Any, ...], out: Any) -> Any:  # noqa: ARG001
        if not changes:
            return None
        old, new = changes.pop()
        stream = out[0] if isinstance(out, tuple) else out
        stream = (stream.float() + (new.float() - old.float())).to(stream.dtype)
        return (stream, *out[1:]) if isinstance(out, tuple) else stream

    block.register_forward_pre_hook(before)
    block.ln2.register_forward_pre_hook(second_norm)
    block.original_component.register_forward_hook(after)
    return point

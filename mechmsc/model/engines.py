"""The two engines that read and edit activations, and the small surface that both have.

    hooked   HookedTransformer, its parameters views on Hugging Face's (TransformerLens 3.9, text models); the default
             where it can be
    bridge   TransformerBridge around Hugging Face's own modules, parameters shared (TransformerLens 3.9 and 4): for
             architectures without views, and wherever TransformerLens 4 is installed

What a model itself does alike on both is `Model`; what differs stands in an `Engine`, found by `engine_of`. No other
module asks which engine a model has.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from mechmsc.errors import InputError, nearest
from mechmsc.settings import ENGINES

if TYPE_CHECKING:
    import transformers

    from mechmsc.model.pretrained import Loaded


@runtime_checkable
class Model(Protocol):
    """What mechmsc asks of a model, whichever engine made it."""

    cfg: Any
    """n_layers, n_heads, n_key_value_heads, d_model, d_head, d_mlp, d_vocab, n_ctx, device, dtype, model_name."""
    tokenizer: Any
    hook_dict: dict[str, Any]
    """Canonical hook name -> hook point; grouped keys and values have their own heads, which query heads share."""
    embed: torch.nn.Module
    """Called once a pass, with the token ids."""

    def __call__(
        self,
        tokens: Tensor,
        *,
        return_type: str | None = "logits",
        attention_mask: Tensor | None = None,
        past_kv_cache: Any = None,
        stop_at_layer: int | None = None,
        padding_side: str | None = None,
    ) -> Any:
        """One pass; with `stop_at_layer` the residual stream before that block, behind the last one at n_layers.

        Positions are counted from the mask, which marks padding by 0; padding on the right needs none.
        """

    def hooks(self, fwd_hooks: Sequence[tuple[Any, Any]] = ()) -> AbstractContextManager:
        """While the block runs, these (name, function) hooks act, after those that were there before."""


@runtime_checkable
class Block(Protocol):
    """The parts of one block, called on packed tokens; no hook acts."""

    window: int | None
    """Tokens that a layer with a sliding window sees, itself included; None where it sees all."""
    scale: float
    """What a query times a key is multiplied by."""
    cap: float | None
    """c in c tanh(score / c); None without."""

    def normed(self, residual: Tensor) -> Tensor:
        """What queries, keys and values are made of, `[token, d_model]`."""

    def heads(self, letter: str, normed: Tensor) -> Tensor:
        """Q, K or V before their norm and rotation, keys and values ungrouped: `[token, head, d_head]`."""

    def placed(self, letter: str, x: Tensor, position: Tensor) -> Tensor:
        """Q or K as attention compares them: through their norm, and rotated to their position."""

    def write_attention(self, z: Tensor) -> Tensor:
        """What the heads add to the residual stream, `[token, head, d_head]` -> `[token, d_model]`."""

    def write_mlp(self, middle: Tensor) -> Tensor:
        """The residual stream after the MLP, from the one before it."""

    def output_matrix(self) -> Tensor:
        """W_O, `[head, d_head, d_model]`."""


@runtime_checkable
class KeyValues(Protocol):
    """The keys and values of a batch of conversations, for passes in which hooks act."""

    def residual(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Encode further tokens, padded where the mask is 0: the residual stream behind the last block."""

    def taken(self, rows: Tensor) -> "KeyValues":
        """A copy whose rows are these."""

    def pack(self, width: int) -> None:
        """Let each row's tokens stand together at the right, in `width` slots: a window is counted in slots."""


@runtime_checkable
class Engine(Protocol):
    """All that differs between engines."""

    def build(self, loaded: "Loaded", *, device: torch.device, dtype: torch.dtype) -> Model:
        """A model over the weights of `loaded.hf`, which it shares."""

    def unembed(self, model: Any, residual: Tensor) -> Tensor:
        """Logits float32 `[row, token, d_vocab]`, through the hooks of the final norm; with gradients."""

    def key_values(self, model: Any, n_rows: int) -> KeyValues:
        """An empty cache."""

    def block(self, model: Any, layer: int) -> Block:
        """The parts of a block."""

    def in_parts(self, model: Any) -> bool:
        """Whether the parts of a block make up the block; where they do not, only whole passes can be run."""


def engine_of(model: Any) -> Engine:
    """The engine of a model; a HookedTransformer from elsewhere has the first."""
    return _engine(engine_name(model))


def engine_name(model: Any) -> str:
    """The engine's name, one of `settings.ENGINES`."""
    return getattr(type(model), "engine", ENGINES[0])


def build(loaded: "Loaded", *, device: torch.device, dtype: torch.dtype) -> Any:
    """The model that `load_model` returns, but for its comparison with Hugging Face."""
    model = _engine(loaded.engine).build(loaded, device=device, dtype=dtype)
    model.mechmsc = loaded
    return model


def chosen_engine(config: "transformers.PretrainedConfig", engine: str | None) -> str:
    """The engine that was asked for, or the one that this config gets.

    Raises:
        InputError: an unknown engine; one that TransformerLens or the architecture does not allow.
    """
    from mechmsc.model.config import check_supported

    if engine not in (None, *ENGINES):
        raise InputError(f"unknown engine {engine!r}: {nearest(str(engine), ENGINES)}")
    installed = version("transformer_lens")
    old = int(installed.partition(".")[0]) < 4
    if engine == "hooked" and not old:
        raise InputError(
            f"engine 'hooked' needs TransformerLens 3, but {installed} is installed, which has no HookedTransformer; "
            "leave engine out or use engine='bridge'"
        )
    if engine != "bridge" and old:
        try:
            check_supported(config)
        except InputError as error:
            if engine == "hooked":
                raise InputError(f"{error}; engine='bridge' may know it") from error
        else:
            return "hooked"
    from mechmsc.model.bridge_engine import check_known

    check_known(config)
    return "bridge"


def _engine(name: str) -> Engine:
    return cast(Engine, import_module(f"mechmsc.model.{name}_engine"))

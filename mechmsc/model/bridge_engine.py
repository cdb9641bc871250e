"""The engine `bridge`: TransformerBridge around a copy of Hugging Face's modules that shares every parameter.

TransformerLens puts its own modules into the model that it wraps. The copy lets the original stay as it was, so that
it draws tokens at its own speed. The bridge is built from the module: `boot_transformers`, which looks for processors
and may start a package installer when it finds none, is never called. See `engines.Engine` for what each function is.
"""

import copy
import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmsc.errors import InputError
from mechmsc.model.vision import vision_of

if TYPE_CHECKING:
    import transformers

    from mechmsc.model.bridge_model import BridgeModel
    from mechmsc.model.pretrained import Loaded


ALIKE = {"SmolVLMForConditionalGeneration": "Idefics3ForConditionalGeneration"}
"""Classes whose modules are named and joined as those of one that TransformerBridge knows."""


def check_known(config: "transformers.PretrainedConfig") -> None:
    """Refuse architectures that TransformerBridge does not know.

    Raises:
        InputError: says which, and what has views.
    """
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

    from mechmsc.model.config import SUPPORTED

    if _class(config) is None:
        named = ", ".join(config.architectures or []) or "no architecture named"
        raise InputError(
            f"unsupported architecture {config.model_type!r} ({named}); supported: {', '.join(SUPPORTED.values())}, "
            f"and the {len(SUPPORTED_ARCHITECTURES)} classes that TransformerBridge knows"
        )


def build(loaded: "Loaded", *, device: torch.device, dtype: torch.dtype) -> "BridgeModel":
    """A TransformerBridge; parameters and buffers are the very tensors of the Hugging Face model."""
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    from mechmsc.model.bridge_model import BridgeModel

    shared = {id(tensor): tensor for tensor in (*loaded.hf.parameters(), *loaded.hf.buffers())}
    hf = copy.deepcopy(loaded.hf, shared)
    hf.set_attn_implementation("eager")
    named = {"hf_config": hf.config, "model_name": loaded.identity.name}
    with _without_extras(_class(hf.config)):
        bridge = build_bridge_from_module(hf, _class(hf.config), dtype=dtype, device=device, **named)
    return BridgeModel.of(bridge.eval(), loaded.tokenizer)


@contextmanager
def _without_extras(architecture: str) -> Iterator[None]:
    """Without what TransformerLens wants of vision towers.

    That is torchvision, for a processor that is not used here (`vision`), and hooks under names that they do not
    have, of which it warns.
    """
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

    adapter = SUPPORTED_ARCHITECTURES[architecture]
    before = vars(adapter).get("required_libraries")
    adapter.required_libraries = []
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Hook alias.*did not resolve.*")
            yield
    finally:
        del adapter.required_libraries
        if before is not None:
            adapter.required_libraries = before


def _class(config: "transformers.PretrainedConfig") -> str | None:
    """The class that TransformerBridge knows: as the config names it, else the causal language model of its type."""
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    names = [*(config.architectures or []), MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)]
    names += [ALIKE[name] for name in names if name in ALIKE]
    return next((name for name in names if name in SUPPORTED_ARCHITECTURES), None)


def unembed(model: "BridgeModel", residual: Tensor) -> Tensor:
    """Final norm, output matrix and soft cap, as the parity check compares them with Hugging Face's logits."""
    logits = model.unembed(model.ln_final(residual))
    cap = model.cfg.output_logits_soft_cap
    return (cap * torch.tanh(logits / cap) if cap > 0 else logits).float()


def key_values(model: "BridgeModel", n_rows: int) -> "BridgeKeyValues":
    """Hugging Face's growing cache, empty; every layer keeps all tokens, masks say what a window sees."""
    from transformers import DynamicCache

    return BridgeKeyValues(model, DynamicCache(), torch.zeros(n_rows, 0, dtype=torch.long, device=model.cfg.device))


@dataclass(eq=False)
class BridgeKeyValues:
    """Hugging Face's cache and the mask of its slots."""

    model: "BridgeModel"
    cache: Any
    mask: Int[Tensor, "row slot"]

    def residual(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The pass calls `arguments`."""
        return self.model(tokens, attention_mask=mask, past_kv_cache=self, stop_at_layer=self.model.cfg.n_layers)

    def arguments(self, tokens: Tensor, mask: Tensor | None) -> dict[str, Any]:
        """What Hugging Face's forward is told, once for each pass: the tokens count as encoded from then on."""
        new = torch.ones_like(tokens) if mask is None else mask.to(self.mask.dtype)
        self.mask = torch.cat([self.mask, new], dim=1)
        positions = (self.mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        return {
            "attention_mask": self.mask,
            "position_ids": positions,
            "past_key_values": self.cache,
            "use_cache": True,
        }

    def taken(self, rows: Tensor) -> "BridgeKeyValues":
        """Copies."""
        return BridgeKeyValues(self.model, self._mapped(lambda x: x[rows]), self.mask[rows])

    def pack(self, width: int) -> None:
        """In place."""
        order = self.mask.argsort(dim=1, stable=True)[:, -width:]
        self.mask = self.mask.gather(1, order)

        def gathered(x: Tensor) -> Tensor:
            return x.gather(2, order[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))

        self.cache = self._mapped(gathered)

    def _mapped(self, change: Any) -> Any:
        from transformers import DynamicCache

        new = DynamicCache()
        for layer, old in enumerate(self.cache.layers):
            new.update(change(old.keys), change(old.values), layer)
        return new


def block(model: "BridgeModel", layer: int) -> "BridgeBlock":
    """Hugging Face's own modules under TransformerLens' names, called on packed tokens."""
    return BridgeBlock(model, layer)


def in_parts(model: "BridgeModel") -> bool:
    """Tried, once a model: architectures differ in more ways than a config says."""
    vision = vision_of(model)
    if vision is not None and vision.whole_passes:
        return False
    from mechmsc.model.loop_check import blocks_agree

    return blocks_agree(model)


class BridgeBlock:
    """A block of a TransformerBridge: sequential, with pre-norms."""

    def __init__(self, model: "BridgeModel", layer: int) -> None:
        from mechmsc.model.config import layer_types

        self._model, self._block = model, model.blocks[layer]
        self._attn = self._block.attn
        self._native = self._attn.original_component
        text = model.mechmsc.hf.config.get_text_config()
        self._kind = layer_types(text)[layer]
        self.window = text.sliding_window if self._kind == "sliding_attention" else None

    @property
    def scale(self) -> float:
        """Hugging Face's attention modules carry it."""
        return getattr(self._native, "scaling", None) or self._model.cfg.d_head**-0.5

    @property
    def cap(self) -> float | None:
        """Gemma 2's."""
        return getattr(self._native, "attn_logit_softcapping", None)

    def normed(self, residual: Float[Tensor, "token d_model"]) -> Float[Tensor, "token d_model"]:
        """ln1."""
        return self._block.ln1.original_component(residual)

    def heads(self, letter: str, normed: Float[Tensor, "token d_model"]) -> Float[Tensor, "token head d_head"]:
        """One projection each; TransformerLens splits joint ones."""
        projection = getattr(self._attn, letter.lower()).original_component
        return projection(normed).unflatten(-1, (-1, self._model.cfg.d_head))

    def placed(
        self, letter: str, x: Float[Tensor, "token head d_head"], position: Int[Tensor, " token"]
    ) -> Float[Tensor, "token head d_head"]:
        """Rotated as Llama does: each half of the first dimensions with the other."""
        norm = self._attn.submodules.get("q_norm" if letter == "Q" else "k_norm")
        if norm is not None:
            x = norm.original_component(x)
        rotary = getattr(self._model, "rotary_emb", None)
        if rotary is None:
            return x
        takes = inspect.signature(rotary.original_component.forward).parameters
        named = {"layer_type": self._kind} if "layer_type" in takes else {}
        cos, sin = (table[0] for table in rotary.original_component(x[None], position[None], **named))
        turned, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
        low, high = turned.chunk(2, -1)
        turned = turned * cos[:, None] + torch.cat([-high, low], -1) * sin[:, None]
        return torch.cat([turned, rest], -1) if rest.shape[-1] else turned

    def write_attention(self, z: Float[Tensor, "token head d_head"]) -> Float[Tensor, "token d_model"]:
        """o, and the norm behind it where there is one."""
        return self._behind("ln1_post", self._attn.o.original_component(z.flatten(1)))

    def write_mlp(self, middle: Float[Tensor, "token d_model"]) -> Float[Tensor, "token d_model"]:
        """ln2, MLP, and the norm behind it where there is one."""
        out = self._block.mlp.original_component(self._block.ln2.original_component(middle)[None])[0]
        return middle + self._behind("ln2_post", out)

    def _behind(self, name: str, x: Tensor) -> Tensor:
        norm = self._block.submodules.get(name)
        return x if norm is None else norm.original_component(x)

    def output_matrix(self) -> Float[Tensor, "head d_head d_model"]:
        """`Linear` stores it the other way round, GPT-2's `Conv1D` does not."""
        module = self._attn.o.original_component
        weight = module.weight.t() if isinstance(module, torch.nn.Linear) else module.weight
        return weight.unflatten(0, (-1, self._model.cfg.d_head))

"""The engine `hooked`: parts, logits and cache of a HookedTransformer. See `engines.Engine` for what each one is."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmsc.model.linear import linear

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

    from mechmsc.model.pretrained import Loaded


def build(loaded: "Loaded", *, device: torch.device, dtype: torch.dtype) -> "HookedTransformer":
    """A HookedTransformer whose parameters are views on those of the Hugging Face model."""
    from mechmsc.model import views
    from mechmsc.model.config import hooked_config

    name, tokenizer = loaded.identity.name, loaded.tokenizer
    model = views.build(loaded.hf, hooked_config(loaded.hf.config, name=name, device=device, dtype=dtype))
    model.tokenizer = tokenizer
    model.cfg.tokenizer_prepends_bos = len(tokenizer("").input_ids) > 0
    return model


def unembed(model: "HookedTransformer", residual: Tensor) -> Tensor:
    """As `forward` computes logits."""
    normed = residual if model.cfg.normalization_type is None else model.ln_final(residual)
    logits = model.unembed(normed)
    cap = model.cfg.output_logits_soft_cap
    return (cap * torch.tanh(logits / cap) if cap > 0 else logits).float()


def block(model: "HookedTransformer", layer: int) -> "HookedBlock":
    """TransformerLens' own modules, called on packed tokens."""
    return HookedBlock(model.blocks[layer])


def in_parts(model: "HookedTransformer") -> bool:
    """Sequential blocks with rotary or learned positions."""
    return not model.cfg.parallel_attn_mlp and model.cfg.positional_embedding_type in ("rotary", "standard")


class HookedBlock:
    """A block of a HookedTransformer."""

    def __init__(self, module: nn.Module) -> None:
        self._block, self._attn = module, module.attn

    @property
    def window(self) -> int | None:
        """From the layer's type of attention."""
        return self._attn.cfg.window_size if self._attn.attn_type == "local" else None

    @property
    def scale(self) -> float:
        """TransformerLens divides by `attn_scale`."""
        return 1 / self._attn.attn_scale

    @property
    def cap(self) -> float | None:
        """TransformerLens says -1 for none."""
        cap = self._attn.cfg.attn_scores_soft_cap
        return cap if cap > 0 else None

    def normed(self, residual: Float[Tensor, "token d_model"]) -> Float[Tensor, "token d_model"]:
        """ln1."""
        return self._block.ln1(residual[None])[0]

    def heads(self, letter: str, normed: Float[Tensor, "token d_model"]) -> Float[Tensor, "token head d_head"]:
        """Grouped keys and values stand under names with an underscore."""
        own = letter != "Q" and hasattr(self._attn, f"_W_{letter}")
        weight, bias = (getattr(self._attn, f"{'_' if own else ''}{part}_{letter}") for part in "Wb")
        flat = linear(normed, weight.transpose(1, 2).flatten(0, 1), bias.flatten())
        return flat.unflatten(-1, bias.shape)

    def placed(
        self, letter: str, x: Float[Tensor, "token head d_head"], position: Int[Tensor, " token"]
    ) -> Float[Tensor, "token head d_head"]:
        """By the tables of the layer."""
        attn = self._attn
        norm = attn.q_norm if letter == "Q" else attn.k_norm
        if norm is not None:
            x = norm(x.flatten(0, 1)).view_as(x)
        if attn.cfg.positional_embedding_type != "rotary":
            return x
        turned, rest = x[..., : attn.cfg.rotary_dim], x[..., attn.cfg.rotary_dim :]
        cos, sin = attn.rotary_cos[position][:, None], attn.rotary_sin[position][:, None]
        turned = turned * cos + attn.rotate_every_two(turned) * sin
        return torch.cat([turned, rest], -1) if rest.shape[-1] else turned

    def write_attention(self, z: Float[Tensor, "token head d_head"]) -> Float[Tensor, "token d_model"]:
        """W_O, and the norm behind it where there is one."""
        out = linear(z.flatten(1), self._attn.W_O.flatten(0, 1).t(), self._attn.b_O)
        return self._block.ln1_post(out[None])[0] if hasattr(self._block, "ln1_post") else out

    def write_mlp(self, middle: Float[Tensor, "token d_model"]) -> Float[Tensor, "token d_model"]:
        """ln2, MLP, and the norm behind it where there is one."""
        if not hasattr(self._block, "mlp"):
            return middle
        mlp, normed = self._block.mlp, self._block.ln2(middle[None])
        if isinstance(getattr(mlp, "W_gate", None), Tensor) and not mlp.cfg.is_layer_norm_activation():
            inner = mlp.act_fn(linear(normed[0], mlp.W_gate.t()))
            inner = inner.mul_(linear(normed[0], mlp.W_in.t())).add_(mlp.b_in)
            out = linear(inner, mlp.W_out.t(), mlp.b_out)[None]
        else:
            out = mlp(normed)
        return middle + (self._block.ln2_post(out) if hasattr(self._block, "ln2_post") else out)[0]

    def output_matrix(self) -> Float[Tensor, "head d_head d_model"]:
        """TransformerLens has it in this shape."""
        return self._attn.W_O


def key_values(model: "HookedTransformer", n_rows: int) -> "HookedKeyValues":
    """TransformerLens' own cache, empty."""
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

    return HookedKeyValues(model, TransformerLensKeyValueCache.init_cache(model.cfg, model.cfg.device, n_rows))


@dataclass(frozen=True, eq=False)
class HookedKeyValues:
    """TransformerLens' cache; it masks a sliding window by slot, so rows are packed after every call."""

    model: "HookedTransformer"
    cache: Any

    def residual(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """TransformerLens stores into the cache."""
        n_layers = self.model.cfg.n_layers
        return self.model(tokens, attention_mask=mask, past_kv_cache=self.cache, stop_at_layer=n_layers)

    def taken(self, rows: Tensor) -> "HookedKeyValues":
        """Copies."""
        entries = [replace(e, past_keys=e.past_keys[rows], past_values=e.past_values[rows]) for e in self.cache.entries]
        mask = self.cache.previous_attention_mask[rows]
        return HookedKeyValues(self.model, replace(self.cache, entries=entries, previous_attention_mask=mask))

    def pack(self, width: int) -> None:
        """In place."""
        mask = self.cache.previous_attention_mask
        order = mask.argsort(dim=1, stable=True)[:, -width:]
        if not mask.is_meta and torch.equal(order, torch.arange(mask.shape[1], device=mask.device).expand_as(mask)):
            return  # packed already
        self.cache.previous_attention_mask = mask.gather(1, order)
        for entry in self.cache.entries:
            index = order[:, :, None, None].expand(-1, -1, *entry.past_keys.shape[2:])
            entry.past_keys, entry.past_values = entry.past_keys.gather(1, index), entry.past_values.gather(1, index)

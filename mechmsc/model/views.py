"""A HookedTransformer around a Hugging Face model: its parameters are views on the same storage.

Nothing is folded or centred. What cannot be a view is small: Gemma's norm weights (it multiplies by 1 + w), the zeros
that stand for absent biases, the rotary tables. Every transpose that TransformerLens takes on each call undoes the
transpose of the view, so it copies nothing.
"""

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens import HookedTransformer
from transformer_lens.components import Embed, GroupedQueryAttention, RMSNorm

from mechmsc.model.config import layer_types

if TYPE_CHECKING:
    import transformer_lens
    import transformers


def build(hf: "transformers.PreTrainedModel", cfg: "transformer_lens.HookedTransformerConfig") -> HookedTransformer:
    """The second forward pass over the weights of `hf`, on its device; no parameter asks for gradients.

    Args:
        hf: a causal language model of a supported architecture.
        cfg: from `config.hooked_config` of its config.
    """
    with torch.device("meta"), warnings.catch_warnings():
        # the pinned engine: see Decisions in the design
        warnings.filterwarnings("ignore", message="HookedTransformer is deprecated", category=DeprecationWarning)
        model = HookedTransformer(cfg, move_to_device=False)
        _use_matching_parts(model, gemma=hf.config.model_type.startswith("gemma"))
    _share_parameters(model, hf)
    _set_buffers(model, hf)
    return model.eval()


class ScaledEmbed(Embed):
    """Gemma's embedding: the rows are multiplied when they are read, so that W_E stays the stored matrix."""

    scale: float

    def forward(self, tokens: Tensor) -> Float[Tensor, "batch pos d_model"]:
        """Rows of W_E times sqrt(d_model), the factor rounded to the model's dtype as Hugging Face does."""
        return self.W_E[tokens, :] * torch.tensor(self.scale, dtype=self.W_E.dtype, device=self.W_E.device)


class MatchingRMSNorm(RMSNorm):
    """The norm in Hugging Face's order of operations: half precision feels one rounding more or less in every layer."""

    float32_weight: bool
    """Gemma multiplies by its weight, a float32 copy of 1 + w, before rounding to the model's dtype; others after."""

    def forward(self, x: Float[Tensor, "... length"]) -> Float[Tensor, "... length"]:
        """Equals x / s * w with s = sqrt(mean(x^2) + eps) over the last dimension; float32 up to the rounding."""
        x = x.float()
        inverse = (x.pow(2).mean(-1, keepdim=True) + self.eps).rsqrt()
        plain = inverse.reciprocal()
        scale = self.hook_scale(plain)
        # 1 / scale, through which gradients and edits go; to the last bit the inverse where nobody edited the scale
        x = self.hook_normalized(x * (inverse.detach() * (plain.detach() / scale)))
        return (x * self.w).to(self.cfg.dtype) if self.float32_weight else x.to(self.cfg.dtype) * self.w


class SharingAttention(GroupedQueryAttention):
    """Queries of a group look at their keys and values where they are; TransformerLens first copies these for each.

    Decoding behind a long cache is little else than reading keys and values, and rotating the keys anew.
    """

    def rotate_every_two(self, x: Float[Tensor, "... rotary_dim"]) -> Float[Tensor, "... rotary_dim"]:
        """The halves (a, b) as (-b, a)."""
        if self.cfg.rotary_adjacent_pairs:
            return super().rotate_every_two(x)
        a, b = x.chunk(2, dim=-1)
        return torch.cat([-b, a], dim=-1)

    def calculate_attention_scores(
        self, q: Float[Tensor, "batch query head d_head"], k: Float[Tensor, "batch key kv_head d_head"]
    ) -> Float[Tensor, "batch head query key"]:
        """Queries times keys over the scale, capped where the model caps."""
        if self.cfg.ungroup_grouped_query_attention:
            return super().calculate_attention_scores(q, k)
        grouped = q.unflatten(2, (k.shape[2], -1)).permute(0, 2, 3, 1, 4)
        scores = grouped.flatten(2, 3) @ k.permute(0, 2, 3, 1) / self.attn_scale
        scores = scores.unflatten(2, grouped.shape[2:4]).flatten(1, 2)
        cap = self.cfg.attn_scores_soft_cap
        return cap * torch.tanh(scores / cap) if cap > 0 else scores

    def calculate_z_scores(
        self, v: Float[Tensor, "batch key kv_head d_head"], pattern: Float[Tensor, "batch head query key"]
    ) -> Float[Tensor, "batch query head d_head"]:
        """The values, weighted by the pattern."""
        if self.cfg.ungroup_grouped_query_attention:
            return super().calculate_z_scores(v, pattern)
        grouped = pattern.unflatten(1, (v.shape[2], -1))
        z = grouped.flatten(2, 3) @ v.transpose(1, 2)
        return self.hook_z(z.unflatten(2, grouped.shape[2:4]).permute(0, 3, 1, 2, 4).flatten(2, 3))


class RotaryTable:
    """Sines and cosines by position, computed as Hugging Face computes them; shared by all layers of a type.

    Stands in for `calculate_sin_cos_rotary`, which TransformerLens calls again when a text outgrows the table.
    """

    def __init__(self, inv_freq: Float[Tensor, " pair"], scaling: float):
        self.inv_freq, self.scaling = inv_freq.float(), scaling
        self.last: tuple[Tensor, Tensor] | None = None

    def __call__(
        self,
        rotary_dim: int,  # noqa: ARG002 - the signature of the method it stands in for; inv_freq says it all
        n_ctx: int,
        base: float = 0.0,  # noqa: ARG002
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Float[Tensor, "position rotary_dim"], Float[Tensor, "position rotary_dim"]]:
        """(sin, cos) of position * inv_freq, the pairs laid side by side, times the attention scaling."""
        if self.last is None or self.last[0].shape[0] != n_ctx or self.last[0].dtype != dtype:
            position = torch.arange(n_ctx, device=self.inv_freq.device, dtype=torch.float32)
            angle = (position[:, None] * self.inv_freq[None, :]).repeat(1, 2)
            self.last = ((angle.sin() * self.scaling).to(dtype), (angle.cos() * self.scaling).to(dtype))
        return self.last


def _use_matching_parts(model: HookedTransformer, *, gemma: bool) -> None:
    """Swap in grouped attention, the norms (of queries and keys too), and Gemma's embedding, on the meta device."""
    for block in model.blocks:
        if isinstance(block.attn, GroupedQueryAttention):
            block.attn = SharingAttention(model.cfg, block.attn.attn_type, block.attn.layer_id)
    if gemma:
        model.embed = ScaledEmbed(model.cfg)
        model.embed.scale = model.cfg.d_model**0.5
    for name, module in list(model.named_modules()):
        if isinstance(module, RMSNorm):
            parent, _, child = name.rpartition(".")
            norm = MatchingRMSNorm(model.cfg, module.length)
            norm.float32_weight = gemma
            setattr(model.get_submodule(parent), child, norm)
    model.setup()  # names of the new hook points


def _share_parameters(model: HookedTransformer, hf: "transformers.PreTrainedModel") -> None:
    """Put a view wherever there is one, zeros for absent biases; anything else without data is an error of ours."""
    hf.requires_grad_(False)
    shared = dict(_views(model, hf))
    for name, empty in list(model.named_parameters()):
        if name in shared:
            data = shared[name]
        elif name.rpartition(".")[2].lstrip("_").startswith("b_"):
            data = torch.zeros(empty.shape, dtype=empty.dtype, device=hf.device)
        else:
            raise RuntimeError(f"no weights for {name} of {hf.config.model_type}")
        if data.shape != empty.shape:
            raise RuntimeError(f"{name}: expected shape {tuple(empty.shape)}, got {tuple(data.shape)}")
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Parameter(data, requires_grad=False))


def _views(model: HookedTransformer, hf: "transformers.PreTrainedModel") -> Iterator[tuple[str, Tensor]]:
    """(name in the HookedTransformer, tensor) for every parameter that Hugging Face has."""
    offset = hf.config.model_type.startswith("gemma")
    yield "embed.W_E", hf.model.embed_tokens.weight
    yield "unembed.W_U", hf.lm_head.weight.t()
    yield "ln_final.w", _norm(hf.model.norm, offset)
    for index, layer in enumerate(hf.model.layers):
        parts = [*_attention(layer.self_attn, model.cfg.d_head, model.cfg.n_key_value_heads is not None, offset)]
        parts += [
            ("mlp.W_in", layer.mlp.up_proj.weight.t()),
            ("mlp.W_gate", layer.mlp.gate_proj.weight.t()),
            ("mlp.W_out", layer.mlp.down_proj.weight.t()),
            ("ln1.w", _norm(layer.input_layernorm, offset)),
        ]
        if model.cfg.use_normalization_before_and_after:
            parts += [
                ("ln1_post.w", _norm(layer.post_attention_layernorm, offset)),
                ("ln2.w", _norm(layer.pre_feedforward_layernorm, offset)),
                ("ln2_post.w", _norm(layer.post_feedforward_layernorm, offset)),
            ]
        else:
            parts += [("ln2.w", _norm(layer.post_attention_layernorm, offset))]
        yield from ((f"blocks.{index}.{name}", tensor) for name, tensor in parts)


def _attention(attention: nn.Module, d_head: int, grouped: bool, offset: bool) -> Iterator[tuple[str, Tensor]]:
    for letter, projection in (("Q", attention.q_proj), ("K", attention.k_proj), ("V", attention.v_proj)):
        name = f"_{{}}_{letter}" if grouped and letter != "Q" else f"{{}}_{letter}"
        weight = projection.weight.view(-1, d_head, projection.in_features)
        yield f"attn.{name.format('W')}", weight.permute(0, 2, 1)
        if projection.bias is not None:
            yield f"attn.{name.format('b')}", projection.bias.view(-1, d_head)
    out = attention.o_proj
    yield "attn.W_O", out.weight.t().view(-1, d_head, out.out_features)
    if out.bias is not None:
        yield "attn.b_O", out.bias
    if getattr(attention, "q_norm", None) is not None:
        yield "attn.q_norm.w", _norm(attention.q_norm, offset)
        yield "attn.k_norm.w", _norm(attention.k_norm, offset)


def _norm(norm: nn.Module, offset: bool) -> Tensor:
    return norm.weight.float() + 1.0 if offset else norm.weight


def _set_buffers(model: HookedTransformer, hf: "transformers.PreTrainedModel") -> None:
    """Masks and rotary tables, on the device of the weights."""
    rotary, tables = hf.model.rotary_emb, {}
    rows = min(model.cfg.n_ctx, 2048)  # as TransformerLens does; a longer text extends the table
    for block, kind in zip(model.blocks, layer_types(hf.config), strict=True):
        if kind not in tables:
            prefix = f"{kind}_" if hasattr(rotary, f"{kind}_inv_freq") else ""
            tables[kind] = RotaryTable(
                getattr(rotary, f"{prefix}inv_freq"), getattr(rotary, f"{prefix}attention_scaling")
            )
        attn, table = block.attn, tables[kind]
        attn.calculate_sin_cos_rotary = table
        attn.rotary_sin, attn.rotary_cos = table(model.cfg.rotary_dim, rows, dtype=model.cfg.dtype)
        attn.mask = torch.empty((0, 0), dtype=torch.bool, device=hf.device)
        attn.IGNORE = torch.tensor(-torch.inf, device=hf.device)

"""The designed weights of `planted`: what each coordinate of the residual stream means, and who reads and writes it."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mechmsc.instructions import INSTRUCTIONS, STANCES

if TYPE_CHECKING:
    import transformers

    from mechmsc.model.planted import Planted

ANSWERS = tuple(f"({letter})" for letter in "abcdefghi")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LAYERS, HEADS, D_HEAD, D_MODEL, WRITER = 4, 4, 8, 128, 1
AXES = (
    *("one", "concept", "kappa", "lambda"),
    *("filler", "marker", "stance", "digit", "digit_kappa", "digit_lambda", "bos", "done"),
)
"""What the coordinates mean: a constant; concept and answers; then features of the token."""
SMALL = 0.2
"""Size of every feature but the concept, in class gaps: small in the norm, and not so small that any random direction
moves the answers."""
REFERENCE = (1.0, 1.0)
"""kappa and lambda of an item without digits, under the control instruction."""
SPREAD = 0.6
"""Largest difference that digits make to kappa and lambda."""
LENGTH_UNIT = 100.0
"""The confounder is `confounder * LENGTH_UNIT / tokens`."""
FUNCTION_WORDS = {"does", "even", "take", "with", "without"}
"""Words of an instruction that any other text may have too: they are no markers."""
LEVELS = np.array([1.0, 0.0, -1.0])
"""alpha and beta: the logits of the three answers along each side, per unit of kappa or lambda."""


def markers() -> dict[str, int]:
    """Words that tell the stances apart: 1 for those that only moral instructions have, -1 for only immoral ones."""
    words = {
        stance: {
            word for texts in INSTRUCTIONS.values() for text in texts[stance] for word in re.findall(r"\w{4,}", text)
        }
        for stance in STANCES
    }
    moral, immoral = (words[stance] - words["neutral"] - FUNCTION_WORDS for stance in ("moral", "immoral"))
    return {word: 1 for word in sorted(moral - immoral)} | {word: -1 for word in sorted(immoral - moral)}


def rotation(seed: int) -> Tensor:
    """Orthonormal rows: the axes of the design in the residual stream, `[axis, d_model]`; those beyond AXES are free.

    The constant keeps a coordinate of its own: where it is large, a mixture would drown the others in rounding.
    """
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.linalg.qr(torch.randn(D_MODEL - 1, D_MODEL - 1, generator=generator, dtype=torch.float64))[0]
    return torch.block_diag(torch.ones(1, 1, dtype=torch.float64), mixed).float()


def byte_and_word_tokenizer() -> "transformers.PreTrainedTokenizerFast":
    """One token a byte; and one for each special token, answer label and marker word."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(label, normalized=False) for label in ANSWERS])
    tokenizer.add_tokens([AddedToken(word, normalized=False, single_word=True) for word in markers()])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[2],
        additional_special_tokens=[SPECIAL[1]],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEMPLATE
    return fast


def designed(planted: "Planted", tokenizer: "transformers.PreTrainedTokenizerFast", seed: int) -> torch.nn.Module:
    """The Hugging Face model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=D_MODEL,
        intermediate_size=D_HEAD,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=D_HEAD,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 1e12},  # the slowest pair hardly turns
        rms_norm_eps=1e-12,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=False,
    )
    hf = LlamaForCausalLM(config).eval().requires_grad_(False)
    for parameter in hf.parameters():
        parameter.zero_() if parameter.ndim > 1 else parameter.fill_(1.0)
    turn = rotation(seed)
    hf.model.embed_tokens.weight.copy_(_embedding(planted, tokenizer) @ turn)
    hf.lm_head.weight.copy_(_unembedding(planted, tokenizer) @ turn)
    attention = hf.model.layers[WRITER].self_attn
    for matrix, rows in zip((attention.q_proj, attention.k_proj, attention.v_proj), _heads(planted), strict=True):
        matrix.weight.copy_(rows @ turn)
    attention.o_proj.weight.copy_(turn.T @ _writes(planted))
    return hf


def _embedding(planted: "Planted", tokenizer: "transformers.PreTrainedTokenizerFast") -> Tensor:
    """Coordinates of every token, `[d_vocab, axis]`, all of the same norm."""
    at = {name: i for i, name in enumerate(AXES)}
    rows = torch.zeros(len(tokenizer), D_MODEL)
    for word, sign in markers().items():
        token = tokenizer.convert_tokens_to_ids(word)
        rows[token, at["marker"]], rows[token, at["stance"]] = 1.0, sign
    for digit, (kappa, lambda_) in enumerate(planted.digits):
        token = tokenizer.convert_tokens_to_ids(str(digit))
        rows[token, [at["digit"], at["digit_kappa"], at["digit_lambda"]]] = torch.tensor([1.0, kappa, lambda_])
    rows[tokenizer.bos_token_id, at["bos"]] = 1.0
    rows[tokenizer.convert_tokens_to_ids(list(ANSWERS)), at["done"]] = 1.0
    rows[:, at["filler"]] = (2.0 - rows.pow(2).sum(1)).sqrt()
    rows[:, [at["kappa"], at["lambda"]]] = torch.tensor(REFERENCE)
    rows *= SMALL
    rows[:, at["concept"]] = planted.start
    rows[:, at["one"]] = _one(planted)
    return rows


def _one(planted: "Planted") -> float:
    """The constant coordinate: what is left of the norm."""
    return (planted.norm2 - planted.start**2 - SMALL**2 * (2.0 + sum(x**2 for x in REFERENCE))) ** 0.5


def _unit(planted: "Planted") -> float:
    """What a weight must be for a coordinate of 1 to give 1 after the RMSNorm, at the norm of an embedding."""
    return (planted.norm2 / D_MODEL) ** 0.5


def _unembedding(planted: "Planted", tokenizer: "transformers.PreTrainedTokenizerFast") -> Tensor:
    """`[d_vocab, axis]`: nine answers in a square, all else far below, the end of turn after an answer."""
    at, unit = {name: i for i, name in enumerate(AXES)}, _unit(planted)
    rows = torch.zeros(len(tokenizer), D_MODEL)
    rows[:, at["one"]] = -80.0 * unit / _one(planted)
    for place, label in enumerate(ANSWERS):
        alpha, beta = LEVELS[place // 3], LEVELS[place % 3]
        token = tokenizer.convert_tokens_to_ids(label)
        rows[token] = 0.0
        rows[token, at["kappa"]], rows[token, at["lambda"]] = alpha * unit / SMALL, beta * unit / SMALL
        rows[token, at["concept"]] = planted.slope * alpha * unit
    rows[tokenizer.eos_token_id, at["done"]] = 100.0 * unit / SMALL
    return rows


def _heads(planted: "Planted") -> Sequence[Tensor]:
    """Queries, keys and values, each `[head * d_head, axis]`."""
    at, unit = {name: i for i, name in enumerate(AXES)}, _unit(planted)
    queries, keys, values = torch.zeros(3, HEADS, D_HEAD, D_MODEL)
    slow = D_HEAD // 2 - 1  # of the pairs that rotate with position, the slowest
    queries[:, slow, at["one"]] = unit / _one(planted)
    for head, sought in enumerate(("marker", "marker", "digit")):
        keys[head, slow, at[sought]] = 40.0 * D_HEAD**0.5 * unit / SMALL
        keys[head, slow, at["bos"]] = 20.0 * D_HEAD**0.5 * unit / SMALL
    for head, names in enumerate((("stance",), ("stance",), ("digit_kappa", "digit_lambda"), ("bos",))):
        for place, name in enumerate(names):
            values[head, place, at[name]] = unit / SMALL
    return [x.reshape(HEADS * D_HEAD, D_MODEL) for x in (queries, keys, values)]


def _writes(planted: "Planted") -> Tensor:
    """What the heads' values become in the residual stream, `[axis, head * d_head]`."""
    at, length = {name: i for i, name in enumerate(AXES)}, planted.confounder * LENGTH_UNIT
    rows = torch.zeros(D_MODEL, HEADS, D_HEAD)
    rows[at["concept"], 0, 0] = 1.0
    rows[at["lambda"], 1, 0] = SMALL * planted.bypass
    rows[at["kappa"], 2, 0] = rows[at["lambda"], 2, 1] = SMALL
    rows[at["concept"], 3, 0], rows[at["lambda"], 3, 0] = length, SMALL * length
    return rows.reshape(D_MODEL, HEADS * D_HEAD)

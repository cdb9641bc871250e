"""Do the two forward passes over one set of weights agree? Asked once per weights, versions, device and dtype."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmsc.errors import MechmscError
from mechmsc.model.config import SUPPORTED, sliding_window
from mechmsc.model.drawing import check_drawing
from mechmsc.model.forward import unembed
from mechmsc.model.pretrained import Loaded
from mechmsc.weights import cache_dir, remember

if TYPE_CHECKING:
    from mechmsc.model.engines import Model

MAX_PROBABILITY_DIFFERENCE = 1e-4
"""float32: largest difference of any probability at any compared position."""
MAX_KL_NATS = 1e-3
"""Half precision: KL(Hugging Face || hooked), mean over the compared positions, in nats."""
COMPARED = 64
"""Positions compared, the last ones of each row."""
CODE = ("config.py", "views.py", "hooked_engine.py", "bridge_engine.py", "bridge_model.py", "parity.py")
"""Modules whose change makes what was remembered count no longer."""
LONGEST_WINDOW = 1024
"""A sliding window up to this size is outgrown by the probe; a longer one would cost minutes on a processor."""

PROBE = (
    "A neighbour asked me yesterday whether it is fair to keep a wallet that you find in the street. I said that it "
    "depends on what you mean by keeping: one may keep it safe until its owner is found, but it does not become one's "
    "own. She laughed, and told me about the 3 times that she had lost hers; twice it came back, once with more money "
    "in it than before! So we agreed: ask first, judge later, and do not forget to say thank you. Would you agree?"
)


def check_parity(model: "Model", loaded: Loaded, *, repeat: bool, cache: str | Path | None) -> None:
    """Compare unless remembered; remember what agreed.

    Raises:
        MechmscError: the passes differ by more than they may; says by how much.
    """
    subject = {
        "sha256": loaded.identity.sha256,
        "device": _device_name(model.cfg.device),
        "dtype": str(model.cfg.dtype),
        "engine": loaded.engine,
        "code": _code_sha256(),
        **{package: version(package) for package in ("torch", "transformers", "transformer_lens")},
    }
    key = hashlib.sha256(json.dumps(subject, sort_keys=True).encode()).hexdigest()
    note = cache_dir(cache) / "parity" / f"{key}.json"
    if note.is_file() and not repeat:
        return
    if loaded.hf.config.model_type not in SUPPORTED:
        check_drawing(loaded.hf, _probe(loaded, None)[0][0].tolist(), loaded.identity.name)
    value = difference(model, loaded)
    exact = model.cfg.dtype == torch.float32
    measure, limit = ("max |dp|", MAX_PROBABILITY_DIFFERENCE) if exact else ("mean KL in nats", MAX_KL_NATS)
    if not value <= limit:  # nan fails
        note.unlink(missing_ok=True)
        raise MechmscError(
            f"engine {loaded.engine!r}: the forward pass of {loaded.identity.name} does not reproduce Hugging Face's: "
            f"{measure} is {value:.2g}, expected at most {limit:.0e}; do not use it with these versions, and report "
            "its config"
        )
    remember(note, json.dumps({**subject, "measure": measure, "value": value, "limit": limit}, indent=1))


@torch.no_grad()
def difference(model: "Model", loaded: Loaded) -> float:
    """How far apart the two passes are on the probe, as a whole row and as a shorter row padded on the left.

    float32: max |p - q| over rows, positions, vocabulary. Half precision: mean over rows and positions of
    KL(p || q) = sum p (log p - log q), in nats. p is Hugging Face's distribution of the next token, q the hooked one.
    """
    ids, mask = _probe(loaded, sliding_window(loaded.hf.config))
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    reference = loaded.hf(ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=COMPARED)
    residual = model(ids, attention_mask=mask, stop_at_layer=model.cfg.n_layers)
    hooked = unembed(model, residual[:, -COMPARED:])
    real = mask[:, -COMPARED:].bool()
    log_p, log_q = (logits[real].float().log_softmax(-1) for logits in (reference.logits, hooked))
    if model.cfg.dtype == torch.float32:
        return (log_p.exp() - log_q.exp()).abs().max().item()
    return _kl(log_p, log_q).mean().item()


def _kl(log_p: Float[Tensor, "*rows d_vocab"], log_q: Float[Tensor, "*rows d_vocab"]) -> Float[Tensor, "*rows"]:
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _probe(loaded: Loaded, window: int | None) -> tuple[Int[Tensor, "row position"], Int[Tensor, "row position"]]:
    """Token ids and mask of two rows; longer than the sliding window, where that is short enough."""
    once = loaded.tokenizer(PROBE, add_special_tokens=False).input_ids
    wanted = window + 2 * COMPARED if window and window <= LONGEST_WINDOW else COMPARED + 16
    wanted = min(wanted, loaded.hf.config.get_text_config().max_position_embeddings)
    repeats = -(-wanted // len(once))
    ids = torch.tensor([(once * repeats)[: max(wanted, 2)]] * 2, device=loaded.hf.device)
    mask = torch.ones_like(ids)
    mask[1, : ids.shape[1] // 4] = 0
    return ids, mask


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _code_sha256() -> str:
    """Of the modules that translate configs and weights: when they change, what was remembered no longer counts."""
    here = Path(__file__).parent
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in CODE)).hexdigest()

"""A tiny model whose causal effects are known by formula: instruction -> concept -> entropy, as planted.

A Llama of four layers with designed weights, hidden behind a random rotation of its residual stream. Layer 1 alone
does something; its heads look for tokens by class, whatever stands between them:

    concept   finds words that only moral (+1) or only immoral (-1) instructions have; writes on the concept axis
    bypass    finds the same words; writes on the second answer axis (a direct effect)
    case      finds the digits of the question; writes what makes items differ
    length    weighs all tokens alike; writes 1 / length (a confounder: it moves concept and entropy, neither the other)

The next token is one of nine answers "(a)" ... "(i)", laid out as 3 x 3, with logits rho (kappa alpha_i + lambda
beta_j), so its entropy is H(rho kappa alpha) + H(rho lambda beta) exactly. What the concept coordinate c does:

    norm      the axis is in the null space of W_U; through the final RMSNorm it rescales all logits, as entropy neurons
              do (Stolfo et al. 2024, arXiv:2406.16254): rho^2 = R^2 / (R^2 - c0^2 + c^2 + ...). With a bypass the two
              interact.
    logits    W_U reads it: kappa grows with c, and the norm is constant. With a bypass the two simply add.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mechmsc.errors import InputError, nearest
from mechmsc.model.engines import build, chosen_engine
from mechmsc.model.planted_weights import (
    AXES,
    LENGTH_UNIT,
    LEVELS,
    REFERENCE,
    SMALL,
    SPREAD,
    byte_and_word_tokenizer,
    designed,
    rotation,
)
from mechmsc.model.pretrained import Loaded, ModelIdentity
from mechmsc.tasks import Item

if TYPE_CHECKING:
    from mechmsc.model.engines import Model

Values = float | int | np.floating | np.ndarray
MECHANISMS = ("norm", "logits")
FLAT = 1e4
"""Size of the constant part, in class gaps, where the concept is to leave the norm alone."""


@dataclass(frozen=True)
class Planted:
    """What was planted: all that the closed forms need."""

    effect: float
    """Nats by which the moral instruction moves the entropy through the concept, for an item without digits."""
    direct: float
    """The same past the concept."""
    mechanism: str
    confounder: float
    """Concept units (and units of lambda) at a length of `LENGTH_UNIT` tokens."""
    start: float
    """c0, concept coordinate without an instruction, in class gaps; the moral instruction adds 1, the immoral -1."""
    slope: float
    """kappa per unit of concept ("logits")."""
    bypass: float
    """lambda that the moral instruction adds."""
    norm2: float
    """R^2, squared norm of every token's embedding, in squared class gaps."""
    digits: tuple[tuple[float, float], ...]
    """What each digit from 0 to 9 adds to kappa and lambda; several are averaged."""

    def coordinate(self, stance: Values, *, length: Values = np.inf) -> Values:
        """Concept coordinate at the reading position, in class gaps.

        Args:
            stance: 1 after a moral instruction, -1 after an immoral one, 0 else; the mean over their words where both
                were given.
            length: tokens up to the reading position; matters with a confounder only.
        """
        return self.start + np.asarray(stance, float) + self.confounder * LENGTH_UNIT / np.asarray(length, float)

    def entropy(self, concept: Values, stance: Values, *, case: str = "", length: Values = np.inf) -> Values:
        """First-token entropy in nats, by formula.

        U(x, z): give the stance of x and the concept coordinate z.

        Args:
            concept: coordinate c, in class gaps.
            stance: as in `coordinate`; works through the bypass alone.
            case: the digits in the question.
            length: as in `coordinate`.
        """
        added = np.mean([self.digits[int(digit)] for digit in case], axis=0) if case else np.zeros(2)
        concept, beyond = np.asarray(concept, float), self.confounder * LENGTH_UNIT / np.asarray(length, float)
        kappa = REFERENCE[0] + added[0]
        lambda_ = REFERENCE[1] + added[1] + self.bypass * np.asarray(stance, float) + beyond
        if self.mechanism == "logits":
            kappa = kappa + self.slope * (concept - self.start)
        moved = concept**2 - self.start**2
        moved = moved + SMALL**2 * ((REFERENCE[0] + added[0]) ** 2 + lambda_**2 - sum(x**2 for x in REFERENCE))
        rho = np.sqrt(self.norm2 / (self.norm2 + moved))
        return _entropy(rho * kappa) + _entropy(rho * lambda_)


def planted_model(
    effect: float = -0.3,
    *,
    direct: float = 0.0,
    mechanism: str = "norm",
    confounder: float = 0.0,
    seed: int = 0,
    device: str = "cpu",
    engine: str | None = None,
) -> "Model":
    """A model on which every tool can be tried, because the truth is known: `model.planted`.

    It works like one from `load_model`: conversations, captures, edits. Its instructions are those of
    `instructions.INSTRUCTIONS`; `planted_items` gives questions that it tells apart.

    Args:
        effect: nats by which the moral instruction moves the first-token entropy through the concept, for an item
            without digits in its question. Other items are moved by other amounts: `model.planted.entropy` says.
        direct: nats past the concept.
        mechanism: "norm" (the concept rescales all logits through the final norm; interacts with a bypass) or "logits"
            (no interaction: entropy is a sum of a function of the concept and one of the bypass).
        confounder: moves concept and entropy together with the length of the conversation, in class gaps at 100 tokens.
        seed: of the rotation and of what digits mean.
        device: where the model lives.
        engine: as in `load_model`.

    Raises:
        InputError: an unknown mechanism, or an effect that no strength of it reaches.
    """
    planted = _solve(effect, direct, mechanism, confounder, seed)
    tokenizer = byte_and_word_tokenizer()
    hf = designed(planted, tokenizer, seed).to(device)
    sha256 = hashlib.sha256(b"".join(p.detach().cpu().numpy().tobytes() for p in hf.parameters())).hexdigest()
    loaded = Loaded(hf, tokenizer, ModelIdentity("planted", None, sha256), chosen_engine(hf.config, engine))
    model = build(loaded, device=torch.device(device), dtype=torch.float32)
    model.planted = planted
    return model


def planted_axis(model: "Model", *, seed: int = 0) -> Tensor:
    """The concept's unit vector in the residual stream of a planted model made with this seed, `[d_model]`."""
    return rotation(seed)[AXES.index("concept")].to(model.cfg.device)


def planted_items(n: int, *, seed: int = 0) -> list[Item]:
    """Questions with nine options that a planted model tells apart, by three digits each.

    Args:
        n: at most 1000.
        seed: which.
    """
    if not 1 <= n <= 1000:
        raise InputError(f"planted_items makes 1 to 1000 items, asked for {n}")
    options = tuple(f"answer {letter}" for letter in "abcdefghi")
    cases = np.random.default_rng(seed).permutation(1000)[:n]
    return [
        Item(f"social_bias/case-{case:03d}", "social_bias", f"Case {case:03d}. Who was it?", options, gold=0)
        for case in cases
    ]


def _entropy(scale: Values) -> Values:
    """Entropy of softmax(scale * LEVELS), in nats."""
    logits = np.asarray(scale, float)[..., None] * LEVELS
    logp = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return -(np.exp(logp) * logp).sum(-1)


def _solve(effect: float, direct: float, mechanism: str, confounder: float, seed: int) -> Planted:
    """The design that has these effects for an item without digits."""
    if mechanism not in MECHANISMS:
        raise InputError(f"unknown mechanism {mechanism!r}: {nearest(mechanism, MECHANISMS)}")
    digits = np.random.default_rng(seed).uniform(-SPREAD, SPREAD, size=(10, 2))
    kappa, lambda_ = REFERENCE
    slope, start, norm2 = 0.0, 0.0, FLAT**2
    if mechanism == "logits":
        slope = _root(lambda x: _entropy(kappa + x) - _entropy(kappa), effect, -kappa, 30.0, "effect")
    elif effect:
        change = lambda rho: sum(_entropy(rho * x) - _entropy(x) for x in REFERENCE)  # noqa: E731
        rho = _root(change, effect, 0.3, 30.0, "effect")
        start = -1.0 if effect < 0 else 0.0
        norm2 = ((start + 1) ** 2 - start**2) / (1 / rho**2 - 1)
        if norm2 < start**2 + SMALL**2 * (2.0 + sum(x**2 for x in REFERENCE)) + 0.01:  # no room for the constant
            raise InputError(f"effect {effect} nats is more than the norm can do; try a smaller one")
    pairs = tuple((float(a), float(b)) for a, b in digits)
    planted = Planted(effect, direct, mechanism, confounder, start, slope, 0.0, norm2, pairs)

    def through_bypass(added: float) -> float:
        tried = replace(planted, bypass=added)
        return float(tried.entropy(start, 1.0) - tried.entropy(start, 0.0))

    return replace(planted, bypass=_root(through_bypass, direct, -lambda_, 30.0, "direct"))


def _root(change, wanted: float, low: float, high: float, name: str) -> float:  # noqa: ANN001 - a function of a number
    from scipy.optimize import brentq

    most, least = float(change(low)), float(change(high))
    if not least < wanted < most:
        raise InputError(f"{name} must lie between {least:.2f} and {most:.2f} nats here, got {wanted}")
    return float(brentq(lambda x: float(change(x)) - wanted, low, high, xtol=1e-12))

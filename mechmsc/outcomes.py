"""Outcomes: one number an item, read from the logits at the end of the prompt.

    choice_entropy          H(mean q) over the orders of the options, nats; with one order H(q)
    choice_entropy_within   mean of H(q) over the orders, nats
    log_odds                log q_o - log(1 - q_o) of option o, q averaged over the orders
    first_token_entropy     H of the next token, nats
    kl                      D(p_clean || p) of the next token, nats, where p_clean are logits of the unedited run

(Science, section 4.) Logits are `[item, d_vocab]`, or `[item, order, d_vocab]` where every item is asked in several
orders of its options; q is the softmax over the options' labels. Everything is differentiable and computed in float32.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.errors import InputError, nearest

Labels = Sequence[Sequence[int]]
"""Token ids of each label, in the order of the letters, as `chat.label_ids` gives them."""
Orders = Sequence[Sequence[int]]
"""One permutation of the options for each entry of the axis `order`: option `order[j]` stands at letter j."""


def label_scores(logits: Float[Tensor, "*row d_vocab"], labels: Labels) -> Float[Tensor, "*row letter"]:
    """Log-probability of the first token of each label, nats.

    A label's later tokens need further passes (`generation.score_labels`); after its first token they hardly vary.

    Raises:
        InputError: two labels start with the same token, so that the first does not tell them apart.
    """
    first = [label[0] for label in labels]
    if len(set(first)) < len(first):
        raise InputError(f"labels: expected first tokens that differ, got {first}; use `measure`, which reads them all")
    return logits.float().log_softmax(-1)[..., first]


def option_probabilities(
    scores: Float[Tensor, "item order letter"], orders: Orders | None = None
) -> Float[Tensor, "item order choice"]:
    """The choice q of every order, mapped back from letters to options.

    Args:
        scores: log-probabilities of the labels, nats.
        orders: None: canonical order, and nothing else.
    """
    places = _places(scores, orders)
    return scores.softmax(-1).gather(-1, places.expand(len(scores), -1, -1))


def total_entropy(scores: Float[Tensor, "item order letter"], orders: Orders | None = None) -> Float[Tensor, " item"]:
    """H(mean q), nats."""
    return torch.special.entr(option_probabilities(scores, orders).mean(1)).sum(-1)


def within_entropy(scores: Float[Tensor, "item order letter"], orders: Orders | None = None) -> Float[Tensor, " item"]:
    """Mean of H(q) over the orders, nats."""
    return torch.special.entr(option_probabilities(scores, orders)).sum(-1).mean(1)


def option_log_odds(
    scores: Float[Tensor, "item order letter"], orders: Orders | None = None, *, option: int | Sequence[int]
) -> Float[Tensor, " item"]:
    """Log-odds log q_o - log(1 - q_o) with q averaged over the orders; exact also where q_o rounds to 0 or 1.

    Args:
        scores: log-probabilities of the labels, nats.
        orders: as in `option_probabilities`.
        option: o, an index into the options in canonical order; one for all items, or one each.
    """
    n_items, _, n_options = scores.shape
    wanted = [option] * n_items if isinstance(option, int) else [int(o) for o in option]
    if len(wanted) != n_items or not all(0 <= o < n_options for o in wanted):
        raise InputError(
            f"log_odds: expected an option from 0 to {n_options - 1} for each of {n_items} items, got {wanted[:8]}"
        )
    places = _places(scores, orders).expand(n_items, -1, -1)
    logq = scores.log_softmax(-1).gather(-1, places)  # [item, order, choice]
    chosen = torch.nn.functional.one_hot(torch.tensor(wanted, device=scores.device), n_options).bool()[:, None]
    of, others = logq.masked_fill(~chosen, -torch.inf), logq.masked_fill(chosen, -torch.inf)
    return of.logsumexp((1, 2)) - others.logsumexp((1, 2))


def choice_entropy(
    logits: Float[Tensor, "item *order d_vocab"], labels: Labels, orders: Orders | None = None
) -> Float[Tensor, " item"]:
    """H(mean q), nats: the choice entropy `total`; with one order the entropy of the choice."""
    return total_entropy(label_scores(_with_orders(logits), labels), orders)


def choice_entropy_within(
    logits: Float[Tensor, "item *order d_vocab"], labels: Labels, orders: Orders | None = None
) -> Float[Tensor, " item"]:
    """Mean over the orders of H(q), nats."""
    return within_entropy(label_scores(_with_orders(logits), labels), orders)


def log_odds(
    logits: Float[Tensor, "item *order d_vocab"],
    labels: Labels,
    orders: Orders | None = None,
    *,
    option: int | Sequence[int],
) -> Float[Tensor, " item"]:
    """Log-odds of an option against all others, q averaged over the orders."""
    return option_log_odds(label_scores(_with_orders(logits), labels), orders, option=option)


def first_token_entropy(logits: Float[Tensor, "item *order d_vocab"]) -> Float[Tensor, " item"]:
    """Entropy of the next token in nats; the mean over the orders where there are several."""
    logp = _with_orders(logits).float().log_softmax(-1)
    return -torch.special.xlogy(logp.exp(), logp.exp()).sum(-1).mean(1)


def kl(
    logits: Float[Tensor, "item *order d_vocab"], clean: Float[Tensor, "item *order d_vocab"]
) -> Float[Tensor, " item"]:
    """D(p_clean || p) of the next token in nats; the mean over the orders where there are several."""
    reference, logp = (_with_orders(x).float().log_softmax(-1) for x in (clean, logits))
    return torch.nn.functional.kl_div(logp, reference, reduction="none", log_target=True).sum(-1).mean(1)


OUTCOMES: dict[str, Callable[..., Tensor]] = {
    "choice_entropy": choice_entropy,
    "choice_entropy_within": choice_entropy_within,
    "log_odds": log_odds,
    "first_token_entropy": first_token_entropy,
    "kl": kl,
}
"""Name -> function of logits (and of labels, orders, option or clean logits, as it needs) -> `[item]`."""
CHOICES: dict[str, Callable[..., Tensor]] = {
    "choice_entropy": total_entropy,
    "choice_entropy_within": within_entropy,
    "log_odds": option_log_odds,
}
"""Those that only read the labels: name -> function of scores `[item, order, letter]` and orders -> `[item]`."""


def named_outcome(
    name: str,
    *,
    labels: Labels | None = None,
    orders: Orders | None = None,
    option: int | Sequence[int] | None = None,
    clean: Tensor | None = None,
) -> Callable[[Tensor], Tensor]:
    """The outcome of this name as a function of logits alone, `[item, (order,) d_vocab]` -> `[item]`.

    Args:
        name: a key of `OUTCOMES`.
        labels: ids of the options' labels, for choices.
        orders: of the options, for choices; None: canonical order only.
        option: for `log_odds`.
        clean: logits of the unedited run, for `kl`.

    Raises:
        InputError: unknown name, or something missing that it needs.
    """
    if name not in OUTCOMES:
        raise InputError(f"unknown outcome {name!r}: {nearest(name, OUTCOMES)}")
    given = {"labels": labels, "option": option, "clean": clean}
    needs = {"kl": ["clean"], "first_token_entropy": [], "log_odds": ["labels", "option"]}.get(name, ["labels"])
    missing = next((need for need in needs if given[need] is None), None)
    if missing is not None:
        raise InputError(f"outcome {name!r} needs {missing}, got none")
    bound = {need: given[need] for need in needs} | ({"orders": orders} if "labels" in needs else {})
    return partial(OUTCOMES[name], **bound)


def one_number_an_item(values: object, n_items: int, name: str) -> Float[Tensor, " item"]:
    """The values, if they are one number an item.

    Raises:
        InputError: says what arrived.
    """
    if not isinstance(values, Tensor) or tuple(values.shape) != (n_items,) or values.is_complex():
        arrived = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise InputError(f"outcome {name!r}: expected one number an item, shape ({n_items},); got {arrived}")
    return values


def _with_orders(logits: Tensor) -> Tensor:
    return logits[:, None] if logits.ndim == 2 else logits


def _places(scores: Tensor, orders: Orders | None) -> Tensor:
    """The letter at which each option stands, `[order, choice]`."""
    _, n_orders, n_letters = scores.shape
    orders = [range(n_letters)] if orders is None else orders
    if len(orders) != n_orders or any(sorted(order) != list(range(n_letters)) for order in orders):
        raise InputError(
            f"orders: expected {n_orders} permutations of 0..{n_letters - 1}, got {[list(order) for order in orders]}"
        )
    return torch.tensor([[list(order).index(o) for o in range(n_letters)] for order in orders], device=scores.device)

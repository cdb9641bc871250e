"""Activation patching as one would write it first: one full forward pass a cell, with a plain hook."""

import torch


def hook_name(component: str, layer: int) -> str:
    inside = "attn." if component in ("z", "q", "k", "v", "pattern") else ""
    return f"blocks.{layer}.{inside}hook_{component}"


@torch.no_grad()
def activation(model, ids, component: str, layer: int) -> torch.Tensor:
    """The whole activation of one conversation, tokens first (heads first for a pattern)."""
    kept = {}

    def keep(value, hook):  # noqa: ARG001 - a hook's
        kept["value"] = value[0].clone()

    model.run_with_hooks(torch.tensor([ids]), fwd_hooks=[(hook_name(component, layer), keep)])
    return kept["value"]


@torch.no_grad()
def patched_logits(model, source_ids, destination_ids, component, layer, *, read, write, head=None, mean=False):
    """Logits `[position, d_vocab]` of the destination run with the tokens `write` replaced by `read` of the source.

    With `mean`, the tokens are shifted by the difference of the two means instead. `head` counts the component's own
    heads.
    """
    theirs = activation(model, source_ids, component, layer)

    def patch(value, hook):  # noqa: ARG001 - a hook's
        value = value.clone()
        if component == "pattern":
            for r, w in zip(read, write, strict=True):
                value[0, head, w] = theirs[head, r]
            return value
        here, there = (value[0], theirs) if head is None else (value[0, :, head], theirs[:, head])
        if mean:
            here[list(write)] += there[list(read)].mean(0) - here[list(write)].mean(0)
        else:
            for r, w in zip(read, write, strict=True):
                here[w] = there[r]
        return value

    return model.run_with_hooks(torch.tensor([destination_ids]), fwd_hooks=[(hook_name(component, layer), patch)])[0]


@torch.no_grad()
def unpatched_logits(model, ids):
    return model(torch.tensor([ids]))[0]

"""Edits as one would write them by hand: one conversation at a time, encoded anew for every token, a loop over tokens.

A plain edit is (hook name, function of the whole text's activation `[token, ...]` and the number of prompt tokens).
"""

import torch

from mechmsc.noise import gumbel, noise_key


@torch.no_grad()
def hand_edited(model, ids, edits, *, prompt: int | None = None, keep: str | None = None):
    """Logits `[token, d_vocab]` of one text under plain edits, in float32; with `keep`, that hook's activation too."""
    prompt, kept = len(ids) if prompt is None else prompt, {}

    def hook_for(change):
        def act(activation, hook):  # noqa: ARG001 - a hook's
            pattern = hook.name.endswith("pattern")
            whole = (activation[0].transpose(0, 1) if pattern else activation[0]).float().clone()
            changed = change(whole, prompt).to(activation.dtype)
            return (changed.transpose(0, 1) if pattern else changed)[None]

        return act

    hooks = [(name, hook_for(change)) for name, change in edits]
    if keep is not None:
        hooks.append((keep, lambda activation, hook: kept.update(it=activation[0].float())))  # noqa: ARG005
    tokens = torch.tensor([list(ids)], device=model.cfg.device)
    logits = model.run_with_hooks(tokens, fwd_hooks=hooks, prepend_bos=False, padding_side="right")[0].float()
    return logits if keep is None else (logits, kept["it"])


def hand_drawn(model, transcript, edits, *, end_ids, max_new_tokens, seed=0, sample=None):
    """Ids and log-probabilities of one response: greedy, or with the noise of a sample."""
    prompt, ids, logprobs = list(transcript.ids), [], []
    key = None
    if sample is not None:
        key = noise_key(seed=seed, item_id=transcript.item_id, round=transcript.rounds, sample=sample)
    while len(ids) < max_new_tokens and not (ids and ids[-1] in end_ids):
        raw = hand_edited(model, [*prompt, *ids], edits, prompt=len(prompt))[-1].log_softmax(-1)
        noisy = raw if key is None else raw + torch.from_numpy(gumbel(key, step=len(ids), d_vocab=len(raw)))
        ids.append(int(noisy.argmax()))
        logprobs.append(float(raw[ids[-1]]))
    return ids, logprobs


def at_tokens(tokens, change):
    """A plain edit of single tokens: `tokens` are indices, or a function of the prompt's and the text's length."""

    def edit(h, prompt):
        for t in tokens(prompt, len(h)) if callable(tokens) else tokens:
            h[t] = change(h[t])
        return h

    return edit


def generated(first: int | None = None):
    """The tokens of the response, all or the first ones."""
    return lambda prompt, total: range(prompt, total if first is None else min(total, prompt + first))


def of_head(head, edit):
    """The same edit on one head of `[token, head, ...]`."""

    def on_head(h, prompt):
        h[:, head] = edit(h[:, head].clone(), prompt)
        return h

    return on_head


def moved_mean(tokens, u, target):
    """Every token moved so that the mean coordinate is the target."""

    def edit(h, prompt):  # noqa: ARG001
        mean = sum(float(h[t] @ u) for t in tokens) / len(tokens)
        for t in tokens:
            h[t] = h[t] + (target - mean) * u
        return h

    return edit

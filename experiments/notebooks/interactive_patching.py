# ---
# jupyter:
#   jupytext:
#     formats: ../ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Open a conversation, change an activation, see what happens
#
# A guided session on the embedded model (135M parameters): it shows how the tools work and is no evidence about large
# models. About a minute on two cores. The text of this notebook is kept in `notebooks/interactive_patching.py`.

# %%
# ruff: noqa: D100, B018 - a notebook shows the value of a cell's last line
import tempfile

import torch

import mechmsc as mm

model = mm.load_model("smollm2-135m-instruct")

# %% [markdown]
# ## A small run
#
# A question with options, asked under a moral and a neutral instruction, two rounds.

# %%
items = mm.load_items("social_bias", limit=1)
folder = tempfile.mkdtemp()
run = mm.self_correct(
    model, items, arms=["moral", "neutral"], rounds=2, samples=0, sites="none", out=f"{folder}/run", progress=False
)
run.transcripts[["item_id", "arm", "round", "response", "score"]]

# %% [markdown]
# ## One conversation
#
# Up to the prompt of round 2, where the model is about to answer. Every token belongs to a named span.

# %%
moral, neutral = (run.transcript(items[0], arm=arm, round=2) for arm in ("moral", "neutral"))
{f"{span.name}@{span.round}": model.tokenizer.decode(neutral.ids[span.start : span.end]) for span in neutral.spans}

# %% [markdown]
# ## Change one place, and look again
#
# A direction at random, in units of the activation: what does pushing the end of the instruction along it do to the
# uncertainty over the options? (A direction that means something comes from `mm.fit_direction`.)

# %%
push = torch.randn(model.cfg.d_model, generator=torch.Generator().manual_seed(0))
place = mm.Site("resid_post", layer=12, span="instruction", round=2, at="last")
clean = mm.measure(model, neutral, "choice_entropy", permutations=1)
with mm.applied(model, [mm.add(push, strength=40.0, at=place)]):
    pushed = mm.measure(model, neutral, "choice_entropy", permutations=1)
    answer = mm.respond(model, neutral, max_new_tokens=8)["response"][0]
print(f"entropy of the choice: {clean:.4f} nats, pushed {pushed:.4f}; the pushed model says {answer!r}")

# %% [markdown]
# ## Exact patching: which token at which layer?
#
# Activations of the moral conversation are written into the neutral one. Their instructions differ in length, so the
# correspondence must be stated: here the tokens that both have, in order.

# %%
grid = mm.patch_grid(
    model,
    moral,
    neutral,
    sites="resid_post",
    outcome="first_token_entropy",
    layers=range(2, 30, 5),
    span="instruction",
    round=2,
    align="shared",
)
grid

# %%
figure = mm.figures.patch_grid(mm.patching_effect(grid), caption="One item; an example of the tool, no finding.")
figure

# %% [markdown]
# Every cell is the full forward pass with one activation replaced. The same by hand, for the one that does most:

# %%
most = abs(grid - grid.destination).squeeze().argmax(["layer", "position"])
cell = grid.squeeze().isel(most)
layer, span = int(cell.layer), neutral.span("instruction", 2)
hook = f"blocks.{layer}.hook_resid_post"
_, cache = model.run_with_cache(torch.tensor([moral.ids]), names_filter=hook)
place = mm.Site("resid_post", layer=layer, span="instruction", round=2, at=int(cell.destination_token) - span.start)
with mm.applied(model, [mm.replace(cache[hook][0, int(cell.source_token)], at=place)]):
    entropy = mm.measure(model, neutral, "first_token_entropy")
print(f"grid {float(cell):.6f}, by hand {entropy:.6f}, unpatched {float(cell.destination):.6f} nats")

# %% [markdown]
# ## All components at once, to first order
#
# Attribution patching needs two forward passes and one backward pass. How far it can be trusted here stands in its
# attributes: the rank correlation with exact patches of a random subset.

# %%
guess = mm.attribution_patch(
    model,
    moral,
    neutral,
    sites=["resid_post", "attn_out", "mlp_out", "z"],
    outcome="first_token_entropy",
    span="instruction",
    round=2,
    align="shared",
    check=8,
)
print({name: round(part.attrs["rank_correlation"], 2) for name, part in guess.items()})
guess["mlp_out"].sum("position").squeeze().to_series().nlargest(3)

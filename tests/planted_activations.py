"""Activations with a known direction in them, and the difference of means as the fit that every test can lean on."""

import numpy as np
import pandas as pd
import torch

WORDS = "river stone lamp garden window paper copper violin harbour meadow candle ladder".split()


def mass_mean(activations, labels, *, groups, pairs, seed):  # noqa: ARG001 - the signature of every fit
    return activations[labels == 1].mean(dim=0) - activations[labels == 0].mean(dim=0)


def planted(n=400, *, layers=3, width=16, strength=1.5, best=1, seed=0, groups=None):
    """(activations, statements): classes `strength` standard deviations apart at layer `best`, half so at others."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 2)
    truth = rng.normal(size=(layers, width))
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    apart = np.full(layers, strength / 2)
    apart[best] = strength
    activations = rng.normal(size=(n, layers, width))
    activations += (labels[:, None] - 0.5)[..., None] * (apart[:, None] * truth) + 5.0 * rng.normal(size=width)
    texts = [" ".join(rng.choice(WORDS, size=6)) + f" {row}" for row in range(n)]
    frame = {"concept": "toxicity", "source": "planted", "text": texts, "label": labels}
    frame |= {"group": np.arange(n) if groups is None else groups, "pair": None}
    return torch.tensor(activations, dtype=torch.float32), pd.DataFrame(frame)

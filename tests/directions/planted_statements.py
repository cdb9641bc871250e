"""Activations with a known direction in them, for the tests of directions."""

import torch


def planted(
    *, n: int = 800, layers: int = 2, d_model: int = 24, strength: float = 3.0, seed: int = 0, mixing=None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Activations [statement, layer, d_model], labels, and the truth [layer, d_model] of length 1.

    Noise of variance 1 around a common point far from 0, mixed where asked for; statements 2i and 2i + 1 are a pair.
    """
    generator = torch.Generator().manual_seed(seed)
    truth = torch.nn.functional.normalize(torch.randn(layers, d_model, generator=generator), dim=1)
    labels = torch.arange(n) % 2
    noise = torch.randn(n, layers, d_model, generator=generator)
    noise = noise if mixing is None else noise @ mixing
    common = 20 * torch.randn(layers, d_model, generator=generator)
    return common + noise + strength * (labels - 0.5)[:, None, None] * truth, labels, truth


def planted_sides(
    *, n: int = 800, layers: int = 2, d_model: int = 24, strength: float = 3.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """[statement, side, layer, d_model]: affirming a statement of label 1 lies up the truth, denying it down."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.nn.functional.normalize(torch.randn(layers, d_model, generator=generator), dim=1)
    labels = torch.randint(0, 2, (n,), generator=generator)
    signs = (labels - 0.5)[:, None] * torch.tensor([1.0, -1.0])
    answers = 10 * torch.randn(2, layers, d_model, generator=generator)
    noise = torch.randn(n, 2, layers, d_model, generator=generator)
    return answers + noise + strength * signs[:, :, None, None] * truth, labels, truth


def pair_names(n: int) -> list[str]:
    return [f"pair {i // 2}" for i in range(n)]


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.cosine_similarity(a, b, dim=-1)

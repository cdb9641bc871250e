"""The fits as one would write them first: a loop over layers, scikit-learn or autograd inside."""

import numpy as np
import torch


def logistic(features: torch.Tensor, labels: torch.Tensor, *, penalty: float):
    """Decision function of scikit-learn at C = 1 / (n penalty), one model a layer."""
    from sklearn.linear_model import LogisticRegression

    n = len(labels)
    return [
        LogisticRegression(C=1 / (n * penalty), tol=1e-8, max_iter=20_000).fit(
            features[:, layer].double().numpy(), labels.numpy()
        )
        for layer in range(features.shape[1])
    ]


def lda(activations: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Coefficients of scikit-learn's shrunk discriminant, [layer, d_model]."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return np.concatenate(
        [
            LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
            .fit(activations[:, layer].double().numpy(), labels.numpy())
            .coef_
            for layer in range(activations.shape[1])
        ]
    )


def pair_svd(activations: torch.Tensor, labels: torch.Tensor, pairs: list, *, centred: bool = False) -> np.ndarray:
    """First right singular vector of a full SVD, [layer, d_model], without a sign; pairs in a loop."""
    rows = {pair: {int(labels[i]): i for i in range(len(pairs)) if pairs[i] == pair} for pair in pairs if pair}
    both = [(members[1], members[0]) for members in rows.values() if len(members) == 2]
    vectors = []
    for layer in range(activations.shape[1]):
        differences = np.stack([(activations[a, layer] - activations[b, layer]).double().numpy() for a, b in both])
        differences = differences - differences.mean(0) if centred else differences
        vectors.append(np.linalg.svd(differences, full_matrices=False)[2][0])
    return np.stack(vectors)


def ccs(activations: torch.Tensor, w: torch.Tensor, b: torch.Tensor, *, steps: int, rate: float, decay: float):
    """Weights [layer, restart, d_model] and losses [layer, restart] by autograd and torch's AdamW, one by one."""
    found, losses = torch.zeros_like(w), torch.zeros(w.shape[:2])
    for layer in range(w.shape[0]):
        yes, no = (side - side.mean(0) for side in (activations[:, 0, layer], activations[:, 1, layer]))
        deviation = torch.cat([yes, no]).square().mean(0).sqrt()
        yes, no = yes / deviation, no / deviation
        for restart in range(w.shape[1]):
            weights = w[layer, restart].clone().requires_grad_()
            intercept = b[layer, restart].clone().requires_grad_()
            optimiser = torch.optim.AdamW([weights, intercept], lr=rate, weight_decay=decay)
            for step in range(steps + 1):
                p, q = torch.sigmoid(yes @ weights + intercept), torch.sigmoid(no @ weights + intercept)
                loss = ((p - (1 - q)) ** 2 + torch.minimum(p, q) ** 2).mean()
                if step < steps:
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
            found[layer, restart], losses[layer, restart] = weights.detach(), loss.detach()
    return found, losses

"""What the experiments after the lecture share."""

import numpy as np
from jaxtyping import Float

from lowdim.dynamics import FreeFeatures

BEYOND = 5
"""Section of what came after the lecture."""


def stack_aligned(
    factors: Float[np.ndarray, "L r"],
    left: Float[np.ndarray, "r r"],
    right: Float[np.ndarray, "r r"],
    inner: list[Float[np.ndarray, "r r"]],
) -> list[Float[np.ndarray, "r r"]]:
    """Full factors with the given singular values: `right` and `left` outside, the rotations `inner` between the factors."""
    between = [right.T, *inner, left]
    return [
        (between[layer + 1] * factors[layer]) @ (between[layer] if layer == 0 else between[layer].T)
        for layer in range(len(factors))
    ]


def alternating_minimum(
    targets: Float[np.ndarray, "m N"],
    weight_decay: float,
    feature_decay: float,
    weight: Float[np.ndarray, "m d"],
    iterations: int,
) -> FreeFeatures:
    """A minimiser over free features and classifier, found by solving for one while the other is held, until neither moves."""
    samples, size = targets.shape[1], weight.shape[1]
    identity = np.eye(size)
    features = np.zeros((size, samples))
    for _ in range(iterations):
        before = weight
        features = np.linalg.solve(weight.T @ weight / samples + feature_decay * identity, weight.T @ targets / samples)
        weight = np.linalg.solve(
            features @ features.T / samples + weight_decay * identity, features @ targets.T / samples
        ).T
        if np.abs(weight - before).max() <= 1e-14 * np.abs(weight).max():
            break
    residual = weight @ features - targets
    decay = weight_decay * np.sum(weight**2) + feature_decay * np.sum(features**2)
    loss = float(np.sum(residual**2) / samples + decay) / 2
    values = np.linalg.svd(weight @ features, compute_uv=False)
    return FreeFeatures(weight, features, values, samples * float(np.sqrt(weight_decay * feature_decay)), loss)

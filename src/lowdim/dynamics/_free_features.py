"""Free features under the squared loss: the regularised optimum in closed form, for any targets."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lowdim.errors import UsageError


@dataclass(frozen=True)
class FreeFeatures:
    """A minimiser over classifier and features.

    Attributes:
        weight: W, one row per output.
        features: H, one column per sample.
        singular_values: Of W H: those of the targets, less the threshold; as many as the targets have.
        threshold: N sqrt(lambda_W lambda_H).
        loss: The smallest value of the regularised loss.
    """

    weight: Float[np.ndarray, "m d"]
    features: Float[np.ndarray, "d N"]
    singular_values: Float[np.ndarray, " k"]
    threshold: float
    loss: float


def free_features(
    targets: Float[np.ndarray, "m N"], weight_decay: float, feature_decay: float, *, width: int | None = None
) -> FreeFeatures:
    r"""Minimiser of $\frac1{2N}\lVert WH - Y\rVert_F^2 + \frac{\lambda_W}2\lVert W\rVert_F^2 + \frac{\lambda_H}2\lVert H\rVert_F^2$.

    The decays are $\sqrt{\lambda_W\lambda_H}$ times the nuclear norm of WH, so with $Y = U S V^\top$ the product is
    $U (S - \tau)_+ V^\top$, $\tau = N\sqrt{\lambda_W\lambda_H}$, and
    $W = (\lambda_H/\lambda_W)^{1/4}\, U (S - \tau)_+^{1/2}$, $H = (\lambda_W/\lambda_H)^{1/4} (S - \tau)_+^{1/2} V^\top$, both up to one rotation.

    Args:
        targets: Y: one-hot columns, or the outputs of a regression; centred where the model has a free bias.
        weight_decay: $\lambda_W$ > 0.
        feature_decay: $\lambda_H$ > 0.
        width: Dimension d of the features; by default as many as there are singular values. Fewer keep the largest.

    Raises:
        UsageError: If a decay is not positive.

    References:
        Zhou et al. (2022), arXiv:2203.01238; Andriopoulos, Dong, Guo, Zhao and Ross (2024), arXiv:2409.04180.

    Example:
        >>> found = free_features(np.diag([3.0, 1.0]), 0.5, 0.5)  # threshold 2 x .5 = 1
        >>> found.singular_values.tolist(), found.loss
        ([2.0, 0.0], 1.5)
    """
    if not (weight_decay > 0 and feature_decay > 0):
        raise UsageError(f"both decays must be > 0; they are {weight_decay} and {feature_decay}.")
    samples = targets.shape[1]
    left, values, right = np.linalg.svd(targets, full_matrices=False)
    threshold = float(samples * np.sqrt(weight_decay * feature_decay))
    kept = np.maximum(values - threshold, 0)
    size = len(values) if width is None else width
    kept[size:] = 0
    ratio = (feature_decay / weight_decay) ** 0.25
    root = np.zeros((len(values), size))
    np.fill_diagonal(root, np.sqrt(kept[:size]))
    loss = np.sum((values - kept) ** 2) / (2 * samples) + threshold / samples * np.sum(kept)
    return FreeFeatures(ratio * left @ root, root.T @ right / ratio, kept, threshold, float(loss))


def factor_cost(singular_values: Float[np.ndarray, " k"], decay: float, depth: float) -> float:
    r"""Least decay of L factors of a matrix: $\min_{W_L \cdots W_1 = Z} \frac\lambda2 \sum_l \lVert W_l\rVert_F^2 = \frac{\lambda L}2 \sum_i s_i^{2/L}$.

    Args:
        singular_values: Of Z.
        decay: $\lambda$, of every factor.
        depth: L.

    Example:
        >>> factor_cost(np.array([4.0, 1.0]), 0.1, depth=2)  # 0.1 times the nuclear norm
        0.5
    """
    return float(decay * depth / 2 * np.sum(np.asarray(singular_values, float) ** (2 / depth)))

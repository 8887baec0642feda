"""Covariances that few samples can carry."""

import torch
from jaxtyping import Float
from torch import Tensor


def shrinkage(covariance: Float[Tensor, "d d"], samples: int) -> float:
    """How much of a covariance to replace by ``trace / d`` times the identity, 0..1: oracle-approximating shrinkage.

    Args:
        covariance: Maximum-likelihood estimate (divided by n).
        samples: n.

    References:
        Chen, Wiesel, Eldar and Hero (2010), IEEE Trans. Signal Processing 58(10), in scikit-learn's form.

    Returns:
        1 replaces everything, 0 nothing.

    Example:
        >>> shrinkage(torch.eye(3).double(), samples=10)
        1.0
        >>> shrinkage(torch.diag(torch.tensor([100.0, 1.0, 1.0])).double(), samples=10_000) < 0.001
        True
    """
    mean_square = float(covariance.square().mean())
    variance = float(covariance.diagonal().mean())
    excess = (samples + 1) * (mean_square - variance**2 / len(covariance))
    return 1.0 if excess <= 0 else min(1.0, (mean_square + variance**2) / excess)


def inverse_root(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """R with ``R R^T`` the inverse of a positive definite matrix."""
    factor = torch.linalg.cholesky(matrix)
    return torch.linalg.solve_triangular(factor, torch.eye(len(matrix), dtype=matrix.dtype), upper=False).T

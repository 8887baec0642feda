"""Ranks, cut-offs and subspaces with tolerances that scale with size, dtype and the largest singular value."""

from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]
Mask: TypeAlias = NDArray[np.bool_]
Indices: TypeAlias = NDArray[np.integer[Any]]


def rank_cutoff(singular_values: Float[np.ndarray, " k"], size: int, eps: float = np.finfo(np.float64).eps) -> float:
    """The singular value below which a direction is rounding noise: ``size * eps * largest``."""
    return float(size * eps * np.max(singular_values, initial=0.0))


def effective_rank(singular_values: Float[np.ndarray, " k"]) -> float:
    """``exp(entropy of s / sum s)``, between 1 and the rank; 0 for a zero matrix.

    References:
        Roy and Vetterli (2007), EUSIPCO, "The effective rank: a measure of effective dimensionality".

    Example:
        >>> effective_rank(np.ones(4))
        4.0
    """
    total = float(np.sum(singular_values))
    if total <= 0:
        return 0.0
    share = singular_values[singular_values > 0] / total
    return float(round(np.exp(-np.sum(share * np.log(share))), 12))


def orthonormal_basis(matrix: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m r"]:
    """Orthonormal columns that span the column space (left singular vectors above the cut-off)."""
    left, values, _ = np.linalg.svd(matrix, full_matrices=False)
    return left[:, values > rank_cutoff(values, max(matrix.shape))]


def subspace_angle(first: Float[np.ndarray, "m k"], second: Float[np.ndarray, "m k"]) -> float:
    """Largest principal angle in radians between the spans of two orthonormal bases of equal size.

    By the arcsine of the residual, which keeps small angles exact; the arccosine of the overlap loses them below 1e-8.
    """
    residual = second - first @ (first.T @ second)
    return float(np.arcsin(min(1.0, np.linalg.norm(residual, 2))))


def leading_vectors(
    matrix: Float[np.ndarray, "m n"], size: int, eps: float = np.finfo(np.float64).eps
) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, "k n"]]:
    """At most `size` leading left and right singular vectors; fewer where the others are rounding noise."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    size = min(size, int(np.sum(values > rank_cutoff(values, max(matrix.shape), eps))))
    return left[:, :size], right[:size]


def share_inside(
    change: Float[np.ndarray, "m n"], left: Float[np.ndarray, "m k"], right: Float[np.ndarray, "k n"]
) -> float:
    """Part of the squared norm of `change` between the two subspaces: ``‖U^T change V‖^2 / ‖change‖^2``, from 0 to 1."""
    return float(np.sum((left.T @ change @ right.T) ** 2) / np.sum(change**2))


def product_svd(
    left: Float[np.ndarray, "m k"], right: Float[np.ndarray, "n k"]
) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " k"], Float[np.ndarray, "n k"]]:
    """The singular value decomposition of ``left @ right.T``, in O((m + n) k^2): U, s descending, V."""
    q_left, r_left = np.linalg.qr(left)
    q_right, r_right = np.linalg.qr(right)
    inner_left, values, inner_right = np.linalg.svd(r_left @ r_right.T)
    return np.ascontiguousarray(q_left @ inner_left), values, np.ascontiguousarray(q_right @ inner_right.T)

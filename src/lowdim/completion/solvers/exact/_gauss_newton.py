"""Gauss-Newton (Levenberg-Marquardt) on the factors of a matrix of fixed rank: from near the solution to it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowdim._linalg import product_svd
from lowdim.completion.entries import Entries
from lowdim.completion.solvers.exact._tangent import gram_blocks, solve_damped

Array = NDArray[np.float64]

DAMPING = 1e-3
STALL_WINDOW, STALL = 7, 0.9
FIRST_INNER, MOST_INNER = 60, 240
CUTS = 6  # of a step that does not lower the residual


@dataclass(frozen=True)
class Polished:
    """Factors with ``left @ right.T`` of the given rank, balanced, and how well they fit.

    Attributes:
        left: (m, k), orthogonal columns of norm ``sqrt(singular value)``.
        right: (n, k), the same.
        relative_residual: On the observed entries.
        steps: Outer steps taken.
    """

    left: Array
    right: Array
    relative_residual: float
    steps: int


def balance(left: Array, right: Array) -> tuple[Array, Array]:
    """The same product with both factors' columns orthogonal and of equal norms, descending."""
    left, values, right = product_svd(left, right)
    return left * np.sqrt(values), right * np.sqrt(values)


def polish(
    entries: Entries,
    left: Array,
    right: Array,
    *,
    tolerance: float = 1e-8,
    max_steps: int = 20,
    most_inner: int = MOST_INNER,
) -> Polished:
    """Lower the residual by damped Gauss-Newton steps until it vanishes or stalls.

    The damping is proportional to the residual, and the inner conjugate gradients get more steps when an outer step
    gains less than half.

    References:
        Zilber and Nadler (2022), SIAM J. Math. Data Sci., doi:10.1137/21M1433812.
    """
    norm = float(np.linalg.norm(entries.values))
    left, right = balance(left, right)
    residual = entries.values - entries.predict(left, right)
    history = [float(np.linalg.norm(residual)) / norm]
    damping, inner, step = DAMPING, FIRST_INNER, 0
    while step < max_steps and history[-1] > tolerance and not _stalled(history):
        step += 1
        direction = _direction(entries, left, right, residual, damping, inner, history[-1])
        found, length = _search(entries, left, right, direction, history[-1] * norm)
        if found is None:
            damping, inner = max(damping, 1e-6) * 10, min(2 * inner, most_inner)
            history.append(history[-1])
            continue
        left, right, residual = found
        history.append(float(np.linalg.norm(residual)) / norm)
        if history[-1] > 0.5 * history[-2]:
            inner = min(2 * inner, most_inner)
        damping *= 0.3 if length == 1 else 2
        left, right = balance(left, right)
    return Polished(left, right, history[-1], step)


def _stalled(history: list[float]) -> bool:
    return len(history) > STALL_WINDOW + 2 and history[-1] > STALL * history[-STALL_WINDOW]


def _direction(
    entries: Entries, left: Array, right: Array, residual: Array, damping: float, inner: int, relative: float
) -> tuple[Array, Array]:
    k = left.shape[1]
    scale = float((left**2).sum(0).mean()) * entries.density
    ridge = damping * scale * min(1.0, relative)
    row_blocks, col_blocks = np.empty((len(left), k, k)), np.empty((len(right), k, k))
    gram_blocks(entries.row_start, entries.cols, right, ridge + 1e-13 * scale, row_blocks)
    gram_blocks(entries.col_start, entries.col_rows, left, ridge + 1e-13 * scale, col_blocks)
    tolerance = 1e-2 * max(1e-16, min(1e-4, relative**2))
    arguments = (np.linalg.inv(row_blocks), np.linalg.inv(col_blocks), ridge, inner, tolerance)
    return solve_damped(entries.row_start, entries.cols, residual, left, right, *arguments)


def _search(
    entries: Entries, left: Array, right: Array, direction: tuple[Array, Array], norm: float
) -> tuple[tuple[Array, Array, Array] | None, float]:
    """The first of the lengths 1, .4, .16, ... that lowers the residual, and the factors and residual there."""
    length = 1.0
    for _ in range(CUTS):
        moved = left + length * direction[0], right + length * direction[1]
        residual = entries.values - entries.predict(*moved)
        if np.linalg.norm(residual) < norm:
            return (*moved, residual), length
        length *= 0.4
    return None, length

r"""The two stages of a recovery: reweighted least squares, which finds the matrix, and Gauss-Newton, which polishes a rank of it.

Weight decay on L factors acts on their product as the Schatten-p quasi-norm with p = 2/L: depth is the regulariser. Smoothed below
$\epsilon$, it is minimised by weighted least squares over the tangent space at the current leading part; the
smoothing falls slowly, which is what finds the matrix when there are few entries.

Gauss-Newton (Levenberg-Marquardt) on the factors of a matrix of fixed rank leads from near the solution to it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowdim._linalg import product_svd
from lowdim.completion.entries import Entries
from lowdim.completion.solvers.exact._tangent import gram_blocks, solve_damped, solve_weighted

Array = NDArray[np.float64]

CG_TOLERANCE, CG_STEPS = 1e-5, 200
CG_SHARE = 0.1  # of the smoothing relative to the largest singular value: what is smaller must still be resolved
NEGLIGIBLE = 1e-6  # smoothing relative to the largest singular value at which nothing more will change
LEAST_WEIGHT = 1e-12  # keeps weights finite where a singular value meets the smoothing

DAMPING = 1e-3
STALL_WINDOW, STALL = 7, 0.9
FIRST_INNER, MOST_INNER = 60, 240
TOLERANCE = 1e-8  # of the relative residual
CUTS = 6  # of a step that does not lower the residual


@dataclass(frozen=True)
class Estimate:
    """A leading part of the minimiser: ``left * values @ right.T`` with one more triplet than the bound.

    Attributes:
        iteration: From 1; 0 where there was nothing to iterate.
        left: (m, bound + 1).
        values: (bound + 1,), descending.
        right: (n, bound + 1).
        smoothing: Of the next iteration.
        largest: The largest singular value at the start.
        last: Whether none follows.
    """

    iteration: int
    left: Array
    values: Array
    right: Array
    smoothing: float
    largest: float
    last: bool

    def factors(self, rank: int) -> tuple[Array, Array]:
        """Balanced factors (m, rank) and (n, rank) of the leading part."""
        root = np.sqrt(self.values[:rank])
        return self.left[:, :rank] * root, self.right[:, :rank] * root

    def state(self) -> dict[str, Array]:
        """All that the iterations after this one need."""
        numbers = np.array([self.iteration, self.smoothing, self.largest])
        return {"left": self.left, "values": self.values, "right": self.right, "numbers": numbers}

    @classmethod
    def of_state(cls, state: Mapping[str, Array]) -> "Estimate":
        """One that is not the last."""
        iteration, smoothing, largest = state["numbers"].tolist()
        return cls(int(iteration), state["left"], state["values"], state["right"], smoothing, largest, False)


def reweighted(
    entries: Entries,
    bound: int,
    depth: int,
    decay: float,
    iterations: int,
    seed: tuple[int, ...],
    start: Estimate | None = None,
) -> Iterator[Estimate]:
    r"""Minimise the smoothed Schatten-2/L quasi-norm subject to the entries, one iteration at a time.

    With $q = 2 - 2/L$ and singular values $\sigma_i$ above $\epsilon$, the weights are
    $\epsilon^q / ((\sigma_i \sigma_j)^{q/2} - \epsilon^q)$ inside and $\epsilon^q / ((\sigma_i \epsilon)^{q/2} -
    \epsilon^q)$ beside the core; then $\epsilon \leftarrow \min(\epsilon, \max(\sigma_{bound+1}, decay\,\epsilon))$.

    Every iteration draws from a stream of its own, so that any can be the first; a larger `decay` is slower and finds more.

    References:
        Kümmerle and Verdun (2021), ICML, "A scalable second order method for ill-conditioned matrix completion from
        few samples".
    """
    power = 2 - 2 / depth
    now = start if start is not None else _first(entries, bound, np.random.default_rng([*seed, 0]))
    if now.last:
        yield now
    while not now.last:
        left, values, right, smoothing, largest = now.left, now.values, now.right, now.smoothing, now.largest
        above = int(np.sum(values[:bound] > smoothing * (1 + 1e-9)))
        active = slice(0, max(1, above))
        U, s, V = np.ascontiguousarray(left[:, active]), values[active], np.ascontiguousarray(right[:, active])
        weights = _weights(s, smoothing, power, entries.shape)
        tolerance = min(CG_TOLERANCE, CG_SHARE * smoothing / largest)
        arguments = (U, V, s, weights, entries.density, tolerance, CG_STEPS)
        C, A, residual = solve_weighted(entries.row_start, entries.cols, entries.values, *arguments)
        iteration = now.iteration + 1
        random = np.random.default_rng([*seed, iteration])
        left, values, right = _leading_part(entries, residual, (C, V), (U, A), bound, random)
        smoothing = min(smoothing, max(float(values[bound]), decay * smoothing))
        last = smoothing < NEGLIGIBLE * largest or iteration == iterations
        now = Estimate(iteration, left, values, right, smoothing, largest, last)
        yield now


def _first(entries: Entries, bound: int, random: np.random.Generator) -> Estimate:
    """The leading part of the matrix with zeros in its holes; the last if that has low rank already."""
    left, values, right = entries.leading_svd(entries.values, bound + 1, random)
    smoothing, largest = float(values[-1]), float(values[0])
    return Estimate(0, left, values, right, smoothing, largest, smoothing < NEGLIGIBLE * largest)


def _weights(s: Array, smoothing: float, power: float, shape: tuple[int, int]) -> Array:
    """Weights of G, B and A, flattened one after the other."""
    small, least = smoothing**power, LEAST_WEIGHT * s[0] ** power
    core = small / np.maximum(np.sqrt(np.outer(s, s)) ** power - small, least)
    side = small / np.maximum(np.sqrt(s * smoothing) ** power - small, least)
    return np.concatenate([core.ravel(), np.tile(side, sum(shape))])


def _leading_part(
    entries: Entries,
    residual: Array,
    first: tuple[Array, Array],
    second: tuple[Array, Array],
    bound: int,
    random: np.random.Generator,
) -> tuple[Array, Array, Array]:
    """The bound + 1 leading singular triplets of ``C V.T + U A.T + sparse residual``, by one block iteration from V and A."""
    (C, V), (U, A) = first, second
    left, right = np.concatenate([C, U], 1), np.concatenate([V, A], 1)
    extra = random.standard_normal((entries.shape[1], max(2, bound + 3 - V.shape[1])))
    start = np.linalg.qr(np.concatenate([V, A, extra], 1))[0]
    sparse = entries.sparse(residual)
    basis = np.linalg.qr(sparse @ start + left @ (right.T @ start))[0]
    reduced = sparse.T @ basis + right @ (left.T @ basis)
    leading, s, mixing = np.linalg.svd(reduced, full_matrices=False)
    kept = slice(bound + 1)  # row by row as on disk: results of BLAS depend on the order in memory
    return np.ascontiguousarray(basis @ mixing[kept].T), s[kept], np.ascontiguousarray(leading[:, kept])


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
    while step < max_steps and history[-1] > TOLERANCE and not _stalled(history):
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

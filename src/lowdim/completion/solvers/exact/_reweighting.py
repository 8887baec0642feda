r"""Iteratively reweighted least squares for the Schatten-2/L quasi-norm: depth as the regulariser.

Weight decay on L factors acts on their product as the Schatten-p quasi-norm with p = 2/L. Smoothed below
$\epsilon$, it is minimised by weighted least squares over the tangent space at the current leading part; the
smoothing falls slowly, which is what finds the matrix when there are few entries.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowdim.completion.entries import Entries
from lowdim.completion.solvers.exact._tangent import solve_weighted

Array = NDArray[np.float64]

CG_TOLERANCE, CG_STEPS = 1e-5, 200
CG_SHARE = 0.1  # of the smoothing relative to the largest singular value: what is smaller must still be resolved
NEGLIGIBLE = 1e-6  # smoothing relative to the largest singular value at which nothing more will change
LEAST_WEIGHT = 1e-12  # keeps weights finite where a singular value meets the smoothing


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

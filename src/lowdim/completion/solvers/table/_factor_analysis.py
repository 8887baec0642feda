"""Variational factor analysis of a matrix with missing cells.

The model of cell (i, j) is ``x_ij = w_j . z_i + mu_j + e_ij`` with ``z_i ~ N(0, I_K)`` and noise ``e_ij ~ N(0, psi_j)``
of its own for each column. The loadings are not point estimates: their posterior covariance is kept, and automatic relevance
determination shrinks the latents that the data do not support. So the number of latents needs no search.

The mean ``mu_j`` is treated as the loading of a constant latent 1, stored last: with ``K1 = K + 1``, an augmented loading is
``[w_j, mu_j]`` and an augmented latent ``[z_i, 1]``. Symmetric ``K1 x K1`` blocks are packed (see `_packed`) and summed over the observed
cells of every row (or column) in one matrix product with the mask.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdim.completion.solvers._solver import Journal, Stage
from lowdim.completion.solvers.table import _packed as packed

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

NOISE_FLOOR = 1e-4  # of a standardised column
WEAK_PRECISION = 1e-3  # the prior of the means, and of every loading at the start
PRUNED_ENERGY = 1e-7  # of a standardised column, on average; latents that explain less are dropped
PSEUDO_COUNT = 2e-3  # weak inverse-gamma priors of the noise and the relevance
PILOT_ROWS = 4_000  # rows that say which latents there are, where at least twice as many are to be fitted
BLOCK_BYTES = 2**26  # of the latent covariances held at once


@dataclass(frozen=True)
class Loadings:
    """Posterior of the column parameters.

    Attributes:
        mean: ``(n, K1)``, the augmented loadings ``[w_j, mu_j]``.
        covariance: ``(n, K1, K1)``, their posterior covariances.
        noise: ``(n,)``, the noise variances ``psi_j``.
        precision: ``(K1,)``, the prior precisions of the loadings.
    """

    mean: Array
    covariance: Array
    noise: Array
    precision: Array

    @property
    def rank(self) -> int:
        return self.mean.shape[1] - 1

    def of(self, columns: NDArray[np.integer[Any]] | slice) -> "Loadings":
        """Those of some columns."""
        return Loadings(self.mean[columns], self.covariance[columns], self.noise[columns], self.precision)


@dataclass(frozen=True)
class Fit:
    """Loadings with the number of sweeps taken and whether the last one changed the completed matrix by less than the tolerance."""

    loadings: Loadings
    iterations: int
    converged: bool


def fit(
    values: Array,
    observed: Mask,
    rank: int,
    *,
    sweeps: int = 30,
    tolerance: float = 1e-3,
    start: Loadings | None = None,
    stage: Stage | None = None,
    relevance: bool = True,
) -> Fit:
    """Fit the loadings by coordinate ascent on the variational bound.

    `values` have columns of about zero mean and unit variance; what stands in a missing cell is ignored.

    Cost: ``O(m n K^2 + (m + n) K^3)`` per sweep.

    References:
        Ilin and Raiko (2010), JMLR 11, 1957-2000 (variational PCA with missing values).
    """
    values, mask = np.where(observed, values, 0.0), observed.astype(np.float64)
    squares, counts = np.einsum("ij,ij->j", values, values), observed.sum(0)
    stage = stage or Journal().stage(sweeps)
    saved, step = stage.saved(), len(values) // PILOT_ROWS
    if saved is None and start is None and step > 1:
        options: dict[str, Any] = {"sweeps": sweeps, "tolerance": tolerance, "relevance": relevance}
        start = fit(values[::step], observed[::step], rank, **options).loadings
    if saved is not None:
        loadings = Loadings(saved["mean"], saved["covariance"], saved["noise"], saved["precision"])
        previous, done = saved["completed"], int(saved["sweep"])
    else:
        loadings = _spectral_start(values, observed, rank) if start is None else start
        previous, done = np.full(values.shape, np.inf), 0
    for sweep in range(done + 1, sweeps + 1):
        sums = _accumulate(loadings, values, mask)
        if np.sqrt(np.mean((sums.completed - previous) ** 2)) < tolerance:
            return Fit(loadings, sweep, True)
        previous = sums.completed
        loadings = _pruned(_rotate(_update_columns(loadings, sums, squares, counts), sums.second_moment, relevance))
        stage.report(sweep, lambda: vars(loadings) | {"completed": previous, "sweep": np.array(sweep)})  # noqa: B023
    return Fit(loadings, sweeps, False)


def latents(loadings: Loadings, values: Array, observed: Mask) -> tuple[Array, Array]:
    """Posterior means ``(m, K1)`` (the last entry is 1) and packed covariances ``(K (K + 1) / 2, m)`` of the latents of rows."""
    mean, covariance = _latents(loadings, np.where(observed, values, 0.0), observed.astype(np.float64))
    return np.ascontiguousarray(mean.T), covariance


def _latents(loadings: Loadings, values: Array, mask: Array) -> tuple[Array, Array]:
    """As `latents`, with zeros in the missing cells of the values and the mask, and means as columns ``(K1, m)``."""
    rank = loadings.rank
    rows, cols = packed.lower(rank + 1)
    weighted = loadings.mean / loadings.noise[:, None]
    blocks = weighted[:, rows] * loadings.mean[:, cols] + loadings.covariance[:, rows, cols] / loadings.noise[:, None]
    grams = blocks.T @ mask.T
    covariance, with_mean = grams[: -rank - 1], grams[-rank - 1 : -1]
    covariance[packed.diagonal(rank)] += 1
    mean = np.ones((rank + 1, len(values)))
    mean[:rank] = weighted[:, :rank].T @ values.T - with_mean
    packed.invert_and_solve(covariance, mean[:rank])
    return mean, covariance


def variances(loadings: Loadings, mean: Array, covariance: Array) -> Array:
    """Predictive variances ``(m, n)`` of the cells of rows with these latents: of the noise, the latents and the loadings."""
    rank = loadings.rank
    uncertain = packed.pack(loadings.covariance) * packed.weights(rank + 1)
    both = packed.outer(loadings.mean[:, :rank].T) * packed.weights(rank) + uncertain[: len(covariance)]
    return loadings.noise + covariance.T @ both + packed.outer(mean.T).T @ uncertain


def roots(covariance: Array, rank: int) -> Array:
    """Cholesky factors ``(m, K, K)`` of packed covariances of latents."""
    return np.linalg.cholesky(packed.unpack(covariance, rank))


def row_blocks(rows: int, rank: int) -> Iterator[slice]:
    """Slices of rows whose latent covariances fit in `BLOCK_BYTES`."""
    size = max(1, BLOCK_BYTES // (8 * (rank + 1) ** 2))
    return (slice(first, first + size) for first in range(0, max(rows, 1), size))


@dataclass(frozen=True)
class _Sums:
    """What the column update needs from the rows: sums of ``E[z z^T]`` and ``z x`` over the observed cells of each column."""

    grams: Array  # packed, of n columns
    moments: Array  # (K1, n)
    second_moment: Array  # (K1, K1), mean over all rows
    completed: Array  # (m, n)


def _accumulate(loadings: Loadings, values: Array, mask: Array) -> _Sums:
    rank, (m, n) = loadings.rank, values.shape
    grams, moments = np.zeros((packed.lower(rank + 1)[0].size, n)), np.zeros((rank + 1, n))
    total, completed = np.zeros((len(grams), 1)), np.empty_like(values)
    for block in row_blocks(m, rank):
        mean, covariance = _latents(loadings, values[block], mask[block])
        np.matmul(mean.T, loadings.mean.T, out=completed[block])
        moments += mean @ values[block]
        second = packed.outer(mean)
        second[: len(covariance)] += covariance
        grams += second @ mask[block]
        total += second.sum(1, keepdims=True)
    return _Sums(grams, moments, packed.unpack(total / m, rank + 1)[0], completed)


def _update_columns(loadings: Loadings, sums: _Sums, squares: Array, counts: Array) -> Loadings:
    """Posterior of each column's loading given the latents, then its noise given the loading."""
    size = loadings.rank + 1
    covariance, mean = sums.grams / loadings.noise, sums.moments / loadings.noise
    covariance[packed.diagonal(size)] += loadings.precision[:, None]
    packed.invert_and_solve(covariance, mean)
    second = (packed.outer(mean) + covariance) * packed.weights(size)
    residual = squares - 2 * (mean * sums.moments).sum(0) + (second * sums.grams).sum(0)
    noise = np.maximum((residual + PSEUDO_COUNT) / (counts + PSEUDO_COUNT), NOISE_FLOOR)
    return Loadings(np.ascontiguousarray(mean.T), packed.unpack(covariance, size), noise, loadings.precision)


def _rotate(loadings: Loadings, second_moment: Array, relevance: bool) -> Loadings:
    """Change the basis of the latents so that they have mean 0 and covariance I, with orthogonal loadings; then the relevance.

    The model is the same, but the sweeps converge much faster (Ilin and Raiko, section 3.3).
    """
    rank = loadings.rank
    centre = second_moment[rank, :rank]
    root = np.linalg.cholesky(second_moment[:rank, :rank] - np.outer(centre, centre) + 1e-10 * np.eye(rank))
    shift = np.eye(rank + 1)
    shift[:rank, rank] = centre
    mean, covariance = _transform(loadings.mean, loadings.covariance, shift)
    energy = (mean.T @ mean + covariance.sum(0))[:rank, :rank]
    turn = np.eye(rank + 1)
    turn[:rank, :rank] = root @ np.linalg.eigh(root.T @ energy @ root)[1][:, ::-1]
    mean, covariance = _transform(mean, covariance, turn)
    energy = (mean**2).sum(0) + np.einsum("jaa->a", covariance)
    precision = (len(mean) + PSEUDO_COUNT) / (energy + PSEUDO_COUNT)
    precision[slice(rank if relevance else 0, None)] = WEAK_PRECISION
    return Loadings(mean, covariance, loadings.noise, precision)


def _pruned(loadings: Loadings) -> Loadings:
    """Without the latents that the relevance has shrunk away."""
    keep = (loadings.mean**2).mean(0) > PRUNED_ENERGY
    keep[-1] = True
    # row by row as on disk: results of BLAS depend on the order in memory
    mean = np.ascontiguousarray(loadings.mean[:, keep])
    covariance = np.ascontiguousarray(loadings.covariance[:, keep][:, :, keep])
    return Loadings(mean, covariance, loadings.noise, loadings.precision[keep])


def _transform(mean: Array, covariance: Array, change: Array) -> tuple[Array, Array]:
    return mean @ change, change.T @ covariance @ change


def _spectral_start(values: Array, observed: Mask, rank: int) -> Loadings:
    """Loadings from the singular vectors of the matrix with zeros (the column means) in its holes."""
    m, n = values.shape
    _, sizes, right = np.linalg.svd(values, full_matrices=False)
    known = min(rank, len(sizes))
    share = max(float(observed.mean()), 0.05)
    mean = np.zeros((n, rank + 1))
    mean[:, :known] = right[:known].T * (sizes[:known] / np.sqrt(m * share))
    return Loadings(mean, np.zeros((n, rank + 1, rank + 1)), np.full(n, 0.5), np.full(rank + 1, WEAK_PRECISION))

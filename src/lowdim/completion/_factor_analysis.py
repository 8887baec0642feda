"""Variational factor analysis of a matrix with missing cells.

The model of cell (i, j) is ``x_ij = w_j . z_i + mu_j + e_ij`` with ``z_i ~ N(0, I_K)`` and noise ``e_ij ~ N(0, psi_j)``
of its own for each column. The loadings are not point estimates: their posterior covariance is kept, and automatic relevance
determination shrinks the latents that the data do not support. So the number of latents needs no search.

The mean ``mu_j`` is treated as the loading of a constant latent 1, stored last: with ``K1 = K + 1``, an augmented loading is
``[w_j, mu_j]`` and an augmented latent ``[z_i, 1]``. Symmetric ``K1 x K1`` blocks are summed over the observed cells of every
row (or column) in one matrix product of the mask with their packed lower triangles.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

NOISE_FLOOR = 1e-4  # of a standardised column
WEAK_PRECISION = 1e-3  # the prior of the means, and of every loading at the start
PRUNED_ENERGY = 1e-7  # of a standardised column, on average; latents that explain less are dropped
PSEUDO_COUNT = 2e-3  # weak inverse-gamma priors of the noise and the relevance
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
) -> Fit:
    """Fit the loadings by coordinate ascent on the variational bound.

    Args:
        values: ``(m, n)``, columns of about zero mean and unit variance; what stands in a missing cell is ignored.
        observed: ``(m, n)``, True where a cell was observed.
        rank: The number of latents K, at most ``n - 1``.
        sweeps: The most sweeps over rows and columns.
        tolerance: Stop when a sweep changes the completed matrix by less, in root mean square.
        start: Loadings to continue from.

    Cost: ``O(m n K^2 + (m + n) K^3)`` per sweep.

    References:
        Ilin and Raiko (2010), JMLR 11, 1957-2000 (variational PCA with missing values).
    """
    values = np.where(observed, values, 0.0)
    loadings = _spectral_start(values, observed, rank) if start is None else start
    squares, counts = np.einsum("ij,ij->j", values, values), observed.sum(0)
    previous = np.full(values.shape, np.inf)
    for sweep in range(1, sweeps + 1):
        sums = _accumulate(loadings, values, observed)
        if np.sqrt(np.mean((sums.completed - previous) ** 2)) < tolerance:
            return Fit(loadings, sweep, True)
        previous = sums.completed
        loadings = _pruned(_rotate(_update_columns(loadings, sums, squares, counts), sums.second_moment))
    return Fit(loadings, sweeps, False)


def latents(loadings: Loadings, values: Array, observed: Mask) -> tuple[Array, Array]:
    """Posterior means ``(m, K1)`` (the last entry is 1) and covariances ``(m, K, K)`` of the latents of rows."""
    rank = loadings.rank
    lower = np.tril_indices(rank + 1)
    weighted = loadings.mean / loadings.noise[:, None]
    blocks = (
        weighted[:, lower[0]] * loadings.mean[:, lower[1]]
        + loadings.covariance[:, lower[0], lower[1]] / loadings.noise[:, None]
    )
    grams = _unpack(observed.astype(np.float64) @ blocks, rank + 1)
    precision = grams[:, :rank, :rank] + np.eye(rank)
    covariance = np.linalg.inv(precision)
    right = np.where(observed, values, 0.0) @ weighted[:, :rank] - grams[:, :rank, rank]
    mean = np.ones((len(values), rank + 1))
    mean[:, :rank] = np.einsum("iab,ib->ia", covariance, right)
    return mean, covariance


def variances(loadings: Loadings, mean: Array, covariance: Array) -> Array:
    """Predictive variances ``(m, n)`` of the cells of rows with these latents: of the noise, the latents and the loadings."""
    rank = loadings.rank
    second = mean[:, :, None] * mean[:, None, :]
    second[:, :rank, :rank] += covariance
    outer = loadings.mean[:, :rank, None] * loadings.mean[:, None, :rank]
    from_latents = np.tensordot(covariance, outer, axes=([1, 2], [1, 2]))
    from_loadings = np.tensordot(second, loadings.covariance, axes=([1, 2], [1, 2]))
    return loadings.noise + from_latents + from_loadings


def row_blocks(rows: int, rank: int) -> Iterator[slice]:
    """Slices of rows whose latent covariances fit in `BLOCK_BYTES`."""
    size = max(1, BLOCK_BYTES // (8 * (rank + 1) ** 2))
    return (slice(first, first + size) for first in range(0, max(rows, 1), size))


@dataclass(frozen=True)
class _Sums:
    """What the column update needs from the rows: sums of ``E[z z^T]`` and ``z x`` over the observed cells of each column."""

    grams: Array  # (n, K1, K1)
    moments: Array  # (n, K1)
    second_moment: Array  # (K1, K1), mean over all rows
    completed: Array  # (m, n)


def _accumulate(loadings: Loadings, values: Array, observed: Mask) -> _Sums:
    rank, n = loadings.rank, values.shape[1]
    lower = np.tril_indices(rank + 1)
    packed, moments, total = np.zeros((n, len(lower[0]))), np.zeros((n, rank + 1)), np.zeros((rank + 1, rank + 1))
    completed = np.empty_like(values)
    for block in row_blocks(len(values), rank):
        mean, second = latents(loadings, values[block], observed[block])
        completed[block] = mean @ loadings.mean.T
        moments += values[block].T @ mean
        outer = mean[:, lower[0]] * mean[:, lower[1]]
        inner = lower[0] < rank
        outer[:, inner] += second[:, lower[0][inner], lower[1][inner]]
        packed += observed[block].T.astype(np.float64) @ outer
        total += _unpack(outer.sum(0)[None], rank + 1)[0]
    return _Sums(_unpack(packed, rank + 1), moments, total / len(values), completed)


def _update_columns(loadings: Loadings, sums: _Sums, squares: Array, counts: Array) -> Loadings:
    """Posterior of each column's loading given the latents, then its noise given the loading."""
    covariance = np.linalg.inv(sums.grams / loadings.noise[:, None, None] + np.diag(loadings.precision))
    mean = np.einsum("jab,jb->ja", covariance, sums.moments) / loadings.noise[:, None]
    second = mean[:, :, None] * mean[:, None, :] + covariance
    residual = squares - 2 * (mean * sums.moments).sum(1) + (second * sums.grams).sum((1, 2))
    noise = np.maximum((residual + PSEUDO_COUNT) / (counts + PSEUDO_COUNT), NOISE_FLOOR)
    return Loadings(mean, covariance, noise, loadings.precision)


def _rotate(loadings: Loadings, second_moment: Array) -> Loadings:
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
    precision[rank] = WEAK_PRECISION
    return Loadings(mean, covariance, loadings.noise, precision)


def _pruned(loadings: Loadings) -> Loadings:
    """Without the latents that the relevance has shrunk away."""
    keep = (loadings.mean**2).mean(0) > PRUNED_ENERGY
    keep[-1] = True
    covariance = loadings.covariance[:, keep][:, :, keep]
    return Loadings(loadings.mean[:, keep], covariance, loadings.noise, loadings.precision[keep])


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


def _unpack(packed: Array, size: int) -> Array:
    """Symmetric ``(..., size, size)`` matrices from their lower triangles, row by row."""
    place = np.zeros((size, size), np.intp)
    lower = np.tril_indices(size)
    place[lower] = place[lower[::-1]] = np.arange(len(lower[0]))
    return packed[:, place]

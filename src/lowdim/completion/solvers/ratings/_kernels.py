"""Kernels of the `ratings` solver: the posterior of every row given the columns, and the implicit features.

With ``K1 = k + 1``, a row's parameters are ``T = [p_1 .. p_k, b]``, its factors and bias. What a rating ``y`` of column ``i`` shows the
row is the vector ``[q_1 .. q_k, 1, t]`` with ``t = y - c_i``. Sums of its outer product over the ratings, weighted by ``v_i``, hold all
that the row needs: the normal equations and the sum of squares. In the variational mode, the columns are uncertain, and the sums are
expectations: the covariance of ``[q, t]`` is added, which the other side stores packed as a lower triangle.
"""

from typing import Any

import numpy as np

from lowdim._compiled import kernel
from lowdim.completion.entries import PADDING, TILE, add_products


@kernel
def update_rows(
    first: Any,
    last: Any,
    start: Any,
    cols: Any,
    values: Any,
    other: Any,
    other_weights: Any,
    other_covariances: Any,
    prior: Any,
    precision: Any,
    alpha: Any,
    weights: Any,
    normals: Any,
    out: Any,
    means: Any,
    covariances: Any,
    errors: Any,
) -> None:
    """Draw each row from its Gaussian posterior, or take its mean where `normals` has no rows.

    Writes the parameters ``out``, beside draws the posterior `means` unless that has no rows, the packed `covariances` unless that has no
    rows, and `errors`, the (expected) weighted sums of squared residuals.
    """
    size = other.shape[1]
    tile = np.zeros((size + 1, TILE), other.dtype)
    sums = np.empty((size + 1, size + 1), other.dtype)
    packed = np.empty(other_covariances.shape[1], other.dtype)
    factor = np.empty((size, size), other.dtype)
    for i in range(first, last):
        sums[:] = 0
        for begin in range(start[i], start[i + 1], TILE):
            filled = _gather(begin, min(begin + TILE, start[i + 1]), cols, values, other, other_weights, tile)
            add_products(tile, filled, sums)
        if other_covariances.shape[0] > 0:
            packed[:] = 0
            for t in range(start[i], start[i + 1]):
                j = cols[t]
                for a in range(packed.size):
                    packed[a] += other_weights[j] * other_covariances[j, a]
            _add_packed(packed, sums)
        scale = alpha * weights[i]
        _cholesky(sums, scale, precision, factor)
        for a in range(size):
            out[i, a] = scale * sums[size, a] + precision[a] * prior[i, a]
        _forward(factor, out[i])
        if normals.shape[0] > 0:
            if means.shape[0] > 0:
                means[i] = out[i]
                _backward(factor, means[i])
            for a in range(size):
                out[i, a] += normals[i, a]
        _backward(factor, out[i])
        errors[i] = _squares(sums, out[i])
        if covariances.shape[0] > 0:
            errors[i] += _store_covariance(factor, sums, covariances[i])


@kernel
def _gather(begin: Any, end: Any, cols: Any, values: Any, other: Any, weights: Any, tile: Any) -> Any:
    """Fill the tile with ``sqrt(v) [q, 1, t]`` of the ratings [begin, end) and zeros up to a multiple of `PADDING`."""
    size = other.shape[1]
    for t in range(end - begin):
        j = cols[begin + t]
        root = np.sqrt(weights[j])
        for a in range(size - 1):
            tile[a, t] = root * other[j, a]
        tile[size - 1, t] = root
        tile[size, t] = root * (values[begin + t] - other[j, size - 1])
    filled = (end - begin + PADDING - 1) // PADDING * PADDING
    for a in range(size + 1):
        for t in range(end - begin, filled):
            tile[a, t] = 0
    return filled


@kernel
def _add_packed(packed: Any, sums: Any) -> None:
    """Add the covariance of ``[q, t]``, between which the sums have the constant 1."""
    at, size = 0, sums.shape[0] - 1
    for a in range(size):
        row = a if a < size - 1 else size
        for c in range(a + 1):
            sums[row, c if c < size - 1 else size] += packed[at]
            at += 1


@kernel
def _cholesky(sums: Any, scale: Any, precision: Any, factor: Any) -> None:
    """Lower Cholesky factor of ``scale sums + diag(precision)``, with the inverses of the pivots on the diagonal."""
    for a in range(factor.shape[0]):
        for c in range(a):
            total = scale * sums[a, c]
            for q in range(c):
                total -= factor[a, q] * factor[c, q]
            factor[a, c] = total * factor[c, c]
        total = scale * sums[a, a] + precision[a]
        for q in range(a):
            total -= factor[a, q] * factor[a, q]
        factor[a, a] = 1 / np.sqrt(total)


@kernel
def _forward(factor: Any, x: Any) -> None:
    for a in range(x.size):
        total = x[a]
        for q in range(a):
            total -= factor[a, q] * x[q]
        x[a] = total * factor[a, a]


@kernel
def _backward(factor: Any, x: Any) -> None:
    for a in range(x.size - 1, -1, -1):
        total = x[a]
        for q in range(a + 1, x.size):
            total -= factor[q, a] * x[q]
        x[a] = total * factor[a, a]


@kernel
def _squares(sums: Any, x: Any) -> Any:
    """``sum v (t - x . [q, 1])^2`` from the sums."""
    size = x.size
    total = sums[size, size]
    for a in range(size):
        total -= 2 * x[a] * sums[size, a]
        for c in range(a):
            total += 2 * x[a] * x[c] * sums[a, c]
        total += x[a] * x[a] * sums[a, a]
    return max(total, 0.0)


@kernel
def _store_covariance(factor: Any, sums: Any, packed: Any) -> Any:
    """Pack the posterior covariance of ``T`` as that of ``[p, -b]``; returns its inner product with the sums of ``[q, 1]``."""
    size = factor.shape[0]
    inverse = np.zeros((size, size), factor.dtype)  # of the factor
    for a in range(size):
        inverse[a, a] = factor[a, a]
        for c in range(a):
            total = factor[a, c] * inverse[c, c]
            for q in range(c + 1, a):
                total += factor[a, q] * inverse[q, c]
            inverse[a, c] = -total * factor[a, a]
    trace, at = 0.0, 0
    for a in range(size):
        for c in range(a + 1):
            total = factor.dtype.type(0)
            for q in range(a, size):
                total += inverse[q, a] * inverse[q, c]
            trace += (1 if a == c else 2) * total * sums[a, c]
            packed[at] = -total if a == size - 1 and c < a else total
            at += 1
    return trace


@kernel
def update_features(
    start: Any,
    rows: Any,
    shares: Any,
    precision: Any,
    kappa: Any,
    normals: Any,
    features: Any,
    rest: Any,
    variances: Any,
) -> None:
    """Draw the implicit features ``z`` one after the other, or take their means where `normals` has no rows.

    A row's parameters are ``m + s_u sum_j z_j`` over its columns ``j``, plus what `rest` holds, which is kept up to date. Writes the
    posterior `variances` unless that has no rows.
    """
    size = features.shape[1]
    total = np.empty(size, features.dtype)
    for j in range(start.size - 1):
        strength = features.dtype.type(0)
        total[:] = 0
        for t in range(start[j], start[j + 1]):
            u = rows[t]
            share = shares[u]
            strength += share * share
            for a in range(size):
                total[a] += share * rest[u, a]
        for a in range(size):
            posterior = precision[a] * strength + kappa[a]
            new = precision[a] * (total[a] + strength * features[j, a]) / posterior
            if normals.shape[0] > 0:
                new += normals[j, a] / np.sqrt(posterior)
            if variances.shape[0] > 0:
                variances[j, a] = 1 / posterior
            total[a] = new - features[j, a]
            features[j, a] = new
        for t in range(start[j], start[j + 1]):
            u = rows[t]
            share = shares[u]
            for a in range(size):
                rest[u, a] -= share * total[a]

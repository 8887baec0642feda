"""The tangent map of low-rank matrices on the observed entries: the inner loop of both stages of recovery.

A tangent vector at ``L R.T`` is ``X = C R.T + L A.T`` with C (m, k) and A (n, k). Its entries on Omega, and their
products with both factors, are made in one pass over the entries. Rows of C and L lie side by side in
``row_pack = [C | L]`` (m, 2k), those of R and A in ``col_pack = [R | A]`` (n, 2k), so an entry is one dot product.
"""

from typing import Any

import numpy as np

from lowdim._compiled import kernel


@kernel
def add_both_products(start: Any, cols: Any, values: Any, left: Any, right: Any, by_row: Any, by_col: Any) -> None:
    """Add ``S R`` and ``S.T L`` for the sparse S with these values: for use inside kernels, which cannot call SciPy.

    As fast as SciPy's two products: one row's sum and factors lie in arrays of their own, which nothing else can alias.
    """
    count = left.shape[1]
    total, own = np.empty(count), np.empty(count)
    for i in range(start.size - 1):
        for a in range(count):
            total[a], own[a] = 0.0, left[i, a]
        for t in range(start[i], start[i + 1]):
            j, value = cols[t], values[t]
            for a in range(count):
                total[a] += value * right[j, a]
            for a in range(count):
                by_col[j, a] += value * own[a]
        for a in range(count):
            by_row[i, a] += total[a]


@kernel
def tangent_products(start: Any, cols: Any, row_pack: Any, col_pack: Any, by_row: Any, by_col: Any) -> None:
    """``by_row = S R`` and ``by_col = S.T L`` with S the entries of the tangent vector on Omega."""
    k = by_row.shape[1]
    by_row[:] = 0.0
    by_col[:] = 0.0
    for i in range(start.size - 1):
        for t in range(start[i], start[i + 1]):
            j = cols[t]
            entry = 0.0
            for a in range(2 * k):
                entry += row_pack[i, a] * col_pack[j, a]
            for a in range(k):
                by_row[i, a] += entry * col_pack[j, a]
                by_col[j, a] += entry * row_pack[i, k + a]


@kernel
def tangent_residual(start: Any, cols: Any, values: Any, row_pack: Any, col_pack: Any, residual: Any) -> None:
    """``residual = values - (entries of the tangent vector)``."""
    for i in range(start.size - 1):
        for t in range(start[i], start[i + 1]):
            j = cols[t]
            entry = values[t]
            for a in range(row_pack.shape[1]):
                entry -= row_pack[i, a] * col_pack[j, a]
            residual[t] = entry


@kernel
def gram_blocks(start: Any, cols: Any, right: Any, ridge: Any, out: Any) -> None:
    """``out[i] = sum_j r_j r_j.T + ridge I`` over the columns j observed in row i."""
    k = right.shape[1]
    for i in range(start.size - 1):
        block = out[i]
        block[:] = 0.0
        for t in range(start[i], start[i + 1]):
            j = cols[t]
            for a in range(k):
                for b in range(a + 1):
                    block[a, b] += right[j, a] * right[j, b]
        for a in range(k):
            block[a, a] += ridge
            for b in range(a):
                block[b, a] = block[a, b]


@kernel
def solve_weighted(
    start: Any, cols: Any, values: Any, left: Any, right: Any, spectrum: Any, weights: Any, share: Any,
    tolerance: Any, max_steps: Any,
) -> Any:  # fmt: skip
    r"""The reweighted least squares step: preconditioned conjugate gradients in the tangent space.

    Solves $(D + P_T^* P_\Omega P_T)\, g = P_T^* y$ for $g = (G, B, A)$, where
    $P_T g = U G V^\top + B V^\top + U A^\top$ with $B \perp U$, $A \perp V$, and D multiplies every entry by its
    weight.

    Args:
        start: (m + 1,) row pointers of Omega.
        cols: Columns of Omega.
        values: y.
        left: U (m, k).
        right: V (n, k).
        spectrum: (k,) where to start: ``G = diag(spectrum)``.
        weights: (k^2 + (m + n) k,): those of G, B, A, flattened one after the other.
        share: The observed share, which the preconditioner takes for $P_T^* P_\Omega P_T$.
        tolerance: On the residual relative to the right-hand side.
        max_steps: Most steps.

    Returns:
        ``C = B + U G`` (m, k), A (n, k) and the residual ``y - P_Omega P_T g``.
    """
    m, k = left.shape
    n = right.shape[0]
    row_pack, col_pack = np.empty((m, 2 * k)), np.empty((n, 2 * k))
    fill(row_pack[:, k:], left)
    fill(col_pack[:, :k], right)
    by_row, by_col = np.empty((m, k)), np.empty((n, k))
    residual = np.empty(values.size)
    x, r, d, q = np.zeros(weights.size), np.empty(weights.size), np.empty(weights.size), np.empty(weights.size)
    for a in range(k):
        x[a * k + a] = spectrum[a]

    by_row[:] = 0.0
    by_col[:] = 0.0
    add_both_products(start, cols, values, left, right, by_row, by_col)
    project(by_row, by_col, left, right, r)
    target = tolerance * np.sqrt(np.dot(r, r))
    for i in range(m):
        for a in range(k):
            row_pack[i, a] = left[i, a] * spectrum[a]
    col_pack[:, k:] = 0.0
    tangent_residual(start, cols, values, row_pack, col_pack, residual)
    by_row[:] = 0.0
    by_col[:] = 0.0
    add_both_products(start, cols, residual, left, right, by_row, by_col)
    project(by_row, by_col, left, right, r)

    inner, norm = 0.0, 0.0
    for i in range(r.size):
        r[i] -= weights[i] * x[i]
        d[i] = r[i] / (weights[i] + share)
        inner += r[i] * d[i]
        norm += r[i] * r[i]
    for _ in range(max_steps):
        if np.sqrt(norm) <= target:
            break
        unfold(d, left, row_pack, col_pack)
        tangent_products(start, cols, row_pack, col_pack, by_row, by_col)
        project(by_row, by_col, left, right, q)
        curvature = 0.0
        for i in range(q.size):
            q[i] += weights[i] * d[i]
            curvature += d[i] * q[i]
        length, previous = inner / curvature, inner
        inner, norm = 0.0, 0.0
        for i in range(q.size):
            x[i] += length * d[i]
            r[i] -= length * q[i]
            norm += r[i] * r[i]
            inner += r[i] * r[i] / (weights[i] + share)
        ratio = inner / previous
        for i in range(q.size):
            d[i] = r[i] / (weights[i] + share) + ratio * d[i]
    unfold(x, left, row_pack, col_pack)
    tangent_residual(start, cols, values, row_pack, col_pack, residual)
    return row_pack[:, :k].copy(), col_pack[:, k:].copy(), residual


@kernel
def project(by_row: Any, by_col: Any, left: Any, right: Any, out: Any) -> None:
    """From ``S V`` and ``S.T U`` to the parts G, B, A of ``P_T^* S``, flattened into ``out``."""
    m, k = left.shape
    core = np.dot(left.T, by_row)
    inside, beside = np.dot(left, core), np.dot(right, np.dot(right.T, by_col))
    for a in range(k):
        for b in range(k):
            out[a * k + b] = core[a, b]
    for i in range(m):
        for a in range(k):
            out[(k + i) * k + a] = by_row[i, a] - inside[i, a]
    for j in range(right.shape[0]):
        for a in range(k):
            out[(k + m + j) * k + a] = by_col[j, a] - beside[j, a]


@kernel
def unfold(vector: Any, left: Any, row_pack: Any, col_pack: Any) -> None:
    """From the flattened parts G, B, A to ``C = B + U G`` and ``A`` in their places of the packs."""
    m, k = left.shape
    moved = np.dot(left, vector[: k * k].reshape((k, k)))
    for i in range(m):
        for a in range(k):
            row_pack[i, a] = vector[(k + i) * k + a] + moved[i, a]
    for j in range(col_pack.shape[0]):
        for a in range(k):
            col_pack[j, k + a] = vector[(k + m + j) * k + a]


@kernel
def fill(place: Any, values: Any) -> None:
    """Copy a matrix; for the assignment of arrays to slices Numba compiles seconds longer."""
    for i in range(values.shape[0]):
        for a in range(values.shape[1]):
            place[i, a] = values[i, a]


@kernel
def apply_blocks(blocks: Any, vectors: Any, out: Any) -> None:
    """``out[i] = blocks[i] @ vectors[i]``."""
    k = vectors.shape[1]
    for i in range(vectors.shape[0]):
        for a in range(k):
            total = 0.0
            for b in range(k):
                total += blocks[i, a, b] * vectors[i, b]
            out[i, a] = total


@kernel
def solve_damped(
    start: Any, cols: Any, residual: Any, left: Any, right: Any, left_blocks: Any, right_blocks: Any,
    damping: Any, max_steps: Any, tolerance: Any,
) -> Any:  # fmt: skip
    r"""The Gauss-Newton step: $(\lambda I + J^* J)\, (C, A) = J^* e$ by block-Jacobi conjugate gradients.

    $J (C, A) = P_\Omega(C R^\top + L A^\top)$ is the derivative of the entries in both factors.

    Args:
        start: (m + 1,) row pointers of Omega.
        cols: Columns of Omega.
        residual: e on Omega.
        left: L (m, k).
        right: R (n, k).
        left_blocks: (m, k, k) inverse diagonal blocks of the matrix for the rows.
        right_blocks: (n, k, k) the same for the columns.
        damping: lambda.
        max_steps: Most steps.
        tolerance: On the squared preconditioned residual, relative to the start.

    Returns:
        C (m, k) and A (n, k).
    """
    m, k = left.shape
    n = right.shape[0]
    row_pack, col_pack = np.empty((m, 2 * k)), np.empty((n, 2 * k))
    fill(row_pack[:, k:], left)
    fill(col_pack[:, :k], right)
    x, r, z, d = np.zeros((m + n, k)), np.empty((m + n, k)), np.empty((m + n, k)), np.empty((m + n, k))
    q = np.empty((m + n, k))
    r[:] = 0.0
    add_both_products(start, cols, residual, left, right, r[:m], r[m:])
    apply_blocks(left_blocks, r[:m], z[:m])
    apply_blocks(right_blocks, r[m:], z[m:])
    fill(d, z)
    inner = (r * z).sum()
    least = tolerance * inner
    for _ in range(max_steps):
        if inner <= least:
            break
        fill(row_pack[:, :k], d[:m])
        fill(col_pack[:, k:], d[m:])
        tangent_products(start, cols, row_pack, col_pack, q[:m], q[m:])
        curvature = 0.0
        for i in range(m + n):
            for a in range(k):
                q[i, a] += damping * d[i, a]
                curvature += d[i, a] * q[i, a]
        length = inner / curvature
        for i in range(m + n):
            for a in range(k):
                x[i, a] += length * d[i, a]
                r[i, a] -= length * q[i, a]
        apply_blocks(left_blocks, r[:m], z[:m])
        apply_blocks(right_blocks, r[m:], z[m:])
        previous, inner = inner, (r * z).sum()
        for i in range(m + n):
            for a in range(k):
                d[i, a] = z[i, a] + inner / previous * d[i, a]
    return x[:m].copy(), x[m:].copy()

"""Plain implementations, from their papers, of methods that recover a low-rank matrix whose rank is given.

Each is a function ``(entries, rank, ...) -> (left, right)`` in NumPy and SciPy, stopped by the residual on the observed
entries (`TOLERANCE`) or when it no longer moves: nothing is known of the truth.
"""

from collections.abc import Iterator

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, lsqr, svds

from lowdim.completion.entries import Entries
from lowdim.completion.solvers._solver import hold_out

TOLERANCE = 1e-8
Factors = tuple[np.ndarray, np.ndarray]


def sparse(entries: Entries, values: np.ndarray) -> scipy.sparse.csr_array:
    return scipy.sparse.csr_array((values, entries.cols, entries.row_start), shape=entries.shape)


def entry_values(entries: Entries, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.einsum("tk,tk->t", left[entries.rows], right[entries.cols])


def spectral(entries: Entries, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leading triplets of the observed matrix divided by the observed share."""
    U, s, Vt = svds(sparse(entries, entries.values / entries.density), rank, random_state=0)
    return U[:, ::-1], s[::-1], Vt[::-1].T


def scaled_gradient_descent(entries: Entries, rank: int, *, step: float = 0.2, iterations: int = 3_000) -> Factors:
    """ScaledGD: Tong, Ma and Chi (2021), JMLR 22(150)."""
    U, s, V = spectral(entries, rank)
    left, right = U * np.sqrt(s), V * np.sqrt(s)
    norm = np.linalg.norm(entries.values)
    for _ in range(iterations):
        error = entry_values(entries, left, right) - entries.values
        size = np.linalg.norm(error)
        if size < TOLERANCE * norm or not size < 1e3 * norm:  # converged or diverged
            break
        matrix = sparse(entries, error * (step / entries.density))
        moved = left - matrix @ right @ np.linalg.inv(right.T @ right)
        right = right - matrix.T @ left @ np.linalg.inv(left.T @ left)
        left = moved
    return left, right


def alternating_least_squares(entries: Entries, rank: int, *, sweeps: int = 500) -> Factors:
    """Alternating least squares from the spectral start, with a ridge of 1e-9 against singular systems."""
    U, s, V = spectral(entries, rank)
    left, right = U * np.sqrt(s), V * np.sqrt(s)
    by_column = entries.transpose()
    norm, last = np.linalg.norm(entries.values), np.inf
    for sweep in range(sweeps):
        left, right = _half(entries, right), right
        right = _half(by_column, left)
        residual = np.linalg.norm(entry_values(entries, left, right) - entries.values) / norm
        if residual < TOLERANCE or (sweep % 50 == 49 and residual > 0.99 * last):
            break
        last = residual if sweep % 50 == 49 else last
    return left, right


def _half(entries: Entries, right: np.ndarray) -> np.ndarray:
    gathered = right[entries.cols]
    starts = entries.row_start[:-1]
    gram = np.add.reduceat(gathered[:, :, None] * gathered[:, None, :], starts, axis=0)
    moments = np.add.reduceat(gathered * entries.values[:, None], starts, axis=0)
    ridge = 1e-9 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(right.shape[1])
    return np.linalg.solve(gram + ridge, moments[:, :, None])[:, :, 0]


def r2rils(entries: Entries, rank: int, *, iterations: int = 100) -> Factors:
    """R2RILS: Bauch, Nadler and Zilber (2021), SIAM J. Math. Data Sci., doi:10.1137/20M1315294."""
    m, n = entries.shape
    left, _, right = spectral(entries, rank)
    norm = np.linalg.norm(entries.values)
    best: tuple[float, Factors] = (np.inf, (left, right))
    for _ in range(iterations):
        solution = lsqr(_tangent_map(entries, left, right), entries.values, atol=1e-14, btol=1e-14, iter_lim=300)[0]
        A, B = solution[: m * rank].reshape(m, rank), solution[m * rank :].reshape(n, rank)
        candidate = _truncate(np.hstack([left, A]), np.hstack([B, right]), rank)
        residual = float(np.linalg.norm(entry_values(entries, *candidate) - entries.values) / norm)
        best = min(best, (residual, candidate), key=lambda pair: pair[0])
        if residual < TOLERANCE:
            break
        left, right = _unit(left + _unit(A)), _unit(right + _unit(B))
    return best[1]


def _unit(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.linalg.norm(matrix, axis=0)


def _truncate(left: np.ndarray, right: np.ndarray, rank: int) -> Factors:
    q_left, r_left = np.linalg.qr(left)
    q_right, r_right = np.linalg.qr(right)
    U, s, Vt = np.linalg.svd(r_left @ r_right.T)
    return q_left @ (U[:, :rank] * s[:rank]), q_right @ Vt[:rank].T


def _tangent_map(entries: Entries, left: np.ndarray, right: np.ndarray) -> LinearOperator:
    """``(A, B) -> P_Omega(A right.T + left B.T)``."""
    (m, n), rank = entries.shape, left.shape[1]

    def forward(x: np.ndarray) -> np.ndarray:
        A, B = x[: m * rank].reshape(m, rank), x[m * rank :].reshape(n, rank)
        return entry_values(entries, A, right) + entry_values(entries, left, B)

    def adjoint(y: np.ndarray) -> np.ndarray:
        matrix = sparse(entries, y)
        return np.concatenate([(matrix @ right).ravel(), (matrix.T @ left).ravel()])

    shape = (entries.size, (m + n) * rank)
    return LinearOperator(shape, matvec=forward, rmatvec=adjoint, dtype=np.float64)


def matrix_irls(entries: Entries, rank: int, *, iterations: int = 200) -> Factors:
    """MatrixIRLS: Kümmerle and Verdun (2021), ICML; log-det weights, smoothing ``min(eps, s_{r+1})``."""
    U, s, V = spectral(entries, rank + 1)
    s, smoothing = s * entries.density, s[-1] * entries.density
    norm = np.linalg.norm(entries.values)
    for _ in range(iterations):
        active = max(1, int(np.sum(s[:rank] > smoothing * (1 + 1e-9))))
        left, right, values = U[:, :active], V[:, :active], s[:active]
        core = smoothing**2 / np.maximum(np.outer(values, values) - smoothing**2, 1e-12 * values[0] ** 2)
        side = smoothing**2 / np.maximum(values * smoothing - smoothing**2, 1e-12 * values[0] ** 2)
        G, B, A = _weighted_solve(entries, left, right, np.diag(values), core, side)
        C = B + left @ G
        residual = entries.values - entry_values(entries, C, right) - entry_values(entries, left, A)
        matrix = sparse(entries, residual)
        U, s, V = _block_svd(matrix, np.hstack([C, left]), np.hstack([right, A]), rank + 1)
        smoothing = min(smoothing, s[rank])
        factors = U[:, :rank] * s[:rank], V[:, :rank]
        fits = np.linalg.norm(entry_values(entries, *factors) - entries.values) < TOLERANCE * norm
        if fits or smoothing < 1e-10 * s[0]:
            break
    return U[:, :rank] * s[:rank], V[:, :rank]


def _weighted_solve(entries, left, right, start, core, side, steps: int = 300, tolerance: float = 1e-6):
    share = entries.density

    def parts(values):
        matrix = sparse(entries, values)
        by_row, by_col = matrix @ right, matrix.T @ left
        G = left.T @ by_row
        return [G, by_row - left @ G, by_col - right @ (right.T @ by_col)]

    def values_of(g):
        return entry_values(entries, g[1] + left @ g[0], right) + entry_values(entries, left, g[2])

    weights = [core, side, side]
    inverse = [1 / (core + share), 1 / (side + share), 1 / (side + share)]

    def dot(a, b):
        return sum(float(np.sum(x * y)) for x, y in zip(a, b, strict=True))

    def apply(g):
        return [part + w * x for part, w, x in zip(parts(values_of(g)), weights, g, strict=True)]

    target = parts(entries.values)
    x = [start.astype(float), np.zeros_like(target[1]), np.zeros_like(target[2])]
    r = [b - q for b, q in zip(target, apply(x), strict=True)]
    z = [p * v for p, v in zip(inverse, r, strict=True)]
    d, inner, least = z, dot(r, z), tolerance * np.sqrt(dot(target, target))
    for _ in range(steps):
        if np.sqrt(dot(r, r)) < least:
            break
        q = apply(d)
        length = inner / dot(d, q)
        x = [v + length * w for v, w in zip(x, d, strict=True)]
        r = [v - length * w for v, w in zip(r, q, strict=True)]
        z = [p * v for p, v in zip(inverse, r, strict=True)]
        previous, inner = inner, dot(r, z)
        d = [v + inner / previous * w for v, w in zip(z, d, strict=True)]
    return x


def _block_svd(matrix, left, right, count: int):
    random = np.random.default_rng(0)
    basis = np.linalg.qr(np.hstack([right, random.standard_normal((len(right), 5))]))[0]
    for _ in range(2):
        other = np.linalg.qr(matrix @ basis + left @ (right.T @ basis))[0]
        basis = np.linalg.qr(matrix.T @ other + right @ (left.T @ other))[0]
    U, s, Vt = np.linalg.svd(matrix @ basis + left @ (right.T @ basis), full_matrices=False)
    return U[:, :count], s[:count], (basis @ Vt.T)[:, :count]


def soft_impute(entries: Entries, rank: int, strengths: np.ndarray, *, sweeps: int = 100) -> Iterator[Factors]:
    """softImpute-ALS: Hastie, Mazumder, Lee and Zadeh (2015), JMLR 16, algorithm 3.1, along a path of nuclear-norm penalties.

    The strengths fall, as shares of the largest singular value of the entries with zeros in the holes; each fit starts from the last.
    Many sweeps at one strength would lose for good what only a lower one lets in.
    """
    (m, n), largest = entries.shape, svds(sparse(entries, entries.values), 1, random_state=0)[1][0]
    U, D, V = np.linalg.qr(np.random.default_rng(0).standard_normal((m, rank)))[0], np.ones(rank), np.zeros((n, rank))
    for penalty in strengths * largest:
        for _ in range(sweeps):
            before = D
            U, D, V = _soft_half(_residual(entries, U, D, V).T, U, D, V, penalty)
            V, D, U = _soft_half(_residual(entries, U, D, V), V, D, U, penalty)
            if np.linalg.norm(D**2 - before**2) < 1e-6 * np.linalg.norm(D**2):
                break
        left, sizes, turn = np.linalg.svd(_residual(entries, U, D, V) @ V + U * D**2, full_matrices=False)
        yield left * np.maximum(sizes - penalty, 0), V @ turn.T


def _residual(entries: Entries, U: np.ndarray, D: np.ndarray, V: np.ndarray) -> scipy.sparse.csr_array:
    return sparse(entries, entries.values - entry_values(entries, U * D**2, V))


def _soft_half(residual, fixed: np.ndarray, D: np.ndarray, moving: np.ndarray, penalty: float):
    """Ridge regression of the filled matrix on ``fixed * D``, and the singular value decomposition of the new product."""
    solved = ((residual @ fixed) * D + moving * D**3) / (D**2 + penalty)
    moved, squares, turn = np.linalg.svd(solved * D, full_matrices=False)
    return fixed @ turn.T, np.sqrt(squares), moved


def soft_impute_held_out(entries: Entries, rank: int) -> Factors:
    """softImpute with the penalty that predicts a held-out tenth best."""
    strengths, held = np.logspace(0, -3, 13), hold_out(entries, 0.1, 0)
    rows, cols, values = entries.rows[held], entries.cols[held], entries.values[held]
    errors = [
        np.linalg.norm(np.einsum("tk,tk->t", left[rows], right[cols]) - values)
        for left, right in soft_impute(entries.select(~held), rank, strengths)
    ]
    return list(soft_impute(entries, rank, strengths[: int(np.argmin(errors)) + 1]))[-1]


def tangent_oracle(entries: Entries, left: np.ndarray, right: np.ndarray) -> Factors:
    """Least squares over ``A right.T + left B.T``: the noise error of one who knows both subspaces (Candès and Plan)."""
    (m, _), rank = entries.shape, left.shape[1]
    solution = lsqr(_tangent_map(entries, left, right), entries.values, atol=1e-12, btol=1e-12, iter_lim=2_000)[0]
    A, B = solution[: m * rank].reshape(m, rank), solution[m * rank :].reshape(-1, rank)
    return np.hstack([A, left]), np.hstack([right, B])

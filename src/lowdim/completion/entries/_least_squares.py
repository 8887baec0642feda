"""One half of alternating least squares: every row's factor from its entries, in one pass.

The kernel gathers up to 128 rows of the other factor, transposed, into a ``(k + 1, 128)`` tile whose last row holds the values, so
that the entries of the normal equations are dot products along the tile: contiguous, and vectorised by the compiler. The Cholesky
factorization and both triangular solves work in place on the lower triangle, with the right-hand side as its last row. A kernel that
adds outer products entry by entry takes five times longer.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdim._compiled import kernel, run_rows

Floats = NDArray[np.floating[Any]]

TILE = 128
PADDING = 16  # entries are padded with zeros to a multiple of this, the width of the widest vectors
RIDGES = {
    4: 1e-7,
    8: 1e-12,
}  # of the trace, by size of the type: with fewer entries than factors, no solution is unique


def solve_rows(
    start: NDArray[np.int64],
    cols: NDArray[np.int32],
    values: Floats,
    right: Floats,
    decay: Floats,
    *,
    biased: bool,
    out: Floats,
) -> None:
    r"""For each row ``i`` the minimiser ``u`` of $\sum_j (x_{ij} - u \cdot v_j)^2 + \sum_a d_a u_a^2$ over its entries.

    With `biased`, the last column of `right` holds the column biases $c_j$ and that of `out` gets the row biases: the minimiser of
    $\sum_j (x_{ij} - c_j - b - u \cdot v_j)^2 + \ldots$ over ``(u, b)``.

    The arrays are C-contiguous and of one dtype; `out` is ``(m, k)``. Costs ``O(|Omega| k^2 + m k^3)``.
    """
    k = right.shape[1]
    ridge = right.dtype.type(RIDGES[right.dtype.itemsize])
    run_rows(_solve_rows, start, cols.size * k * k // 2, cols, values, right, decay, ridge, biased, out)


def add_normal_equations(start: NDArray[np.int64], cols: NDArray[np.int32], values: Floats, right: Floats) -> Floats:
    """The normal equations of every row, without solving them: ``(m, k + 1, k + 1)`` lower triangles, the right-hand side last."""
    k = right.shape[1]
    out = np.zeros((start.size - 1, k + 1, k + 1), right.dtype)
    run_rows(_add_rows, start, cols.size * k * k // 2, cols, values, right, out)
    return out


def solve_normal_equations(equations: Floats, decay: Floats) -> Floats:
    """The solutions ``(m, k)`` of (sums of) `add_normal_equations`, which are overwritten."""
    ridge = equations.dtype.type(RIDGES[equations.dtype.itemsize])
    for normal in equations:
        cholesky_solve(normal, decay, ridge)
    return np.ascontiguousarray(equations[:, -1, :-1])


def pair_products(left: Floats, right: Floats, rows: Any, cols: Any, biased: bool) -> Floats:
    """``u_i . v_j`` of pairs, or with `biased` ``u_i . v_j + b_i + c_j``, the biases being the last factors."""
    out = np.empty(len(rows), left.dtype)
    _pair_products(left, right, rows, cols, biased, out)
    return out


@kernel
def _pair_products(left: Any, right: Any, rows: Any, cols: Any, biased: Any, out: Any) -> None:
    k = left.shape[1] - (1 if biased else 0)
    for t in range(rows.size):
        i, j = rows[t], cols[t]
        total = left.dtype.type(0)
        for a in range(k):
            total += left[i, a] * right[j, a]
        out[t] = total + left[i, k] + right[j, k] if biased else total


@kernel
def _solve_rows(
    first: Any, last: Any, start: Any, cols: Any, values: Any, right: Any, decay: Any, ridge: Any, biased: Any, out: Any
) -> None:
    k = right.shape[1]
    tile = np.zeros((k + 1, TILE), right.dtype)
    normal = np.empty((k + 1, k + 1), right.dtype)
    for i in range(first, last):
        normal[:] = 0
        for begin in range(start[i], start[i + 1], TILE):
            size = gather(begin, min(begin + TILE, start[i + 1]), cols, values, right, biased, tile)
            add_products(tile, size, normal)
        cholesky_solve(normal, decay, ridge)
        for a in range(k):
            out[i, a] = normal[k, a]


@kernel
def _add_rows(first: Any, last: Any, start: Any, cols: Any, values: Any, right: Any, out: Any) -> None:
    tile = np.zeros((right.shape[1] + 1, TILE), right.dtype)
    for i in range(first, last):
        for begin in range(start[i], start[i + 1], TILE):
            size = gather(begin, min(begin + TILE, start[i + 1]), cols, values, right, False, tile)
            add_products(tile, size, out[i])


@kernel
def gather(begin: Any, end: Any, cols: Any, values: Any, right: Any, biased: Any, tile: Any) -> Any:
    """Fill the tile with entries [begin, end) and zeros up to a multiple of `PADDING`; returns that multiple."""
    k = right.shape[1]
    for t in range(end - begin):
        j = cols[begin + t]
        for a in range(k):
            tile[a, t] = right[j, a]
        tile[k, t] = values[begin + t]
    if biased:
        for t in range(end - begin):
            tile[k, t] -= tile[k - 1, t]
            tile[k - 1, t] = 1
    size = (end - begin + PADDING - 1) // PADDING * PADDING
    for a in range(k + 1):
        for t in range(end - begin, size):
            tile[a, t] = 0
    return size


@kernel
def add_products(tile: Any, size: Any, normal: Any) -> None:
    """Add the products of the rows of the tile to the lower triangle."""
    for a in range(normal.shape[0]):
        c = 0
        while c + 2 <= a + 1:
            first = second = normal.dtype.type(0)
            for t in range(size):
                x = tile[a, t]
                first += x * tile[c, t]
                second += x * tile[c + 1, t]
            normal[a, c] += first
            normal[a, c + 1] += second
            c += 2
        if c <= a:
            first = normal.dtype.type(0)
            for t in range(size):
                first += tile[a, t] * tile[c, t]
            normal[a, c] += first


@kernel
def cholesky_solve(normal: Any, decay: Any, relative_ridge: Any) -> None:
    """Solve ``(A + diag(decay)) u = b`` in place: `A` is the lower triangle, `b` the last row."""
    k = normal.shape[0] - 1
    trace = normal.dtype.type(0)
    for a in range(k):
        trace += normal[a, a]
    ridge = relative_ridge * trace
    for a in range(k):
        for c in range(a):
            total = normal[a, c]
            for q in range(c):
                total -= normal[a, q] * normal[c, q]
            normal[a, c] = total * normal[c, c]
        total = normal[a, a] + decay[a] + ridge
        for q in range(a):
            total -= normal[a, q] * normal[a, q]
        # inverse of the pivot; a row without entries and decay has none, and gets the solution 0
        normal[a, a] = 1 / np.sqrt(total) if total > 0 else 0
    for a in range(k):
        total = normal[k, a]
        for q in range(a):
            total -= normal[a, q] * normal[k, q]
        normal[k, a] = total * normal[a, a]
    for a in range(k - 1, -1, -1):
        total = normal[k, a]
        for q in range(a + 1, k):
            total -= normal[q, a] * normal[k, q]
        normal[k, a] = total * normal[a, a]

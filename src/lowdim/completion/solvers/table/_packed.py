"""Many small symmetric matrices at once, as lower triangles.

The triangles are stored as the columns of a ``(k (k + 1) / 2, count)`` array, row by row of the triangle: element (a, c) of all matrices lies
side by side, so that one instruction works on several matrices. Inverting 500 matrices of 20 x 20 takes a seventh of what LAPACK,
which sees one matrix at a time, takes.
"""

from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdim._compiled import kernel

Array = NDArray[np.floating[Any]]
Places = NDArray[np.intp]

LANES = 64  # matrices worked on together


@lru_cache(maxsize=64)
def lower(size: int) -> tuple[Places, Places]:
    """The row and the column of each place of a packed triangle."""
    rows, cols = np.tril_indices(size)
    return rows, cols


def diagonal(size: int) -> Places:
    """The places of the diagonal."""
    return np.arange(1, size + 1) * np.arange(2, size + 2) // 2 - 1


def weights(size: int) -> Array:
    """How often each place stands in the full matrix, ``(k (k + 1) / 2, 1)``: 1 on the diagonal, else 2."""
    rows, cols = lower(size)
    return np.where(rows == cols, 1.0, 2.0)[:, None]


def pack(matrices: Array) -> Array:
    """The triangles of ``(count, k, k)`` symmetric matrices."""
    rows, cols = lower(matrices.shape[1])
    return np.ascontiguousarray(matrices[:, rows, cols].T)


def unpack(packed: Array, size: int) -> Array:
    """The full matrices, ``(count, size, size)``."""
    rows, cols = lower(size)
    place = np.zeros((size, size), np.intp)
    place[rows, cols] = place[cols, rows] = np.arange(rows.size)
    return np.ascontiguousarray(packed.T)[:, place]


def outer(vectors: Array) -> Array:
    """The triangles of ``v v^T``, for vectors that are the columns of a ``(k, count)`` array."""
    triangles = np.empty((lower(len(vectors))[0].size, vectors.shape[1]))
    for a, vector in enumerate(vectors):
        first = a * (a + 1) // 2
        np.multiply(vectors[: a + 1], vector, out=triangles[first : first + a + 1])
    return triangles


@kernel
def invert_and_solve(packed: Any, right: Any) -> None:
    """In place: positive definite matrices become their inverses, and right-hand sides ``(k, count)`` the solutions."""
    k, count = right.shape
    tile, solution = np.empty((len(packed), LANES)), np.empty((k, LANES))
    for first in range(0, count, LANES):
        width = min(LANES, count - first)
        for p in range(len(packed)):
            for t in range(width):  # not slices: Numba would compile what says that their lengths differ, for 8 seconds
                tile[p, t] = packed[p, first + t]
            tile[p, width:] = 0
        for a in range(k):
            tile[a * (a + 1) // 2 + a, width:] = 1
        factorize(tile, k)
        invert_triangle(tile, k)
        square_triangle(tile, k)
        for a in range(k):
            solution[a] = 0
            for c in range(k):
                place = a * (a + 1) // 2 + c if c <= a else c * (c + 1) // 2 + a
                for t in range(width):
                    solution[a, t] += tile[place, t] * right[c, first + t]
        for a in range(k):
            for t in range(width):
                right[a, first + t] = solution[a, t]
        for p in range(len(packed)):
            for t in range(width):
                packed[p, first + t] = tile[p, t]


@partial(kernel, forceinline=True)
def factorize(tile: Any, k: Any) -> None:
    """Cholesky factors in place, with the inverse of the pivots on the diagonal."""
    total = np.empty(LANES)
    for a in range(k):
        row = a * (a + 1) // 2
        for c in range(a + 1):
            other = c * (c + 1) // 2
            for t in range(LANES):
                total[t] = tile[row + c, t]
            for q in range(c):
                for t in range(LANES):
                    total[t] -= tile[row + q, t] * tile[other + q, t]
            if c < a:
                for t in range(LANES):
                    tile[row + c, t] = total[t] * tile[other + c, t]
            else:
                for t in range(LANES):
                    tile[row + c, t] = 1 / np.sqrt(total[t])


@partial(kernel, forceinline=True)
def invert_triangle(tile: Any, k: Any) -> None:
    """The inverse ``M`` of the triangles of `factorize`, in place, column by column."""
    total = np.empty(LANES)
    for c in range(k):
        for a in range(c + 1, k):
            row = a * (a + 1) // 2
            total[:] = 0
            for q in range(c, a):
                for t in range(LANES):
                    total[t] -= tile[row + q, t] * tile[q * (q + 1) // 2 + c, t]
            for t in range(LANES):
                tile[row + c, t] = total[t] * tile[row + a, t]


@partial(kernel, forceinline=True)
def square_triangle(tile: Any, k: Any) -> None:
    """``M^T M`` in place: row `a` needs only what stands in it and below."""
    total = np.empty(LANES)
    for a in range(k):
        for c in range(a + 1):
            total[:] = 0
            for q in range(a, k):
                row = q * (q + 1) // 2
                for t in range(LANES):
                    total[t] += tile[row + a, t] * tile[row + c, t]
            for t in range(LANES):
                tile[a * (a + 1) // 2 + c, t] = total[t]

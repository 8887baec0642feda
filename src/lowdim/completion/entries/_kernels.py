"""Numba kernels over the observed entries, stored row by row: where each row starts, and the columns and values.

Kernels are serial and release the interpreter lock; :func:`run_rows` gives each thread a range of rows. Numba's own
``prange`` is avoided: its portable thread pool aborts when two threads launch kernels at once, and GNU OpenMP aborts
in a forked child and spins while it waits (30 times slower on a machine where something else runs). Every
output row is one sum in a fixed order, so results do not depend on the number of threads.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from lowdim.completion.entries._vectors import LANES, lane, load, repeated, store, sums

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

# Sums may be reordered and fused into multiply-adds; NaN and infinity keep their meaning.
FASTMATH = {"reassoc", "contract", "nsz", "arcp"}
PARALLEL_WORK = 1_000_000  # entries times columns below which handing out work costs more than it saves


def kernel(function: Callable[..., Any], **options: Any) -> Any:
    """``numba.njit`` with the compiled code cached on disk, or in memory where no folder can be written.

    A kernel that others call is compiled by itself and once more with each of them, where sums may be reordered in another way; which of
    these runs depends on whether it comes from the cache. Where that changes results, ``forceinline=True`` leaves only the second.
    """
    options = {"fastmath": FASTMATH, "nogil": True, **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # Numba: "no locator available", neither the package nor the user's cache is writable
        return numba.njit(**options)(function)


_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)  # a child inherits the pool object but not its threads


def run_rows(rows_kernel: Any, start: NDArray[np.int64], work: int, *arguments: Any) -> None:
    """Call ``rows_kernel(first, last, start, *arguments)`` so that all rows are covered, on threads if it pays.

    A `rows_kernel` handles the rows [first, last) and writes nothing of others; parts get about equally many entries. From
    ``PARALLEL_WORK`` multiply-adds of `work` on, they go to ``NUMBA_NUM_THREADS`` threads (default: the processors this process may use).
    """
    global _pool
    threads = numba.config.NUMBA_NUM_THREADS if work >= PARALLEL_WORK else 1  # pyright: ignore
    if threads == 1:
        rows_kernel(0, start.size - 1, start, *arguments)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(threads - 1, "lowdim-kernel")
    inner = np.searchsorted(start, np.linspace(0, start[-1], threads + 1)[1:-1])
    cuts = [0, *inner.tolist(), start.size - 1]
    mine, *parts = pairwise(cuts)
    others = [_pool.submit(rows_kernel, *part, start, *arguments) for part in parts]
    rows_kernel(*mine, start, *arguments)
    for other in others:
        other.result()


@kernel
def product_rows(first: Any, last: Any, start: Any, cols: Any, left: Any, right: Any, out: Any) -> None:
    """The observed entries of ``left @ right.T``."""
    for i in range(first, last):
        for t in range(start[i], start[i + 1]):
            j = cols[t]
            total = 0.0
            for a in range(left.shape[1]):
                total += left[i, a] * right[j, a]
            out[t] = total


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
def residual_products(
    start: Any, cols: Any, values: Any, left: Any, right: Any, by_row: Any, by_col: Any, width: Any
) -> Any:
    """Of the sparse S, ``left @ right.T`` less the values: its squared norm; writes ``S @ right`` and ``S.T @ left``. One pass.

    The four matrices have ``4 * len(width)`` columns. Four entries of a row are taken at once, which have four different columns.
    """
    k, four = LANES * len(width), (0,)
    squares = last_squares = repeated(0.0, four)
    by_col[:] = 0.0
    for i in range(start.size - 1):
        own, total = load(left, i * k, width), repeated(0.0, width)
        t, end = np.uintp(start[i]), np.uintp(start[i + 1])  # signed, a place could count from the end
        while t + np.uintp(LANES) <= end:
            a, b, c, d = (
                np.intp(cols[t]) * k,
                np.intp(cols[t + np.uintp(1)]) * k,
                np.intp(cols[t + np.uintp(2)]) * k,
                np.intp(cols[t + np.uintp(3)]) * k,
            )
            at_a, at_b, at_c, at_d = (
                load(right, a, width),
                load(right, b, width),
                load(right, c, width),
                load(right, d, width),
            )
            residual = sums(own * at_a, own * at_b, own * at_c, own * at_d) - load(values, t, four)
            squares = squares + residual * residual
            in_a, in_b = repeated(lane(residual, 0), width), repeated(lane(residual, 1), width)
            in_c, in_d = repeated(lane(residual, 2), width), repeated(lane(residual, 3), width)
            total = total + in_a * at_a + in_b * at_b + in_c * at_c + in_d * at_d
            store(by_col, a, load(by_col, a, width) + in_a * own)
            store(by_col, b, load(by_col, b, width) + in_b * own)
            store(by_col, c, load(by_col, c, width) + in_c * own)
            store(by_col, d, load(by_col, d, width) + in_d * own)
            t += np.uintp(LANES)
        while t < end:
            a = np.intp(cols[t]) * k
            at_a = load(right, a, width)
            product = own * at_a
            residual = sums(product, product, product, product) - repeated(values[t], four)
            last_squares = last_squares + residual * residual
            in_a = repeated(lane(residual, 0), width)
            total = total + in_a * at_a
            store(by_col, a, load(by_col, a, width) + in_a * own)
            t += np.uintp(1)
        store(by_row, i * k, total)
    squared = lane(last_squares, 0)
    for place in range(LANES):
        squared += lane(squares, place)
    return squared


@kernel
def step_down(places: Any, slopes: Any, rates: Any, step: Any, out: Any) -> None:
    """A step of descent with a rate for every number."""
    for t in range(places.size):
        out[t] = places[t] - step * rates[t] * slopes[t]


def counting_sort(
    keys: Ints, count: int, others: NDArray[np.int32], values: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[Any]]:
    """Stable sort of (others, values) by integer keys in [0, count): bucket starts and the sorted arrays."""
    start = np.empty(count + 1, np.int64)
    bucket_starts(keys, start)
    placed = np.empty_like(others), np.empty_like(values)
    run_rows(place_buckets, start, keys.size, keys, others, values, *placed)
    return start, *placed


def transposed(
    start: NDArray[np.int64], cols: Ints, values: NDArray[Any], count: int, dtype: Any
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[Any]]:
    """The entries of a matrix with `count` columns, given row by row, column by column: a counting sort that keeps the rows in order."""
    out_start = np.empty(count + 1, np.int64)
    bucket_starts(cols, out_start)
    placed = np.empty(cols.size, np.int32), np.empty(cols.size, dtype)
    run_rows(place_transposed, out_start, cols.size, start, cols, values, *placed)
    return out_start, *placed


@kernel
def bucket_starts(keys: Any, start: Any) -> None:
    start[:] = 0
    for t in range(keys.size):
        start[keys[t] + 1] += 1
    for i in range(start.size - 1):
        start[i + 1] += start[i]


@kernel
def place_buckets(
    first: Any, last: Any, start: Any, keys: Any, others: Any, values: Any, out_others: Any, out_values: Any
) -> None:
    """The buckets [first, last): reading all keys costs less than waiting for scattered writes."""
    position = start[first:last].copy()
    for t in range(keys.size):
        key = keys[t]
        if first <= key < last:
            place = position[key - first]
            position[key - first] = place + 1
            out_others[place] = others[t]
            out_values[place] = values[t]


@kernel
def place_transposed(
    first: Any, last: Any, out_start: Any, start: Any, cols: Any, values: Any, out_rows: Any, out_values: Any
) -> None:
    """The columns [first, last)."""
    position = out_start[first:last].copy()
    for i in range(start.size - 1):
        for t in range(start[i], start[i + 1]):
            j = cols[t]
            if first <= j < last:
                place = position[j - first]
                position[j - first] = place + 1
                out_rows[place] = i
                out_values[place] = values[t]


@kernel
def spread(start: Any, out: Any) -> None:
    """Write the bucket number of each place: the inverse of counting."""
    for i in range(start.size - 1):
        for t in range(start[i], start[i + 1]):
            out[t] = i


@kernel
def repeats(start: Any, cols: Any, values: Any, refuse: Any) -> Any:
    """How many entries have the column of the one before them in their row, how many of these may not, and the first such.

    Those with another value may not; with `refuse`, none may.
    """
    count = conflicts = first = 0
    for i in range(start.size - 1):
        for t in range(start[i] + 1, start[i + 1]):
            if cols[t] == cols[t - 1]:
                count += 1
                if refuse or values[t] != values[t - 1]:
                    first = t if conflicts == 0 else first
                    conflicts += 1
    return count, conflicts, first


@kernel
def drop_repeats(start: Any, cols: Any, values: Any) -> Any:
    """Move up, in place, what is left when every column is kept once in a row; the number of entries left."""
    kept = 0
    for i in range(start.size - 1):
        begin, start[i] = start[i], kept
        for t in range(begin, start[i + 1]):
            if kept == start[i] or cols[t] != cols[kept - 1]:
                cols[kept], values[kept] = cols[t], values[t]
                kept += 1
    start[-1] = kept
    return kept


@kernel
def kept_start(start: Any, keep: Any, out: Any) -> None:
    """Where the rows begin when only some entries are kept."""
    kept = 0
    for i in range(start.size - 1):
        out[i] = kept
        for t in range(start[i], start[i + 1]):
            kept += keep[t]
    out[-1] = kept

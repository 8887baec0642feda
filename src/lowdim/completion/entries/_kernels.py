"""Numba kernels over the observed entries, stored row by row: where each row starts, and the columns and values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdim._compiled import kernel, run_rows

Ints = NDArray[np.integer[Any]]


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
def keep_entries(
    start: Any, keep: Any, cols: Any, values: Any, out_start: Any, out_rows: Any, out_cols: Any, out_values: Any
) -> None:
    """Some of the entries, and where their rows begin."""
    kept = 0
    for i in range(start.size - 1):
        out_start[i] = kept
        for t in range(start[i], start[i + 1]):
            if keep[t]:
                out_rows[kept], out_cols[kept], out_values[kept] = i, cols[t], values[t]
                kept += 1
    out_start[-1] = kept


@kernel
def sums_by_column(start: Any, cols: Any, values: Any, effects: Any, sums: Any) -> None:
    """The sum over each column of its values less the effects of their rows."""
    sums[:] = 0.0
    for i in range(start.size - 1):
        for t in range(start[i], start[i + 1]):
            sums[cols[t]] += values[t] - effects[i]


@kernel
def squares_by_column(cols: Any, values: Any, means: Any, squares: Any) -> None:
    """The sum over each column of the squared differences from its mean."""
    squares[:] = 0.0
    for t in range(cols.size):
        difference = values[t] - means[cols[t]]
        squares[cols[t]] += difference * difference

"""Numba kernels over the observed entries: the only way the completion solvers touch the data.

With ``Omega`` the observed positions, ``left`` an (m, k) and ``right`` an (n, k) factor and ``S`` the sparse
matrix that holds one number for each observed entry, there are four products. Each costs O(``|Omega|`` k) and
makes no (m, n) array:

* :func:`predict`: the entries of ``left @ right.T`` in ``Omega``;
* :func:`times`: ``S @ right``;
* :func:`transposed_times`: ``S.T @ left``;
* :func:`residual_products`: the residual on ``Omega`` and both of its products, in one call.

Every output row is one sum in a fixed order, whatever the number of threads, so results do not depend on it.
"""

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lowdim.completion._entries import Entries

Floats = NDArray[np.floating[Any]]

# Sums may be reordered and fused into multiply-adds; NaN and infinity keep their meaning.
FASTMATH = {"reassoc", "contract", "nsz", "arcp"}
PARALLEL_WORK = 1_000_000  # entries times columns below which starting threads costs more than it saves


def kernel(*, parallel: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit`` with the compiled code cached on disk, or in memory where no folder can be written."""

    def compile_lazily(function: Callable[..., Any]) -> Any:
        options: dict[str, Any] = {"fastmath": FASTMATH, "nogil": True, "parallel": parallel}
        try:
            return numba.njit(cache=True, **options)(function)
        except (
            RuntimeError
        ):  # Numba: "no locator available", neither the package nor the user's cache is writable
            return numba.njit(**options)(function)

    return compile_lazily


class _Threads:
    """Lets one parallel kernel run at a time, in the process that ran the first; other calls use one thread.

    Numba's portable thread pool aborts on concurrent launches, GNU OpenMP in a forked child.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: int | None = None

    def acquire(self, work: int) -> int:
        """The number of threads for this much work; after more than one, call :meth:`release`."""
        if work < PARALLEL_WORK or numba.get_num_threads() == 1 or not self._lock.acquire(blocking=False):
            return 1
        self._process = self._process or os.getpid()
        if self._process != os.getpid():
            self._lock.release()
            return 1
        return numba.get_num_threads()

    def release(self) -> None:
        self._lock.release()


_threads = _Threads()


def _run(serial: Any, parallel: Any, start: NDArray[np.int64], work: int, *arguments: Any) -> None:
    """Apply a kernel to all rows: at once, or on all threads to parts with about equally many entries."""
    threads = _threads.acquire(work)
    if threads == 1:
        serial(0, start.size - 1, start, *arguments)
        return
    try:
        targets = np.linspace(0, start[-1], 8 * threads + 1)[1:-1]
        cuts = np.concatenate([[0], np.searchsorted(start, targets), [start.size - 1]])
        parallel(cuts, start, *arguments)
    finally:
        _threads.release()


@kernel()
def predict_rows(first: Any, last: Any, start: Any, cols: Any, left: Any, right: Any, out: Any) -> None:
    k = left.shape[1]
    for i in range(first, last):
        for t in range(start[i], start[i + 1]):
            j = cols[t]
            total = 0.0
            for a in range(k):
                total += left[i, a] * right[j, a]
            out[t] = total


@kernel(parallel=True)
def _predict_parts(cuts: Any, start: Any, cols: Any, left: Any, right: Any, out: Any) -> None:
    for part in numba.prange(cuts.size - 1):
        predict_rows(cuts[part], cuts[part + 1], start, cols, left, right, out)


@kernel()
def times_rows(first: Any, last: Any, start: Any, cols: Any, values: Any, right: Any, out: Any) -> None:
    k = right.shape[1]
    for i in range(first, last):
        for a in range(k):
            out[i, a] = 0.0
        for t in range(start[i], start[i + 1]):
            j = cols[t]
            for a in range(k):
                out[i, a] += values[t] * right[j, a]


@kernel(parallel=True)
def _times_parts(cuts: Any, start: Any, cols: Any, values: Any, right: Any, out: Any) -> None:
    for part in numba.prange(cuts.size - 1):
        times_rows(cuts[part], cuts[part + 1], start, cols, values, right, out)


@kernel()
def ordered_times_rows(
    first: Any, last: Any, start: Any, cols: Any, order: Any, values: Any, right: Any, out: Any
) -> None:
    """As ``times_rows``, with the values in the other major order, found through ``order``."""
    k = right.shape[1]
    for i in range(first, last):
        for a in range(k):
            out[i, a] = 0.0
        for t in range(start[i], start[i + 1]):
            j = cols[t]
            value = values[order[t]]
            for a in range(k):
                out[i, a] += value * right[j, a]


@kernel(parallel=True)
def _ordered_times_parts(
    cuts: Any, start: Any, cols: Any, order: Any, values: Any, right: Any, out: Any
) -> None:
    for part in numba.prange(cuts.size - 1):
        ordered_times_rows(cuts[part], cuts[part + 1], start, cols, order, values, right, out)


@kernel()
def residual_rows(
    first: Any, last: Any, start: Any, cols: Any, values: Any, left: Any, right: Any, residual: Any, out: Any
) -> None:
    """``residual = values - prediction`` and its product with ``right``, in one pass over the rows."""
    k = left.shape[1]
    for i in range(first, last):
        for a in range(k):
            out[i, a] = 0.0
        for t in range(start[i], start[i + 1]):
            j = cols[t]
            total = values[t]
            for a in range(k):
                total -= left[i, a] * right[j, a]
            residual[t] = total
            for a in range(k):
                out[i, a] += total * right[j, a]


@kernel(parallel=True)
def _residual_parts(
    cuts: Any, start: Any, cols: Any, values: Any, left: Any, right: Any, residual: Any, out: Any
) -> None:
    for part in numba.prange(cuts.size - 1):
        residual_rows(cuts[part], cuts[part + 1], start, cols, values, left, right, residual, out)


def predict(entries: "Entries", left: Floats, right: Floats) -> Floats:
    """The observed entries of ``left @ right.T``, row by row.

    Args:
        entries: The observed positions of an (m, n) matrix.
        left: (m, k), C-contiguous.
        right: (n, k), C-contiguous, of the same dtype.

    Returns:
        (``|Omega|``,) in the order of ``entries.values`` and in the dtype of ``left``.
    """
    out = np.empty(entries.size, left.dtype)
    work = entries.size * left.shape[1]
    _run(predict_rows, _predict_parts, entries.row_start, work, entries.cols, left, right, out)
    return out


def times(entries: "Entries", values: Floats, right: Floats) -> Floats:
    """``S @ right``, (m, k), for the sparse ``S`` with these values in the order of ``entries.values``."""
    out = np.empty((entries.shape[0], right.shape[1]), right.dtype)
    work = entries.size * right.shape[1]
    _run(times_rows, _times_parts, entries.row_start, work, entries.cols, values, right, out)
    return out


def transposed_times(entries: "Entries", values: Floats, left: Floats) -> Floats:
    """``S.T @ left``, (n, k), for the sparse ``S`` with these values in the order of ``entries.values``."""
    out = np.empty((entries.shape[1], left.shape[1]), left.dtype)
    work = entries.size * left.shape[1]
    arguments = (entries.col_rows, entries.col_order, values, left, out)
    _run(ordered_times_rows, _ordered_times_parts, entries.col_start, work, *arguments)
    return out


def residual_products(entries: "Entries", left: Floats, right: Floats) -> tuple[Floats, Floats, Floats]:
    """The residual ``values - (left @ right.T)`` on Omega, and its products with both factors.

    With ``S`` the sparse residual, ``-S @ right`` and ``-S.T @ left`` are the gradients of half the squared
    residual with respect to ``left`` and ``right``.

    Args:
        entries: The observed entries of an (m, n) matrix.
        left: (m, k), C-contiguous.
        right: (n, k), C-contiguous, of the same dtype.

    Returns:
        The residual (``|Omega|``,), ``S @ right`` (m, k) and ``S.T @ left`` (n, k).
    """
    residual = np.empty(entries.size, left.dtype)
    by_row = np.empty_like(left)
    work = entries.size * left.shape[1]
    arguments = (entries.cols, entries.values, left, right, residual, by_row)
    _run(residual_rows, _residual_parts, entries.row_start, work, *arguments)
    return residual, by_row, transposed_times(entries, residual, left)


@kernel()
def counting_sort(keys: Any, count: int, others: Any, values: Any) -> Any:
    """Stable sort of (others, values) by integer keys in [0, count): bucket starts and the sorted arrays."""
    start = np.zeros(count + 1, np.int64)
    for t in range(keys.size):
        start[keys[t] + 1] += 1
    for i in range(count):
        start[i + 1] += start[i]
    position = start[:-1].copy()
    sorted_others = np.empty_like(others)
    sorted_values = np.empty_like(values)
    for t in range(keys.size):
        place = position[keys[t]]
        position[keys[t]] = place + 1
        sorted_others[place] = others[t]
        sorted_values[place] = values[t]
    return start, sorted_others, sorted_values


@kernel()
def spread(start: Any, out: Any) -> None:
    """Write the bucket number of each place: the inverse of counting."""
    for i in range(start.size - 1):
        for t in range(start[i], start[i + 1]):
            out[t] = i

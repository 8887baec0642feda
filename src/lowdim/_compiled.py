"""Compiled loops over the rows of a sparse matrix, stored row by row: where each row starts, and the columns and values.

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

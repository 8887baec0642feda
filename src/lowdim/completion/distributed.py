"""Alternating least squares over several processes: the rows are divided, the columns are shared.

Every process holds the entries of its own rows. The row half of a sweep needs nothing from the others. For the column half, each
process adds up the normal equations of all columns over its rows; their sum over the processes (`torch.distributed`, gloo) gives
everyone the same column factors. A sweep moves ``n (k + 1)(k + 2) / 2`` numbers, the lower triangles of these equations, whatever
the number of entries. All sums are in float64, so the result is that of one process up to rounding.

This is the only module of the completion that imports torch.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as processes

from lowdim._linalg import Array
from lowdim.completion.entries import Entries, add_normal_equations, pair_products, solve_normal_equations, solve_rows
from lowdim.completion.solvers._als import STALL, STALLED_SWEEPS
from lowdim.errors import UsageError


@dataclass(frozen=True)
class Factors:
    """Factors of one process: of its own rows, and of all columns.

    Attributes:
        left: ``(own rows, rank)``.
        right: ``(n, rank)``, the same in every process.
        relative_residual: Over the entries of all processes.
        iterations: Sweeps.
        converged: Whether the residual met the tolerance or stopped falling.
    """

    left: Array
    right: Array
    relative_residual: float
    iterations: int
    converged: bool


def shard_of_rows(entries: Entries, rank: int, size: int) -> tuple[Entries, slice]:
    """The part of the entries that process `rank` of `size` holds: consecutive rows with about equally many entries."""
    targets = np.linspace(0, entries.size, size + 1)[1:-1]
    cuts = [0, *np.searchsorted(entries.row_start, targets).tolist(), entries.shape[0]]
    rows = slice(cuts[rank], cuts[rank + 1])
    part = slice(int(entries.row_start[rows.start]), int(entries.row_start[rows.stop]))
    start = entries.row_start[rows.start : rows.stop + 1] - entries.row_start[rows.start]
    own = entries.rows[part] - np.int32(rows.start)
    shape = rows.stop - rows.start, entries.shape[1]
    return Entries(own, entries.cols[part], entries.values[part], shape, start), rows


def alternate_over_processes(
    entries: Entries, rank: int, *, decay: float = 0.0, sweeps: int = 100, tolerance: float = 1e-4, seed: int = 0
) -> Factors:
    """Least-squares factors of a matrix whose rows are divided among the processes of the default group.

    It stops at a third of `tolerance` in relative residual, or when three sweeps in a row lower the residual by less than 1e-4 of it.

    Raises:
        UsageError: If `torch.distributed` is not initialised, or the numbers of columns differ.
    """
    _check(entries)
    size = float(np.sqrt(_sum(np.array([entries.values @ entries.values]))[0])) or 1.0
    column_start, rows, by_column = entries.by_columns(entries.values)
    right = np.random.default_rng(seed).standard_normal((entries.shape[1], rank))
    left, decays = np.empty((entries.shape[0], rank)), np.full(rank, decay)
    triangle = (slice(None), *np.tril_indices(rank + 1))
    residual, lowest, stalled, sweep = np.inf, np.inf, 0, 0
    while sweep < sweeps and stalled < STALLED_SWEEPS and residual >= tolerance / 3:
        sweep += 1
        right = np.linalg.qr(right)[0] * np.sqrt(len(right)) if decay == 0 else right
        solve_rows(
            entries.row_start, entries.cols, entries.values, np.ascontiguousarray(right), decays, biased=False, out=left
        )
        equations = add_normal_equations(column_start, rows, by_column, left)
        equations[triangle] = _sum(equations[triangle])
        right = solve_normal_equations(equations, decays)
        errors = entries.values - pair_products(left, right, entries.rows, entries.cols, False)
        residual = float(np.sqrt(_sum(np.array([errors @ errors]))[0])) / size
        stalled = stalled + 1 if residual > (1 - STALL) * lowest else 0
        lowest = min(lowest, residual)
    return Factors(left, right, residual, sweep, residual < tolerance / 3 or stalled == STALLED_SWEEPS)


def _sum(array: Array) -> Array:
    """The sum over all processes, in all of them."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    processes.all_reduce(tensor)
    return tensor.numpy()


def _check(entries: Entries) -> None:
    if not processes.is_available() or not processes.is_initialized():
        raise UsageError(
            "Call torch.distributed.init_process_group first, in every process; torchrun sets what it needs."
        )
    widths = [torch.zeros(1, dtype=torch.int64) for _ in range(processes.get_world_size())]
    processes.all_gather(widths, torch.tensor([entries.shape[1]]))
    if len({int(width) for width in widths}) > 1:
        raise UsageError(f"The processes have different numbers of columns: {[int(width) for width in widths]}.")

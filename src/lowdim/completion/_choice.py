"""Which solver: by shape, density and a look at the values, confirmed on held-out entries.

Few distinct values in a sparse, large matrix are ratings. A matrix that few factors fit almost exactly has no noise to speak of, and
alternating least squares completes it in no time. Anything else of a few thousand columns is a table, and larger ones are again for
alternating least squares. Where none of this predicts held-out entries well but the values are continuous and few, the matrix
may be exactly low-rank with too few entries for the others: then recovery is tried, and taken only if it is sure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from lowdim.completion.solvers._solver import Completion, HeldOut, Mask, Settings, Solved, Solver, SolverName
from lowdim.completion.entries import Entries
from lowdim.completion.entries._memory import bytes_of_fit, require_memory

TABLE_COLUMNS = 3_000
TABLE_CELLS = 20_000_000
RATING_LEVELS = 25
RATING_SIDE = 100  # rows and columns that ratings have at least
RATING_DENSITY = 0.3
QUICK_RATINGS = 5_000_000  # from which averaging takes minutes
PROBE_SWEEPS = 10
PROBE_OVERSAMPLING = 2.0
NOISE_FREE = 0.01  # relative residual of the probe
WELL_PREDICTED = 0.05  # held-out error over the spread of the entries, below which no recovery is tried
RECOVERABLE_ENTRIES = 300_000
RECOVERABLE_SIDE = 40
RECOVERABLE_DENSITY = 0.15

_HOMES: dict[SolverName, tuple[str, str]] = {
    "exact": ("_exact", "solve_exact"),
    "gd": ("_exact", "solve_gd"),
    "table": ("_table", "solve_table"),
    "als": ("_als", "solve_als"),
    "ratings": ("_ratings", "solve_ratings"),
    "ratings-quick": ("_ratings", "solve_ratings_quickly"),
}
_CHECKS = {
    "exact": ("_exact", "check_exact"),
    "gd": ("_exact", "check_gd"),
    "table": ("_table", "check_table"),
}  # of the solvers whose check takes less than the whole


@dataclass(frozen=True)
class Choice:
    """The solver, why it was chosen, and its answer."""

    solver: str
    reason: str
    solved: Solved


def choose(
    entries: Entries, held: Mask, settings: Settings, solver: SolverName | None, starts: Mapping[str, Completion]
) -> Choice:
    """Run the solver that was asked for, or the one that suits the data, from where it can start."""
    name, reason = (solver, "you asked for it") if solver is not None else suitable(entries, settings)
    _require_memory(name, entries, settings)
    choice = _chosen(name, reason, _solver(name)(entries, held, settings, starts.get(name)))
    if solver is None and name in {"table", "als"} and _may_be_exact(entries, choice.solved):
        from lowdim.completion._exact import solve_exact_briefly

        exact = solve_exact_briefly(entries, held, settings)
        if exact is not None:
            reason = f"few entries that a matrix of low rank fits exactly ({reason}, but badly predicted)"
            return _chosen("exact", reason, exact)
    return choice


def check(solver: Any, entries: Entries, held: Mask, settings: Settings) -> HeldOut:
    """What a solver predicts for held-out entries."""
    if solver in _CHECKS:
        return _imported(*_CHECKS[solver])(entries, held, settings)
    return _solver(solver)(entries, held, settings).held_out


def _chosen(solver: SolverName, reason: str, solved: Solved) -> Choice:
    return Choice(solver, f"{reason}; {solved.reason}" if solved.reason else reason, solved)


def _require_memory(solver: str, entries: Entries, settings: Settings) -> None:
    m, n = entries.shape
    needed = bytes_of_fit(solver, entries.size, entries.shape, settings.rank or settings.max_rank)
    advice = (
        "Take fewer rows or columns or a lower rank, or divide the rows over machines (lowdim.completion.distributed)."
    )
    require_memory(needed, f"Completing {m} x {n} with {entries.size} entries by {solver!r}", advice)


def suitable(entries: Entries, settings: Settings) -> tuple[SolverName, str]:
    """The solver that shape, density and values call for, and why."""
    m, n = entries.shape
    shape = f"{m} x {n} with {entries.density:.1%} observed"
    if are_ratings(entries):
        name: SolverName = "ratings" if entries.size <= QUICK_RATINGS else "ratings-quick"
        return name, f"few distinct values, {shape}: explicit ratings"
    if n > TABLE_COLUMNS or m * n > TABLE_CELLS:
        return "als", f"{shape}: too large for a table"
    if _noise_free(entries, settings):
        return "als", f"{shape}: few factors fit all entries almost exactly"
    return "table", f"{shape}: a noisy table"


def are_ratings(entries: Entries) -> bool:
    """Whether these are a few distinct values (of 10,000 entries) in a large and sparse matrix."""
    large = min(entries.shape) >= RATING_SIDE and entries.density <= RATING_DENSITY
    return large and np.unique(entries.values[:: max(1, entries.size // 10_000)]).size <= RATING_LEVELS


def _noise_free(entries: Entries, settings: Settings) -> bool:
    """Whether a rank that the entries could not fit by chance fits their deviations from the column means almost exactly."""
    from lowdim.completion.solvers.als import TwoOrders, alternate, spectral_start
    from lowdim.completion._exact import affordable_rank

    rank = affordable_rank(entries, settings.max_rank, PROBE_OVERSAMPLING)
    if min(entries.shape) < 2 or entries.oversampling(rank) < PROBE_OVERSAMPLING:
        return False
    means = np.bincount(entries.cols, entries.values, entries.shape[1]) / np.maximum(entries.col_counts, 1)
    centred = entries.with_values(entries.values - means[entries.cols])
    if np.std(centred.values) == 0:
        return False
    problem = TwoOrders.of(centred, 0.0)
    left, right = spectral_start(problem, rank, None, settings.seed)
    probe = Settings(iterations=PROBE_SWEEPS, tolerance=NOISE_FREE)
    fit = alternate(problem, left, right, biased=False, strength=0.0, settings=probe)
    return problem.relative_residual(fit.left, fit.right, False) < NOISE_FREE


def _may_be_exact(entries: Entries, solved: Solved) -> bool:
    few = entries.size <= RECOVERABLE_ENTRIES and entries.density <= RECOVERABLE_DENSITY
    if not few or min(entries.shape) < RECOVERABLE_SIDE:
        return False
    continuous = 2 * np.unique(entries.values).size > entries.size
    return continuous and not solved.held_out.rmse < WELL_PREDICTED * float(np.std(entries.values))


def _solver(name: SolverName) -> Solver:
    """The function of a solver, imported when it is needed."""
    return _imported(*_HOMES[name])


def _imported(module: str, function: str) -> Any:
    return getattr(import_module(f"lowdim.completion.{module}"), function)

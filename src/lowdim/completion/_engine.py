"""From entries to a completion that has been checked: scale, hold out, solve, compare with biases only, guard."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lowdim.completion.solvers._biases import solve_biases
from lowdim.completion._choice import Choice, are_ratings, check, choose
from lowdim.completion.solvers._solver import (
    Array,
    Completion,
    HeldOut,
    Indices,
    Settings,
    SolverName,
    hold_out,
)
from lowdim.completion.entries import Entries
from lowdim.completion._guards import Guarded
from lowdim.completion.solvers.table._missingness import difference
from lowdim.completion._scaling import column_scale, noise_is_uniform

HELD_SHARE = 0.1
NOT_LOW_RANK = 0.97  # of the biases-only error on held-out entries; above it the low-rank part explains nothing
ONE_SCALE = {
    "ratings",
    "ratings-quick",
    "exact",
    "gd",
}  # have a noise of each column in their model, or no noise at all
PERFECT = 1e-9  # an error, of the deviation of a column
DOUBTFUL = 1_000  # held-out entries below which more tenths are held out before the solver is given up
FURTHER_CHECKS = 4
LEAST_OVERSAMPLING = 1.2
UNCHECKED = (
    "No entry could be held out: there are very few, or each is the only one of its row or column. So nothing checks a "
    "low-rank part, and row and column means are used alone. Observe more entries."
)
SHRINKING = {
    "table",
    "ratings",
    "ratings-quick",
}  # shrink a row with few entries to what is typical, so need no fallback
READERS = {
    "depth": ("depth", ("als", "exact", "gd")),
    "max_iter": ("iterations", ("als", "table")),
    "tol": ("tolerance", ("als",)),
    "biases": ("biases", ("als",)),
}  # arguments of the estimator: their names in the settings, and the solvers that read them
FIXED_BIASES = {"ratings": True, "ratings-quick": True, "exact": False, "gd": False}


_OfCells = Callable[[Indices, Indices], Array]


@dataclass(frozen=True)
class Completed:
    """A completion in the user's units, with the evidence for it.

    Attributes:
        completion: The fitted model, of entries divided by ``scale``.
        biases: Biases only, of the same.
        scale: ``(n,)``, what the columns were divided by.
        shared: Whether the solver takes all columns to be of one scale.
        asked: The rank, the most factors and the biases that were asked for.
        solver: The solver that was used, or ``"biases"`` where none did better.
        reason: Why this solver.
        held_out: Predictions of the held-out entries, in the user's units.
        biases_rmse: Root mean square error of biases only on the same entries.
        ratio: The quotient of the two errors in units of ``scale``.
        sure: Whether the solver vouches for an exact recovery; None where that is not its claim.
        oversampling: Entries per degree of freedom of a matrix of this rank.
        thin_rows: Rows with fewer entries than the rank, which the entries do not identify.
        thin_cols: The same for columns.
        remarks: What the user should know.
    """

    completion: Completion
    biases: Completion
    scale: Array
    shared: bool
    asked: tuple[int | None, int, bool | None]
    solver: str
    reason: str
    held_out: HeldOut
    biases_rmse: float
    ratio: float
    sure: bool | None
    oversampling: float
    thin_rows: Indices
    thin_cols: Indices
    remarks: tuple[str, ...]

    def predict(self, rows: Indices, cols: Indices) -> Array:
        """The modelled values of cells of the training matrix; -1 stands for a row or column that it does not have."""
        return self._of_cells(rows, cols, self.completion.predict, self.biases.predict)

    def deviation(self, rows: Indices, cols: Indices) -> Array:
        """One calibrated standard deviation of the predictive distribution of cells."""
        deviations = self._of_cells(rows, cols, self.completion.deviation, self.biases.deviation)
        return deviations * self.held_out.calibration

    def _of_cells(self, rows: Indices, cols: Indices, of_known: _OfCells, of_others: _OfCells) -> Array:
        known = (rows >= 0) & (cols >= 0)
        values = np.empty(rows.size)
        values[known] = of_known(rows[known], cols[known])
        values[~known] = of_others(rows[~known], cols[~known])
        return values * self.scale_of(cols)

    def scale_of(self, cols: Indices) -> Array:
        """What columns were divided by; that of a typical one for -1."""
        return np.where(cols >= 0, self.scale[cols], np.median(self.scale))

    def complete(self, entries: Entries) -> Array:
        """The modelled values of all cells of any rows, from their observed entries."""
        scaled = entries.with_values(entries.values / self.scale[entries.cols])
        return self.completion.complete(scaled) * self.scale

    @property
    def factors(self) -> tuple[Array, Array]:
        """``(m, r)`` and ``(n, r)``, whose product is the low-rank part."""
        rows, cols = self.completion.factors
        return rows, cols * self.scale[:, None]


def complete(
    entries: Entries,
    settings: Settings,
    *,
    solver: SolverName | None = None,
    scale: bool = True,
    start: Completed | None = None,
) -> Completed:
    """Complete a matrix.

    Args:
        entries: The observed entries.
        settings: Rank, depth and so on.
        solver: One of the solvers, or None to choose by the data.
        scale: Whether each column is divided by its own deviation (`table` and `als`; the others
            divide all by the same).
        start: An earlier completion of a matrix of the same shape. The last fit starts from it if the solver, the rank and the
            biases are the same; the check never does, because it may have seen the held-out entries.
    """
    together = solver in ONE_SCALE or (solver is None and are_ratings(entries))
    divisor = column_scale(entries, each=scale and not together)
    scaled = entries.with_values(entries.values / divisor[entries.cols])
    held = hold_out(entries, HELD_SHARE, settings.seed)
    baseline = solve_biases(scaled, held, settings)
    asked = settings.rank, settings.max_rank, settings.biases
    starts = {start.solver: _unguarded(start.completion)} if start is not None and start.asked == asked else {}
    choice = choose(scaled, held, settings, solver, starts)
    if choice.solver == "als" and scale and not together and noise_is_uniform(choice.solved.held_out, divisor):
        # dividing the columns made the noise uneven, which least squares without weights does not know
        divisor = column_scale(entries, each=False)
        scaled = entries.with_values(entries.values / divisor[entries.cols])
        baseline = solve_biases(scaled, held, settings)
        again = choose(scaled, held, settings, "als", starts)
        choice = Choice("als", choice.reason, again.solved)
    solved, checks = choice.solved, (choice.solved.held_out, baseline.held_out)
    ratio = _ratio(checks[0].rmse, checks[1].rmse)
    if not (ratio < 1 or solved.sure) and held.sum() < DOUBTFUL:
        checks = _more_checks(scaled, settings, choice, checks)
        ratio = _ratio(checks[0].rmse, checks[1].rmse)
    rank = solved.completion.factors[0].shape[1]
    remarks = [
        *solved.remarks,
        *_remarks(choice.solver, ratio, rank, entries),
        *_without_effect(choice.solver, settings),
    ]
    if choice.solver == "table":
        found = difference(scaled, solved.completion, entries.rows[held], solved.held_out, settings.seed)
        remarks += [_not_at_random(found.mean)] if found is not None and found.clear else []
    if not (ratio < 1 or solved.sure):
        reason = "no low-rank part predicts held-out entries better"
        if checks[0].values.size == 0:
            reason = "no entry could be held out to check a low-rank part"
            remarks.append(UNCHECKED)
        choice, rank = Choice("biases", reason, baseline), 0
        checks = checks[1], checks[1]
    completion = choice.solved.completion
    if choice.solver not in {*SHRINKING, "biases"} and rank > 0:
        completion = Guarded.around(completion, baseline.completion, scaled, rank)
    return Completed(
        completion=completion,
        biases=baseline.completion,
        scale=divisor,
        shared=together,
        asked=asked,
        solver=choice.solver,
        reason=choice.reason,
        held_out=checks[0].in_units(divisor),
        biases_rmse=checks[1].in_units(divisor).rmse,
        ratio=ratio,
        sure=choice.solved.sure,
        oversampling=entries.oversampling(rank) if rank else float("inf"),
        thin_rows=np.flatnonzero(entries.row_counts < max(rank, 1)),
        thin_cols=np.flatnonzero(entries.col_counts < max(rank, 1)),
        remarks=tuple(remarks),
    )


def _more_checks(
    entries: Entries, settings: Settings, choice: Choice, checks: tuple[HeldOut, HeldOut]
) -> tuple[HeldOut, HeldOut]:
    """The checks of the solver and of biases, with those of further tenths: too few entries for a verdict against the solver."""
    for seed in range(settings.seed + 1, settings.seed + FURTHER_CHECKS + 1):
        held = hold_out(entries, HELD_SHARE, seed)
        other = check(choice.solver, entries, held, settings)
        checks = checks[0].joined(other), checks[1].joined(solve_biases(entries, held, settings).held_out)
    return checks


def _unguarded(completion: Completion) -> Completion:
    return completion.inner if isinstance(completion, Guarded) else completion


def _ratio(error: float, baseline: float) -> float:
    """Of two errors in units of the scale; a perfect baseline cannot be improved."""
    return 1.0 if baseline < PERFECT else error / baseline


def _not_at_random(mean: float) -> str:
    return (
        f"Cells are not missing at random: what is missing is predicted {abs(mean):.2f} column deviations "
        f"{'higher' if mean > 0 else 'lower'} than what is known. The true error is larger than the held-out one, and "
        "intervals cover less than they say."
    )


def _without_effect(solver: str, settings: Settings) -> list[str]:
    """A remark on each argument that was set, but that the solver does not read."""
    values = {name: getattr(settings, field) for name, (field, _) in READERS.items()}
    return [
        f"{name}={value} has no effect on the solver {solver!r}; read by {', '.join(READERS[name][1])}."
        for name, value in values.items()
        if value != getattr(Settings, READERS[name][0])
        and solver not in READERS[name][1]
        and not (name == "biases" and value == FIXED_BIASES.get(solver))
    ]


def _remarks(solver: str, ratio: float, rank: int, entries: Entries) -> list[str]:
    remarks: list[str] = []
    if NOT_LOW_RANK < ratio != 1.0:
        remarks.append(
            f"This matrix is not low-rank: on held-out entries the error is {ratio:.2f} of that of row and column means alone. "
            "A model of single columns (scikit-learn's KNNImputer or IterativeImputer) may do better."
        )
    if rank and solver not in SHRINKING and entries.oversampling(rank) < LEAST_OVERSAMPLING:
        remarks.append(
            f"There are only {entries.oversampling(rank):.2f} entries per degree of freedom at rank {rank}; below "
            f"{LEAST_OVERSAMPLING} the completion is often wrong. Observe more entries or ask for a lower rank."
        )
    return remarks

"""From entries to a completion that has been checked: scale, hold out, solve, compare with biases only, guard."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from lowdim._memory import require_memory
from lowdim.completion.solvers import SOLVERS, solvers
from lowdim.completion.solvers import solver as solver_named
from lowdim.completion.solvers._completions import Guarded, left_out_biases, solve_biases
from lowdim.completion.solvers._solver import (
    Array,
    Completion,
    Entries,
    HeldOut,
    Indices,
    Mask,
    Settings,
    Solved,
    Solver,
    WithDeviations,
    hold_out,
    root_mean_square,
)
from lowdim.errors import InputError, UsageError, did_you_mean

HELD_SHARE = 0.1
SAFE = (1e-90, 1e90)  # sizes of values that need no other unit
APART = 1e-90  # of the size of the largest value, below which the squares of a whole column would vanish beside it
NOT_LOW_RANK = 0.97  # of the biases-only error on held-out entries; above it the low-rank part explains nothing
PERFECT = 1e-9  # an error, of the deviation of a column
DOUBTFUL = 1_000  # held-out entries below which more tenths are held out, at the latest before the solver is given up
FURTHER_CHECKS = 4
TOGETHER = 2.0  # standard errors of errors that go together by stretches, taken as if they were independent
LEAST_OVERSAMPLING = 1.2
UNCHECKED = (
    "No entry could be held out: there are very few, or each is the only one of its row or column. So nothing checks a "
    "low-rank part, and row and column means are used alone. Observe more entries."
)
READERS = {"depth": "depth", "max_iter": "iterations", "tol": "tolerance", "biases": "biases"}
"""Arguments of the estimator that not every solver reads: their names in the settings."""

_OfCells = Callable[[Indices, Indices], Array]


@dataclass(frozen=True)
class Completed:
    """A completion in the user's units, with the evidence for it.

    Attributes:
        completion: The fitted model, of entries divided by ``scale``.
        biases: Biases only, of the same.
        scale: ``(n,)``, what the columns were divided by.
        fills_empty: Whether the solver that was used knows something of a column without any entry.
        shared: Whether the solver takes all columns to be of one scale.
        asked: The rank, the most factors and the biases that were asked for.
        solver: The solver that was used, or ``"biases"`` where none did better.
        reason: Why this solver.
        held_out: Predictions of the held-out entries, in the user's units.
        biases_held_out: The same by biases only.
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
    fills_empty: bool
    shared: bool
    asked: tuple[int | None, int, bool | None]
    solver: str
    reason: str
    held_out: HeldOut
    biases_held_out: HeldOut
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

    def deviations(self, entries: Entries, clock: Array | None = None) -> Array:
        """Of all cells of any rows: that of the held-out errors of a column where the solver knows no more."""
        scaled = entries.divided(self.scale)
        if isinstance(self.completion, WithDeviations):
            return self.completion.deviations(scaled, clock) * self.scale * self.held_out.calibration
        return np.tile(self.scale * self.typical, (entries.shape[0], 1))

    def draws(
        self, entries: Entries, clock: Array | None, count: int, generator: np.random.Generator
    ) -> Iterator[Array] | None:
        """Draws of all cells of any rows from their joint distribution; None where the solver knows none."""
        if not isinstance(self.completion, WithDeviations):
            return None
        scaled = entries.divided(self.scale)
        return (draw * self.scale for draw in self.completion.draws(scaled, clock, count, generator))

    @property
    def typical(self) -> float:
        """The root mean square held-out error in units of the scale."""
        cols = self.held_out.cols
        return root_mean_square((self.held_out.values - self.held_out.predictions) / self.scale[cols])

    def _of_cells(self, rows: Indices, cols: Indices, of_known: _OfCells, of_others: _OfCells) -> Array:
        known = (rows >= 0) & (cols >= 0)
        values = np.empty(rows.size)
        values[known] = of_known(rows[known], cols[known])
        values[~known] = of_others(rows[~known], cols[~known])
        return values * self.scale_of(cols)

    def scale_of(self, cols: Indices) -> Array:
        """What columns were divided by; that of a typical one for -1."""
        return np.where(cols >= 0, self.scale[cols], np.median(self.scale))

    def complete(self, entries: Entries, clock: Array | None = None) -> Array:
        """The modelled values of all cells of any rows, from their observed entries, and from the times of the rows where that helps."""
        scaled = entries.divided(self.scale)
        if isinstance(self.completion, WithDeviations):
            return self.completion.complete_in_time(scaled, clock) * self.scale
        return self.completion.complete(scaled) * self.scale

    @property
    def factors(self) -> tuple[Array, Array]:
        """``(m, r)`` and ``(n, r)``, whose product is the low-rank part."""
        rows, cols = self.completion.factors
        return rows, cols * self.scale[:, None]


def require_solver(name: str, *, features: bool = False) -> None:
    """Check a name of a solver, or ``"auto"``, and that it reads `features` of rows and columns if there are any.

    Raises:
        UsageError: With the names to choose from.
    """
    names = ("auto", *SOLVERS)
    if name not in names:
        raise UsageError(f"There is no solver {name!r}. {did_you_mean(name, names)}")
    readers = [record.name for record in solvers() if "features" in record.reads] if features else names
    if name not in ("auto", *readers):
        raise UsageError(f"user_table and item_table are read by {' and '.join(readers)}, not by {name!r}.")


def complete(
    entries: Entries,
    settings: Settings,
    *,
    solver: str | None = None,
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
    unit = _units(entries, scale)
    entries = entries.divided(unit)
    record, reason = (
        _suitable(entries, settings, scale) if solver is None else (solver_named(solver), "you asked for it")
    )
    held = hold_out(entries, HELD_SHARE, settings.seed, last=record.quick_check)
    overall = entries.column_scale(each=False)
    each = scale and not record.one_scale
    divisor = entries.column_scale(each=True) if each else overall
    settings = replace(settings, units=divisor / overall if each else None)
    scaled = entries.divided(divisor)
    asked = settings.rank, settings.max_rank, settings.biases
    earlier = start is not None and start.asked == asked and start.solver == record.name
    begin = _unguarded(start.completion) if start is not None and earlier else None
    _require_memory(record, entries, settings)
    solved = record.solve(scaled, held, settings, begin)
    if solver is None and record.rescued and not solved.one_scale:
        record, reason, solved = _rescued(scaled, held, settings, record, reason, solved)
    if solved.one_scale:
        divisor, scaled = overall, entries.divided(overall)
    reason = f"{reason}; {solved.reason}" if solved.reason else reason
    baseline = solve_biases(scaled, held, settings)
    checks = solved.held_out, baseline.held_out
    if solved.checked is not None:
        checks = solved.held_out, _biases_check(scaled, solved, settings)
    ratio = _ratio(checks[0].rmse, checks[1].rmse)
    doubtful = held.sum() < DOUBTFUL and solved.checked is None and not solved.sure
    if doubtful and (record.quick_check or not ratio < 1):
        checks = _more_checks(scaled, settings, record, checks)
        ratio = _ratio(checks[0].rmse, checks[1].rmse)
    rank = solved.completion.factors[0].shape[1]
    remarks = [*solved.remarks, *_remarks(record, rank, entries), *_without_effect(record, settings)]
    name, completion = record.name, solved.completion
    alone_better = _is_better_alone(scaled, solved, checks)
    if alone_better:
        reason += (
            "; the held-out stretches are too few to say whether it beats row and column means, single cells say so"
        )
    better = ratio < 1 if solved.checked is None else alone_better or checks[0].is_clearly_better(checks[1])
    insisted = solver is not None and np.isfinite(
        checks[0].rmse
    )  # a solver that was named is used, whatever its check says
    unchecked = record.fills_empty and checks[0].values.size == 0
    if unchecked:
        remarks.append("No known pixel could be held out, so nothing says how good the filled ones are.")
    without_rival = unchecked or (
        record.fills_empty and not entries.col_counts.all()
    )  # biases know nothing of such columns
    if not (better or solved.sure or insisted or without_rival):
        reason, name, completion, rank = (
            "no low-rank part predicts held-out entries better",
            "biases",
            baseline.completion,
            0,
        )
        if checks[0].values.size == 0:
            reason = "no entry could be held out to check a low-rank part"
            remarks.append(UNCHECKED)
    if NOT_LOW_RANK < ratio != 1.0 and not alone_better:
        remarks.append(_beside_means(scaled, record, checks, ratio, used=name != "biases"))
    if name == "biases":
        checks = checks[1], checks[1]
    if rank and not record.shrinks:
        completion = Guarded.around(completion, baseline.completion, scaled, rank)
    return Completed(
        completion=completion,
        biases=baseline.completion,
        scale=divisor * unit,
        fills_empty=name == record.name and record.fills_empty,
        shared=record.one_scale,
        asked=asked,
        solver=name,
        reason=reason,
        held_out=checks[0].in_units(divisor * unit),
        biases_held_out=checks[1].in_units(divisor * unit),
        ratio=ratio,
        sure=solved.sure if name == record.name else baseline.sure,
        oversampling=entries.oversampling(rank) if rank else float("inf"),
        thin_rows=np.flatnonzero(entries.row_counts < max(rank, 1)),
        thin_cols=np.flatnonzero(entries.col_counts < max(rank, 1)),
        remarks=tuple(remarks),
    )


def _is_better_alone(entries: Entries, solved: Solved, checks: tuple[HeldOut, HeldOut]) -> bool:
    """Whether parts that were hidden together leave open which is better, and all entries, each left out by itself, say the solver.

    Such parts are like what is missing, but often few. So a solver that is clearly better on single entries is given up only where it is
    clearly worse on the parts.
    """
    ours, biases = checks
    open_still = not (ours.is_clearly_better(biases) or biases.is_clearly_better(ours, TOGETHER))
    if not (solved.lacked and solved.alone and open_still):
        return False
    told = np.isfinite(solved.alone.predictions)
    return solved.alone.of_places(told).is_clearly_better(left_out_biases(entries, told))


def _biases_check(entries: Entries, solved: Solved, settings: Settings) -> HeldOut:
    """Biases on the entries that the solver has checked, left out as it left them out."""
    assert solved.checked is not None
    if solved.lacked:
        return HeldOut.by_parts(
            entries, solved.checked, solved.lacked, lambda part: solve_biases(entries, part, settings).held_out
        )
    return left_out_biases(entries, solved.checked)


def _units(entries: Entries, scale: bool) -> Array:
    """Powers of two ``(n,)`` that bring values whose squares would overflow or vanish to a size of 1; otherwise 1.

    All columns have the same, unless whole ones would vanish beside others: then each has its own, where columns are scaled anyway.

    Raises:
        InputError: If columns would vanish that are not scaled.
    """
    sizes, by_column = np.abs(entries.values), np.zeros(entries.shape[1])
    largest = float(sizes.max())
    if sizes.min(where=sizes > 0, initial=largest) < largest * APART:  # hardly ever: then by columns
        np.maximum.at(by_column, entries.cols, sizes)
    least = float(by_column[by_column > 0].min(initial=largest))
    if least < largest * APART:
        if not scale:
            raise InputError(
                f"A column whose values are at most {least:.1e} stands beside values of {largest:.1e}: without scaling, numbers of sizes so far "
                "apart cannot be completed together. Scale the columns, or multiply or leave out that one."
            )
        return np.where(by_column > 0, np.ldexp(1.0, np.frexp(by_column)[1] - 1), 1.0)
    inside = largest == 0 or SAFE[0] < largest < SAFE[1]
    return np.full(by_column.size, 1.0 if inside else math.ldexp(1.0, math.frexp(largest)[1] - 1))


def _suitable(entries: Entries, settings: Settings, scale: bool) -> tuple[Solver, str]:
    """The first solver that shape, density and values call for, and why."""
    scaled = entries.divided(entries.column_scale(each=scale))
    for record in solvers():
        reason = record.suits(entries if record.one_scale else scaled, settings)
        if reason is not None:
            return record, reason
    raise AssertionError("the last of them suits every matrix")


def _rescued(
    entries: Entries, held: Mask, settings: Settings, record: Solver, reason: str, solved: Solved
) -> tuple[Solver, str, Solved]:
    """Another solver's answer, where it is to be preferred to that of the one that was chosen."""
    for other in solvers():
        better = other.rescue(entries, held, settings, solved) if other.rescue and other != record else None
        if better is not None:
            return other, f"{better[1]} ({reason}, but not better predicted so)", better[0]
    return record, reason, solved


def _require_memory(record: Solver, entries: Entries, settings: Settings) -> None:
    m, n = entries.shape
    needed = record.memory(entries.size, entries.shape, settings.rank or settings.max_rank)
    advice = (
        "Take fewer rows or columns or a lower rank, or divide the rows over machines (lowdim.completion.distributed)."
    )
    require_memory(needed, f"Completing {m} x {n} with {entries.size} entries by {record.name!r}", advice)


def _more_checks(
    entries: Entries, settings: Settings, record: Solver, checks: tuple[HeldOut, HeldOut]
) -> tuple[HeldOut, HeldOut]:
    """The checks of the solver and of biases, with those of further tenths: too few entries for a verdict."""
    for part in range(1, FURTHER_CHECKS + 1):
        held = hold_out(entries, HELD_SHARE, settings.seed, part, last=record.quick_check)
        other = record.held_out(entries, held, settings)
        checks = checks[0].joined(other), checks[1].joined(solve_biases(entries, held, settings).held_out)
    return checks


def _unguarded(completion: Completion) -> Completion:
    return completion.inner if isinstance(completion, Guarded) else completion


def _ratio(error: float, baseline: float) -> float:
    """Of two errors in units of the scale; a perfect baseline cannot be improved."""
    return 1.0 if baseline < PERFECT else error / baseline


def _without_effect(record: Solver, settings: Settings) -> list[str]:
    """A remark on each argument that was set, but that the solver does not read."""
    remarks: list[str] = []
    for argument, field in READERS.items():
        value = getattr(settings, field)
        if value == getattr(Settings, field) or field in record.reads or (field == "biases" and value == record.biased):
            continue
        readers = ", ".join(other.name for other in solvers() if field in other.reads)
        remarks.append(f"{argument}={value} has no effect on the solver {record.name!r}; read by {readers}.")
    return remarks


def _beside_means(
    entries: Entries, record: Solver, checks: tuple[HeldOut, HeldOut], ratio: float, *, used: bool
) -> str:
    """What is said where a solver gains next to nothing over row and column means: with errors in what its columns are judged by."""
    if record.quick_check:
        said, unit = [f"{ratio:.2f}", "1"], "theirs"
        advice = (
            "More ratings of each user and item would help, or tables of what is known of them (`user_table`, `item_table`); imputers that "
            "model single columns, as scikit-learn's, need far fuller tables."
        )
    else:
        means = _column_means_rmse(entries, checks[1])
        said = [f"{_ratio(check.rmse, means):.2f}" for check in checks]
        unit = "that of column means"
        advice = "The columns tell little about each other beyond a level that their row shares."
    which = f"{record.name!r} adds next to nothing to" if used else f"{record.name!r} is not used, and all is filled by"
    count = checks[0].values.size
    return (
        f"This matrix is not low-rank: {which} row and column means. On {count:,} held-out entries its error is {said[0]} times {unit}"
        + (". " if record.quick_check else f", and that of row and column means {said[1]} times. ")
        + advice
    )


def _column_means_rmse(entries: Entries, check: HeldOut) -> float:
    """The error of each column's mean on held-out entries, each predicted without itself."""
    counts = np.maximum(entries.col_counts, 1)[check.cols]
    means = entries.column_sums()[check.cols] / counts
    return root_mean_square((check.values - means) * counts / np.maximum(counts - 1, 1))


def _remarks(record: Solver, rank: int, entries: Entries) -> list[str]:
    remarks: list[str] = []
    if rank and not record.shrinks and entries.oversampling(rank) < LEAST_OVERSAMPLING:
        remarks.append(
            f"There are only {entries.oversampling(rank):.2f} entries per degree of freedom at rank {rank}; below "
            f"{LEAST_OVERSAMPLING} the completion is often wrong. Observe more entries or ask for a lower rank."
        )
    return remarks

"""The `table` solvers: factor analysis of columns of unit variance, then what trees and a kernel find in what it leaves over.

Every known cell is predicted as if it were unknown (see `_worlds`). So the error, the deviations of each column and the decision between
the model and means rest on all known cells, without a fit that lacks some of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

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
    described,
    to_dense,
)
from lowdim.completion.solvers.table._factor_model import FactorModel, Rows, draws, sizes_of
from lowdim.completion.solvers.table._holes import Copies, copies_of_gaps, copies_of_stretches, not_at_random
from lowdim.completion.solvers.table._in_time import (
    CLASSES,
    Checked,
    InTime,
    are_times,
    follow_each_other,
    interpolated,
)
from lowdim.completion.solvers.table._second_stage import SecondStage, cells_of_worlds, fit_second_stage
from lowdim.completion.solvers.table._spread import Errors, spread, surplus

SWEEPS = 30
USED_ENERGY = 1e-4  # of a column's variance, on average, below which a latent does not count towards the rank
FEWEST = 3  # entries from which a check says anything
UNLIKE = (
    "No known stretch is long enough to hide a copy of a gap in it: the error and the deviations are those of single cells, and too small "
    "for those inside the gaps."
)


@dataclass(frozen=True)
class TableCompletion:
    """The fitted stages of columns with these means and scales, and the rows that they were fitted to.

    Attributes:
        mean: ``(n,)``.
        scale: ``(n,)``, the deviation of each column.
        stage: Of the standardised columns.
        spread: ``(n, CLASSES)``: a cell's deviation is this, by its distance from what is known in time, times the square root of the
            factor model's.
        iterations: Sweeps of the factor model.
        converged: Whether they converged.
        values: ``(m, n)``, standardised, zeros in the holes.
        observed: ``(m, n)``.
        clock: ``(m, 2)``, the group and the time of each row, or None.
        in_time: What neighbours in time add, or None.
    """

    mean: Array
    scale: Array
    stage: SecondStage
    spread: Array
    iterations: int
    converged: bool
    values: Array
    observed: Mask
    clock: Array | None = None
    in_time: InTime | None = None

    @property
    def factors(self) -> tuple[Array, Array]:
        plain = self.stage.plain
        loadings = plain.loadings.mean[:, :-1]
        used = (loadings**2).mean(0) > USED_ENERGY
        latents = plain.latents(plain.inner(self.values), self.observed)
        return latents[:, :-1][:, used], loadings[:, used] * self.scale[:, None]

    def predict(self, rows: Indices, cols: Indices) -> Array:
        if self.in_time is not None:
            return (
                self.mean[cols] + self.scale[cols] * self._modelled(self.values, self.observed, self.clock)[rows, cols]
            )
        distinct, place = np.unique(rows, return_inverse=True)
        modelled = self.stage.complete(self.values[distinct], self.observed[distinct])
        return self.mean[cols] + self.scale[cols] * modelled[place, cols]

    def deviation(self, rows: Indices, cols: Indices) -> Array:
        if self.clock is not None:
            return self._deviations(self.values, self.observed, self.clock)[rows, cols]
        distinct, place = np.unique(rows, return_inverse=True)
        return self._deviations(self.values[distinct], self.observed[distinct], None)[place, cols]

    def complete(self, entries: Entries) -> Array:
        return self.complete_in_time(entries, None)

    def complete_in_time(self, entries: Entries, clock: Array | None) -> Array:
        """As `complete`, of rows in these groups and at these times, ``(m', 2)``."""
        values, observed = self._standardised(entries)
        return self.mean + self.scale * self._modelled(values, observed, clock)

    def draws(
        self, entries: Entries, clock: Array | None, count: int, generator: np.random.Generator
    ) -> Iterator[Array]:
        """Draws of all cells of any rows, ``(m', n)``."""
        values, observed = self._standardised(entries)
        stage, plain = self.stage, self.stage.plain
        training = plain.inner(self.values), self.observed
        rows = Rows(plain.inner(values), observed, self._modelled(values, observed, clock))
        sizes = sizes_of(stage.honest, self.values[stage.rows], stage.deviation)
        for draw in draws(rows, training, plain, sizes, count, generator):
            yield self.mean + self.scale * draw

    def _modelled(self, values: Array, observed: Mask, clock: Array | None) -> Array:
        modelled = self.stage.complete(values, observed)
        if self.in_time is None or clock is None:
            return modelled
        return self.in_time.added(modelled, *interpolated(values, observed, clock))

    def deviations(self, entries: Entries, clock: Array | None) -> Array:
        """Of all cells of any rows in these groups and at these times, ``(m', n)``."""
        return self._deviations(*self._standardised(entries), clock)

    def _deviations(self, values: Array, observed: Mask, clock: Array | None) -> Array:
        place = np.zeros(values.shape, np.intp) if clock is None else interpolated(values, observed, clock)[1]
        spread = self.spread[np.arange(values.shape[1]), place]
        plain = self.stage.plain
        return self.scale * spread * np.sqrt(plain.predict(plain.inner(values), observed)[2])

    def _standardised(self, entries: Entries) -> tuple[Array, Mask]:
        values, observed = to_dense(entries)
        return np.where(observed, (values - self.mean) / self.scale, 0.0), observed


def _stages(
    values: Array, observed: Mask, settings: Settings, start: Completion | None, rounds: int
) -> TableCompletion:
    """Both stages, fitted to the observed cells; not yet checked."""
    counts = np.maximum(observed.sum(0), 1)
    mean = np.where(observed, values, 0.0).sum(0) / counts
    centred = np.where(observed, values - mean, 0.0)
    scale = np.sqrt((centred**2).sum(0) / counts)
    scale[scale == 0] = 1.0
    standard = centred / scale
    rank = min(settings.rank or settings.max_rank, max(min(values.shape) - 1, 0))
    sweeps = min(SWEEPS, settings.iterations)
    earlier = start.stage.plain.loadings if isinstance(start, TableCompletion) else None
    stage = settings.journal.stage(sweeps)
    plain = FactorModel.fit(standard, observed, rank, sweeps=sweeps, stage=stage, start=earlier)
    stage = settings.journal.stage(sweeps)
    scored = FactorModel.fit_scores(standard, observed, rank, sweeps=sweeps, stage=stage)
    second = fit_second_stage(
        standard, observed, plain, scored, together=settings.together, rounds=rounds, seed=settings.seed
    )
    spread = np.ones((len(mean), CLASSES))
    return TableCompletion(mean, scale, second, spread, plain.iterations, plain.converged, standard, observed)


@dataclass(frozen=True)
class Unseen:
    """Known cells as models tell them that have not seen them; all ``(m, n)``, in the units of the fitted model.

    Attributes:
        modelled: By the model.
        unit: The square root of the factor model's deviation.
        line: By interpolation in time.
        place: The class of the distance from what is known in time.
        copy: The number of the copy of a gap, or of the single cell; -1 where a cell is not checked.
    """

    modelled: Array
    unit: Array
    line: Array
    place: Indices
    copy: Indices

    @classmethod
    def alone(cls, fitted: TableCompletion, clock: Array | None) -> "Unseen":
        """Each known cell by itself."""
        stage = fitted.stage
        modelled, unit = np.full((2, *fitted.values.shape), np.nan)
        modelled[stage.rows], unit[stage.rows] = stage.honest, np.sqrt(stage.deviation)
        copy = Copies.of_cells(~np.isnan(modelled)).number
        return cls(modelled, unit, *_in_time(fitted, fitted.observed, clock, others=True), copy)

    @classmethod
    def of_copies(
        cls, checks: Sequence[tuple[TableCompletion, Copies]], fitted: TableCompletion, clock: Array | None
    ) -> "Unseen":
        """The cells of copies of gaps, each by a model from which it was hidden."""
        whole = cls(*np.full((3, *fitted.values.shape), np.nan), *np.full((2, *fitted.values.shape), -1))
        for check, copies in checks:
            size, shift = check.scale / fitted.scale, (check.mean - fitted.mean) / fitted.scale
            modelled = shift + size * check.stage.complete(check.values, check.observed)
            plain = check.stage.plain
            unit = size * np.sqrt(plain.predict(plain.inner(check.values), check.observed)[2])
            line, place = _in_time(fitted, check.observed, clock)
            here = copies.number >= 0
            for part, own in zip(vars(whole).values(), (modelled, unit, line, place, copies.number), strict=True):
                part[here] = own[here]
        return whole


def _in_time(
    fitted: TableCompletion, observed: Mask, clock: Array | None, *, others: bool = False
) -> tuple[Array, Indices]:
    if clock is None:
        return np.full(observed.shape, np.nan), np.zeros(observed.shape, np.intp)
    return interpolated(fitted.values, observed, clock, others=others)


def _memory(entries: int, shape: tuple[int, int], rank: int) -> int:
    return 20 * 2**20 + 150 * shape[0] * shape[1] + 56 * cells_of_worlds(*shape)


def solve_table(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Fit a table in two rounds; see the module.

    Cost: ``O(m n K^2)`` per sweep of the factor model, and what `fit_second_stage` says.
    """
    return _solve(entries, held, settings, start, rounds=2)


def solve_quickly(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Fit a table in one round."""
    return _solve(entries, held, settings, start, rounds=1)


def _solve(entries: Entries, held: Mask, settings: Settings, start: Completion | None, rounds: int) -> Solved:
    del held  # known cells are predicted as if they were unknown
    values, observed = to_dense(entries)
    clock, fitted = settings.clock, _stages(values, observed, settings, start, rounds)
    ordered = clock is not None and follow_each_other(observed, clock)
    hidden = _hidden(observed, settings, ordered)
    checks = [(_stages(values, observed & ~one.hidden, settings, fitted, rounds), one) for one in hidden]
    unseen = Unseen.of_copies(checks, fitted, clock) if checks else Unseen.alone(fitted, clock)
    checked = (unseen.copy >= 0) & (entries.size >= FEWEST)
    rows, cols = np.nonzero(checked)
    place, modelled, in_time = unseen.place[checked], unseen.modelled, None
    if clock is not None:
        told = Checked.of(fitted.values, modelled, unseen.line, unseen.place, checked)
        in_time = InTime.fit(told, values.shape, are_times(fitted.values, observed, clock))
        modelled = modelled if in_time is None else in_time.added(modelled, unseen.line, unseen.place)
    sizes = np.abs(fitted.values - modelled)[checked] / unseen.unit[checked]
    errors = Errors(sizes, cols, place, unseen.copy[checked])
    factors = spread(errors, (values.shape[1], CLASSES))
    completion = replace(fitted, spread=factors * surplus(errors, factors), clock=clock, in_time=in_time)
    predicted = (fitted.mean + fitted.scale * modelled)[checked]
    deviations = (fitted.scale * unseen.unit)[checked] * factors[cols, place]
    held_out = HeldOut(cols, values[checked], predicted, deviations)
    remarks = not_at_random(entries, completion, rows, held_out, settings.seed)
    if ordered and (not hidden or any(one.cut for one in hidden)):
        remarks = (UNLIKE, *remarks)
    return Solved(
        completion,
        held_out,
        remarks=remarks,
        checked=checked[entries.rows, entries.cols],
        reason="neighbours in time help" if in_time else "",
        lacked=tuple(one.hidden[entries.rows, entries.cols] for one in hidden),
        alone=_alone(fitted, entries),
    )


def _alone(fitted: TableCompletion, entries: Entries) -> HeldOut:
    """Each known cell by models that have not seen it alone, where there is one."""
    honest = np.full(fitted.values.shape, np.nan)
    honest[fitted.stage.rows] = fitted.stage.honest
    predictions = (fitted.mean + fitted.scale * honest)[entries.rows, entries.cols]
    return HeldOut(entries.cols, entries.values, predictions, np.full(entries.size, np.nan))


def _hidden(observed: Mask, settings: Settings, ordered: bool) -> list[Copies]:
    """What is hidden in each of the fits that check the model; nothing where known cells are checked each by itself."""
    if ordered:
        assert settings.clock is not None
        return copies_of_gaps(observed, settings.clock, settings.seed)
    copies = copies_of_stretches(observed, settings.together, settings.seed)
    return [] if copies is None else [copies]


def _suits(entries: Entries, settings: Settings) -> str:
    return f"{described(entries)}: a noisy table"


TABLE = Solver(
    name="table",
    title="noisy tables of at most a few thousand columns",
    solve=solve_table,
    memory=_memory,
    suits=_suits,
    rescued=True,
    reads=frozenset({"iterations"}),
    shrinks=True,
)
TABLE_QUICK = Solver(
    name="table-quick",
    title="the same in one round, hardly less accurate",
    solve=solve_quickly,
    memory=_memory,
    reads=frozenset({"iterations"}),
    shrinks=True,
)

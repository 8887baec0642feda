"""The `table` solvers: factor analysis of columns of unit variance, then what trees and a kernel find in what it leaves over.

Every known cell is predicted as if it were unknown (see `_worlds`). So the error, the deviations of each column and the decision between
the model and means rest on all known cells, without a fit that lacks some of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from lowdim.completion.solvers._solver import (
    NORMAL_90,
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
from lowdim.completion.solvers.table import _factor_analysis as factor_analysis
from lowdim.completion.solvers.table._draws import Rows, draws, sizes_of
from lowdim.completion.solvers.table._holes import held_stretches, not_at_random
from lowdim.completion.solvers.table._in_time import Checked, InTime, follow_each_other
from lowdim.completion.solvers.table._second_stage import LEAST_ROWS, TRAINING_ROWS, SecondStage, fit_second_stage
from lowdim.completion.solvers.table._worlds import EXTREME, MOST_CELLS, PARTS, FactorModel, NormalScores

SWEEPS = 30
TOLERANCE = 3e-3  # of a cell, in root mean square
USED_ENERGY = 1e-4  # of a column's variance, on average, below which a latent does not count towards the rank
LEVEL = 0.9
FEWEST = 3  # entries from which a check says anything
POOLED = 10  # known cells of a column that weigh as much as all columns together in its deviations


@dataclass(frozen=True)
class TableCompletion:
    """The fitted stages of columns with these means and scales, and the rows that they were fitted to.

    Attributes:
        mean: ``(n,)``.
        scale: ``(n,)``, the deviation of each column.
        stage: Of the standardised columns.
        spread: ``(n,)``: a cell's deviation is this times the square root of the factor model's.
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
        loadings = self.stage.plain.loadings.mean[:, :-1]
        used = (loadings**2).mean(0) > USED_ENERGY
        plain = self.stage.plain
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
        distinct, place = np.unique(rows, return_inverse=True)
        return self._deviations(self.values[distinct], self.observed[distinct])[place, cols]

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
        stage, training = self.stage, (self.values, self.observed)
        rows = Rows(values, observed, self._modelled(values, observed, clock))
        sizes = sizes_of(stage.honest, self.values[stage.rows], stage.deviation)
        for draw in draws(rows, training, stage.plain.loadings, sizes, count, generator):
            yield self.mean + self.scale * draw

    def _modelled(self, values: Array, observed: Mask, clock: Array | None) -> Array:
        modelled = self.stage.complete(values, observed)
        if self.in_time is None or clock is None:
            return modelled
        return self.in_time.added(modelled, values, observed, clock)

    def deviations(self, entries: Entries) -> Array:
        """Of all cells of any rows, ``(m', n)``."""
        return self._deviations(*self._standardised(entries))

    def _deviations(self, values: Array, observed: Mask) -> Array:
        plain = self.stage.plain
        return self.scale * self.spread * np.sqrt(plain.predict(plain.inner(values), observed)[2])

    def _standardised(self, entries: Entries) -> tuple[Array, Mask]:
        values, observed = to_dense(entries)
        return np.where(observed, (values - self.mean) / self.scale, 0.0), observed


def _memory(entries: int, shape: tuple[int, int], rank: int) -> int:
    rows = min(shape[0], max(LEAST_ROWS, MOST_CELLS // ((PARTS + 1) * shape[1])), TRAINING_ROWS)
    worlds = rows * shape[1] * (PARTS + 1)
    return 20 * 2**20 + 150 * shape[0] * shape[1] + 56 * worlds


def solve_table(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Fit a table in two rounds; see the module.

    Cost: ``O(m n K^2)`` per sweep of the factor model, and what `fit_second_stage` says.
    """
    return _solve(entries, held, settings, start, rounds=2)


def solve_quickly(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Fit a table in one round."""
    return _solve(entries, held, settings, start, rounds=1)


def _solve(entries: Entries, held: Mask, settings: Settings, start: Completion | None, rounds: int) -> Solved:
    del (
        held
    )  # all known cells are predicted as if they were unknown, or stretches of them where holes come in stretches
    values, observed = to_dense(entries)
    completion = _stages(values, observed, settings, start, rounds)
    mean, scale, stage = completion.mean, completion.scale, completion.stage
    clock = settings.clock
    ordered = clock is not None and follow_each_other(observed, clock)
    stretches = held_stretches(observed, settings.together, settings.seed, ordered=ordered)
    honest = np.full(values.shape, np.nan)
    honest[stage.rows] = stage.honest
    single = [] if clock is None else [Checked.of(completion.values, honest, observed, observed, clock, others=True)]
    if stretches is not None:
        check = _stages(values, observed & ~stretches, settings, completion, rounds)
        if clock is not None:
            truth = (values - check.mean) / check.scale
            modelled = check.stage.complete(check.values, check.observed)
            together = Checked.of(truth, modelled, check.observed, stretches, clock)
            in_time = InTime.fit([*single, together], values.shape)
            check, completion = (replace(one, clock=clock, in_time=in_time) for one in (check, completion))
        rows, cols = np.nonzero(stretches)
        errors = np.full(values.shape, np.nan)
        variances = check._deviations(check.values, check.observed) ** 2 / check.spread**2
        errors[rows, cols] = np.abs(values[rows, cols] - check.predict(rows, cols)) / np.sqrt(variances[rows, cols])
        spread = _spread(errors)
        completion = replace(completion, spread=spread)
        predicted, deviations = check.predict(rows, cols), np.sqrt(variances[rows, cols]) * spread[cols]
    else:
        if clock is not None:
            in_time = InTime.fit(single, values.shape)
            completion = replace(completion, clock=clock, in_time=in_time)
            if in_time is not None:
                honest = in_time.added(honest, completion.values, observed, clock, others=True)
                errors = np.abs(completion.values - honest)[stage.rows] / np.sqrt(stage.deviation)
                completion = replace(completion, spread=_spread(errors))
        honest = honest[stage.rows]
        checked = ~np.isnan(honest) if entries.size >= FEWEST else np.zeros(honest.shape, bool)
        places, cols = np.nonzero(checked)
        rows = stage.rows[places]
        predicted = mean[cols] + scale[cols] * honest[checked]
        deviations = (scale * completion.spread * np.sqrt(stage.deviation))[checked]
    held_out = HeldOut(cols, values[rows, cols], predicted, deviations)
    mask = np.zeros(entries.shape, bool)
    mask[rows, cols] = True
    remarks = not_at_random(entries, completion, rows, held_out, settings.seed)
    return Solved(
        completion,
        held_out,
        remarks=remarks,
        checked=mask[entries.rows, entries.cols],
        reason="neighbours in time help" if completion.in_time else "",
        at_once=stretches is not None,
    )


def _stages(
    values: Array, observed: Mask, settings: Settings, start: Completion | None, rounds: int
) -> TableCompletion:
    """Both stages, fitted to the observed cells; deviations from the errors of single cells."""
    counts = np.maximum(observed.sum(0), 1)
    mean = np.where(observed, values, 0.0).sum(0) / counts
    centred = np.where(observed, values - mean, 0.0)
    scale = np.sqrt((centred**2).sum(0) / counts)
    scale[scale == 0] = 1.0
    standard = centred / scale
    rank = min(settings.rank or settings.max_rank, max(min(values.shape) - 1, 0))
    sweeps = min(SWEEPS, settings.iterations)
    earlier = start.stage.plain.loadings if isinstance(start, TableCompletion) else None
    fit = _fit(np.clip(standard, -EXTREME, EXTREME), observed, rank, sweeps, settings, earlier)
    scores = tuple(
        NormalScores.of(column[known] if known.any() else np.zeros(1))
        for column, known in zip(standard.T, observed.T, strict=True)
    )
    ranked = np.stack([score.forward(column) for score, column in zip(scores, standard.T, strict=True)], axis=1)
    scored = _fit(np.where(observed, ranked, 0.0), observed, rank, sweeps, settings, None)
    stage = fit_second_stage(
        standard,
        observed,
        FactorModel(fit.loadings),
        FactorModel(scored.loadings, scores),
        together=settings.together,
        rounds=rounds,
        seed=settings.seed,
    )
    spread = _spread(np.abs(standard[stage.rows] - stage.honest) / np.sqrt(stage.deviation))
    return TableCompletion(mean, scale, stage, spread, fit.iterations, fit.converged, standard, observed)


def _fit(
    values: Array,
    observed: Mask,
    rank: int,
    sweeps: int,
    settings: Settings,
    start: factor_analysis.Loadings | None,
) -> factor_analysis.Fit:
    stage = settings.journal.stage(sweeps)
    return factor_analysis.fit(values, observed, rank, sweeps=sweeps, tolerance=TOLERANCE, start=start, stage=stage)


def _spread(errors: Array) -> Array:
    """What makes intervals of `LEVEL` cover as many of the checked cells, column by column, drawn to that of all columns.

    Args:
        errors: ``(rows, n)``, their absolute errors over the deviations of the factor model; NaN elsewhere.
    """
    known = ~np.isnan(errors)
    if not known.any():
        return np.ones(errors.shape[1])
    overall = _quantile(errors[known])
    spread = np.full(errors.shape[1], overall)
    for column in np.flatnonzero(known.any(0)):
        own, count = _quantile(errors[known[:, column], column]), known[:, column].sum()
        spread[column] = np.exp((count * np.log(own) + POOLED * np.log(overall)) / (count + POOLED))
    return spread / NORMAL_90


def _quantile(errors: Array) -> float:
    """The conformal quantile: one more error, that of the cell to be filled, is as likely anywhere among these."""
    place = min(int(np.ceil(LEVEL * (errors.size + 1))), errors.size) - 1
    return max(float(np.sort(errors)[place]), 1e-12)


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

"""The stages of a table, how they are fitted, and what they say of any rows, in the units of its columns."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lowdim.completion.solvers._solver import Array, Completion, Entries, Indices, Mask, Settings, to_dense
from lowdim.completion.solvers.table import _factor_analysis as factor_analysis
from lowdim.completion.solvers.table._draws import Rows, draws, sizes_of
from lowdim.completion.solvers.table._in_time import CLASSES, InTime, interpolated
from lowdim.completion.solvers.table._second_stage import SecondStage, fit_second_stage
from lowdim.completion.solvers.table._worlds import EXTREME, FactorModel, NormalScores

SWEEPS = 30
TOLERANCE = 3e-3  # of a cell, in root mean square
USED_ENERGY = 1e-4  # of a column's variance, on average, below which a latent does not count towards the rank


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
        stage, training = self.stage, (self.values, self.observed)
        rows = Rows(values, observed, self._modelled(values, observed, clock))
        sizes = sizes_of(stage.honest, self.values[stage.rows], stage.deviation)
        for draw in draws(rows, training, stage.plain.loadings, sizes, count, generator):
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


def fit_stages(
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
    spread = np.ones((len(mean), CLASSES))
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

"""The `table` solver: variational factor analysis of columns of unit variance, then what similar rows know.

For noisy tables of at most a few thousand columns. The number of latents needs no search (see `_factor_analysis`), the share of the
neighbours' correction is chosen on the held-out entries.
"""

from dataclasses import dataclass

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
    to_dense,
)
from lowdim.completion.solvers.table import _factor_analysis as factor_analysis
from lowdim.completion.solvers.table._missingness import not_at_random
from lowdim.completion.solvers.table._neighbours import Neighbours

Loadings = factor_analysis.Loadings

FIRST_SWEEPS, LAST_SWEEPS = 30, 20
COLD_CELLS = 50_000  # below which the last fit starts afresh: slower, and .5 to 1 % better
TOLERANCE = 3e-3  # of a cell, in root mean square
EXTREME = 6.0  # deviations from the column's mean beyond which a value counts as this many in the fit of the loadings
USED_ENERGY = 1e-4  # of a column's variance, on average, below which a latent does not count towards the rank
TYPICAL_SHARE, SHARE_SPREAD = 0.5, 0.3  # of the correction that helps, over tables: the prior of its estimate
REFERENCE_ROWS = 5_000


@dataclass(frozen=True)
class TableCompletion:
    """Loadings of centred columns, and the reference rows of the neighbours' correction with its share."""

    mean: Array
    fit: factor_analysis.Fit
    neighbours: Neighbours
    share: float
    values: Array
    observed: Mask

    @property
    def iterations(self) -> int:
        return self.fit.iterations

    @property
    def converged(self) -> bool:
        return self.fit.converged

    @property
    def factors(self) -> tuple[Array, Array]:
        loadings = self.fit.loadings.mean[:, :-1]
        used = (loadings**2).mean(0) > USED_ENERGY
        latents = np.concatenate([mean for mean, _ in self._latents(self.values, self.observed)])
        return latents[:, :-1][:, used], loadings[:, used]

    def predict(self, rows: Indices, cols: Indices) -> Array:
        distinct, place = np.unique(rows, return_inverse=True)
        return self._complete(self.values[distinct], self.observed[distinct])[place, cols]

    def deviation(self, rows: Indices, cols: Indices) -> Array:
        distinct, place = np.unique(rows, return_inverse=True)
        blocks = self._latents(self.values[distinct], self.observed[distinct])
        variances = [factor_analysis.variances(self.fit.loadings, mean, covariance) for mean, covariance in blocks]
        return np.sqrt(np.concatenate(variances)[place, cols])

    def complete(self, entries: Entries) -> Array:
        return self._complete(*to_dense(entries))

    def parts(self, values: Array, observed: Mask) -> tuple[Array, Array]:
        """The low-rank model of rows and the full correction by their neighbours, both standardised."""
        modelled = modelled_rows(self.fit.loadings, values - self.mean, observed)
        if self.share == 0:
            return modelled, np.zeros_like(modelled)
        return modelled, self.neighbours.correction(values - self.mean, observed, modelled)

    def _complete(self, values: Array, observed: Mask) -> Array:
        modelled, correction = self.parts(values, observed)
        return modelled + self.share * correction + self.mean

    def _latents(self, values: Array, observed: Mask) -> list[tuple[Array, Array]]:
        return latent_blocks(self.fit.loadings, values - self.mean, observed)


def latent_blocks(loadings: Loadings, centred: Array, observed: Mask) -> list[tuple[Array, Array]]:
    """Posterior means and covariances of the latents, a block of rows at a time."""
    blocks = factor_analysis.row_blocks(len(centred), loadings.rank)
    limited = np.clip(centred, -EXTREME, EXTREME)
    return [factor_analysis.latents(loadings, limited[block], observed[block]) for block in blocks]


def modelled_rows(loadings: Loadings, centred: Array, observed: Mask) -> Array:
    """The low-rank part of rows, ``(rows, n)``."""
    parts = [mean @ loadings.mean.T for mean, _ in latent_blocks(loadings, centred, observed)]
    return np.concatenate(parts)


def solve_table(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Fit a table; see the module.

    Cost: ``O(m n K^2)`` per sweep, at most 50 sweeps, plus ``O(m min(m, 5000) n)`` for the neighbours.
    """
    values, observed = to_dense(entries)
    first, held_out, share = _first_fit(values, observed, entries, held, settings)
    again = None if values.size < COLD_CELLS else first.fit.loadings
    if isinstance(start, TableCompletion):
        again = start.fit.loadings
    completion = _fit(values, observed, settings, start=again, share=share)
    return Solved(
        completion, held_out, remarks=not_at_random(entries, completion, entries.rows[held], held_out, settings.seed)
    )


def check_table(entries: Entries, held: Mask, settings: Settings) -> HeldOut:
    """The check of `solve_table` alone, without the fit of all entries."""
    return _first_fit(*to_dense(entries), entries, held, settings)[1]


def _first_fit(
    values: Array, observed: Mask, entries: Entries, held: Mask, settings: Settings
) -> tuple[TableCompletion, HeldOut, float]:
    """The fit without the held-out entries, its predictions of them, and the share of the correction."""
    training = observed.copy()
    training[entries.rows[held], entries.cols[held]] = False
    first = _fit(values, training, settings, start=None, share=1.0)
    return first, *_check(first, values, training, entries, held)


def _fit(values: Array, observed: Mask, settings: Settings, *, start: Loadings | None, share: float) -> TableCompletion:
    mean = np.where(observed, values, 0.0).sum(0) / np.maximum(observed.sum(0), 1)
    centred = values - mean
    limited = np.clip(centred, -EXTREME, EXTREME)
    largest = max(min(values.shape) - 1, 0)
    rank = min(settings.rank or settings.max_rank, largest)
    sweeps = min(FIRST_SWEEPS if start is None else LAST_SWEEPS, settings.iterations)
    stage = settings.journal.stage(sweeps)
    fit = factor_analysis.fit(limited, observed, rank, sweeps=sweeps, tolerance=TOLERANCE, start=start, stage=stage)
    chosen = np.random.default_rng(settings.seed).permutation(len(values))[:REFERENCE_ROWS]
    chosen.sort()
    modelled = modelled_rows(fit.loadings, centred[chosen], observed[chosen])
    neighbours = Neighbours.of(centred[chosen], observed[chosen], modelled)
    return TableCompletion(mean, fit, neighbours, share, values, observed)


def _check(
    first: TableCompletion, values: Array, training: Mask, entries: Entries, held: Mask
) -> tuple[HeldOut, float]:
    """The predictions of the held-out entries, with the share of the correction that predicts them best."""
    rows, cols = entries.rows[held], entries.cols[held]
    modelled, correction = (part[rows, cols] for part in first.parts(values, training))
    missed = entries.values[held] - first.mean[cols] - modelled
    share = _helpful_share(missed, correction)
    predictions = first.mean[cols] + modelled + share * correction
    return HeldOut(cols, entries.values[held], predictions, first.deviation(rows, cols)), share


def _helpful_share(missed: Array, correction: Array) -> float:
    """The least-squares share of the correction in what the model missed, drawn to the typical one where entries are few."""
    if not correction.any():
        return 0.0
    weight = float(np.mean(missed**2)) / SHARE_SPREAD**2
    share = (missed @ correction + weight * TYPICAL_SHARE) / (correction @ correction + weight)
    return float(np.clip(share, 0.0, 1.0))

"""Biases only: a mean, a row effect and a column effect. What every completion has to beat, and falls back to."""

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lowdim.completion.entries import kernel, run_rows
from lowdim.completion.solvers._solver import Array, Completion, Entries, HeldOut, Indices, Mask, Settings, Solved

FOLDS = 5
SWEEPS = 20
PASS = 4  # multiply-adds that one entry counts as, of which a gathered effect is most
TOLERANCE = 1e-4  # relative change of the noise


@dataclass(frozen=True)
class Biases:
    """``x_ij = mean + rows_i + cols_j + noise`` with shrunk effects; a `Completion` of rank 0.

    Attributes:
        mean: The mean of the entries.
        rows: ``(m,)`` row effects, 0 for a row without entries.
        cols: ``(n,)`` column effects, 0 for a column without entries.
        row_damping: A row effect is the sum of its residuals over their number plus this: the ratio of the noise variance to the
            variance of the row effects, estimated from the data. Infinite where rows do not differ.
        noise: Root mean square of what remains.
        iterations: Sweeps taken.
        converged: Whether the noise has settled.
        col_damping: The same of the column effects.
    """

    mean: float
    rows: Array
    cols: Array
    row_damping: float
    noise: float
    iterations: int
    converged: bool
    col_damping: float = 1.0

    @property
    def factors(self) -> tuple[Array, Array]:
        return np.zeros((self.rows.size, 0)), np.zeros((self.cols.size, 0))

    def predict(self, rows: Indices, cols: Indices) -> Array:
        """As everywhere; a row or column -1 is one that training has not seen, whose effect is taken to be 0."""
        return self.mean + np.where(rows >= 0, self.rows[rows], 0.0) + np.where(cols >= 0, self.cols[cols], 0.0)

    def deviation(self, rows: Indices, cols: Indices) -> Array:
        """Of the noise, and of the unknown effects of rows and columns that training has not seen."""
        variances = self.noise**2 + (rows < 0) * np.var(self.rows) + (cols < 0) * np.var(self.cols)
        return np.sqrt(variances)

    def complete(self, entries: Entries) -> Array:
        return self.row_effects(entries)[:, None] + self.mean + self.cols

    def row_effects(self, entries: Entries) -> Array:
        """The effects of any rows, given their entries."""
        sums = _residual_sums(entries.row_start, entries.cols, entries.values - self.mean, self.cols)
        return _shrunk(sums, entries.row_counts, self.row_damping)


def solve_biases(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Biases as a solver; it has no settings and starts afresh."""
    training = fit_biases(entries.select(~held))
    return Solved(fit_biases(entries, start=training), HeldOut.of(training, entries, held))


def cross_validated_biases(entries: Entries, checked: Mask, seed: int) -> HeldOut:
    """Predictions of these entries by biases that were fitted without their fifth."""
    if not checked.any():
        return HeldOut.of(fit_biases(entries), entries, checked)
    fold = np.random.default_rng(seed).permutation(entries.size) % FOLDS
    parts = [HeldOut.of(fit_biases(entries.select(fold != k)), entries, checked & (fold == k)) for k in range(FOLDS)]
    order = np.argsort(np.concatenate([np.flatnonzero(checked & (fold == k)) for k in range(FOLDS)]))
    joined = functools.reduce(HeldOut.joined, parts)
    return HeldOut(joined.cols[order], joined.values[order], joined.predictions[order], joined.deviations[order])


def fit_biases(entries: Entries, start: Biases | None = None) -> Biases:
    """Fit the effects in turn, each damped by its signal-to-noise ratio (empirical Bayes). Costs ``O(|Omega|)`` per sweep.

    A `start` from most of the same entries saves sweeps.
    """
    mean = float(entries.values.mean())
    centred, (m, n) = entries.values - mean, entries.shape
    col_start, col_rows, by_col = entries.by_columns(centred)
    rows = np.zeros(m) if start is None else start.rows
    row_counts, col_counts = entries.row_counts, np.diff(col_start)
    row_damping, col_damping = (1.0, 1.0) if start is None else (start.row_damping, start.col_damping)
    variance, sweeps, converged = float(np.var(centred)) if start is None else start.noise**2, 0, False
    cols, squares = np.zeros(n), np.empty(m)
    while sweeps < SWEEPS and not converged:
        sweeps += 1
        cols = _shrunk(_residual_sums(col_start, col_rows, by_col, rows), col_counts, col_damping)
        rows = _shrunk(_residual_sums(entries.row_start, entries.cols, centred, cols), row_counts, row_damping)
        run_rows(add_squares, entries.row_start, PASS * entries.size, entries.cols, centred, rows, cols, squares)
        previous, variance = variance, float(squares.sum()) / entries.size
        row_damping = _damping(rows, row_counts, row_damping, variance)
        col_damping = _damping(cols, col_counts, col_damping, variance)
        converged = abs(previous - variance) <= TOLERANCE * previous
    biases = Biases(mean, rows, cols, row_damping, float(np.sqrt(variance)), sweeps, converged, col_damping)
    return replace(biases, rows=biases.row_effects(entries))  # as those of new rows


def _shrunk(sums: Array, counts: Indices, damping: float) -> Array:
    """The damped means; 0 without entries, where also the damping may be 0."""
    return np.divide(sums, counts + damping, out=np.zeros_like(sums), where=counts > 0)


def _damping(effects: Array, counts: Indices, damping: float, variance: float) -> float:
    """Noise variance over the second moment of the effects that have entries, with their posterior variances."""
    seen = counts > 0
    spread = float(np.mean(effects[seen] ** 2 + variance / (counts[seen] + damping)))
    return variance / spread if spread > 0 else 1.0


def _residual_sums(start: Any, others: Indices, values: Array, effects: Array) -> Array:
    """The sum over each row (or column) of its values less the effects of their columns (or rows)."""
    sums = np.empty(start.size - 1)
    run_rows(add_residuals, start, PASS * others.size, others, values, effects, sums)
    return sums


@kernel
def add_residuals(first: Any, last: Any, start: Any, others: Any, values: Any, effects: Any, sums: Any) -> None:
    for i in range(first, last):
        total = 0.0
        for t in range(start[i], start[i + 1]):
            total += values[t] - effects[others[t]]
        sums[i] = total


@kernel
def add_squares(first: Any, last: Any, start: Any, cols: Any, values: Any, rows: Any, effects: Any, sums: Any) -> None:
    for i in range(first, last):
        total = 0.0
        for t in range(start[i], start[i + 1]):
            residual = values[t] - rows[i] - effects[cols[t]]
            total += residual * residual
        sums[i] = total

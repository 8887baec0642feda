"""What several solvers answer with: a product of factors (`als`, `exact`, `gd`), biases only, and the one guarded by the other.

Biases are a mean, a row effect and a column effect: what every completion has to beat, and falls back to.
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from scipy.optimize import brentq

from lowdim._compiled import kernel, run_rows
from lowdim.completion.entries import Entries, pair_products, solve_rows
from lowdim.completion.solvers._solver import (
    Array,
    Completion,
    HeldOut,
    Indices,
    Mask,
    Settings,
    Solved,
    root_mean_square,
)

SWEEPS = 60
PASS = 4  # multiply-adds that one entry counts as, of which a gathered effect is most
TOLERANCE = 1e-7  # of the noise, in any effect
ROUNDING = 1e-13  # of the deviation of the entries, for a matrix without noise
LEAST_LEFT = 1e-9  # of the degrees of freedom, for the noise
WIDEST = 30.0  # logarithm of the largest damping
DAMPINGS = 1e-6, 1e12  # what counts as none, and as endless, in a system of equations


@dataclass(frozen=True)
class FactorCompletion:
    """A product of factors, of which the last are the biases if `biased`.

    Attributes:
        mean: The mean that was subtracted.
        left: ``(m, k)``.
        right: ``(n, k)``.
        biased: Whether the last factors are biases.
        decay: ``(k,)``, of the squared factors.
        noise: Root mean square residual, corrected for the degrees of freedom.
        counts: Entries of each row and each column.
        iterations: Sweeps of the last fit.
        converged: Whether the residual has vanished or stopped falling.
    """

    mean: float
    left: Array
    right: Array
    biased: bool
    decay: Array
    noise: float
    counts: tuple[Indices, Indices]
    iterations: int
    converged: bool

    @property
    def factors(self) -> tuple[Array, Array]:
        rank = self.left.shape[1] - self.biased
        return self.left[:, :rank].astype(np.float64), self.right[:, :rank].astype(np.float64)

    def predict(self, rows: Indices, cols: Indices) -> Array:
        return self.mean + pair_products(self.left, self.right, rows, cols, self.biased).astype(np.float64)

    def deviation(self, rows: Indices, cols: Indices) -> Array:
        """Of a new observation: noise, and the leverages of the pair in the row's and the column's regression.

        The Gram matrix of a row is taken to be that of all columns times its share of the entries.
        """
        leverage = _leverage(self.right, self.biased)[cols] / np.maximum(self.counts[0][rows], 1)
        leverage += _leverage(self.left, self.biased)[rows] / np.maximum(self.counts[1][cols], 1)
        return self.noise * np.sqrt(1.0 + leverage)

    def complete(self, entries: Entries) -> Array:
        left = np.empty((entries.shape[0], self.right.shape[1]), self.right.dtype)
        values = (entries.values - self.mean).astype(left.dtype)
        solve_rows(entries.row_start, entries.cols, values, self.right, self.decay, biased=self.biased, out=left)
        if not self.biased:
            return self.mean + (left @ self.right.T).astype(np.float64)
        product = (left[:, :-1] @ self.right[:, :-1].T).astype(np.float64)
        return self.mean + product + left[:, -1:] + self.right[:, -1]


class Recovered(Protocol):
    """An answer of `exact` or `gd`: ``U diag(singular_values) V.T``, of which the first `rank` count (gd's network is wider)."""

    @property
    def U(self) -> Array: ...
    @property
    def V(self) -> Array: ...
    @property
    def singular_values(self) -> Array: ...
    @property
    def rank(self) -> int: ...
    @property
    def relative_residual(self) -> float: ...
    @property
    def iterations(self) -> int: ...
    @property
    def converged(self) -> bool: ...
    @property
    def sure(self) -> bool: ...
    @property
    def reason(self) -> str: ...


def factor_completion(answer: Recovered, entries: Entries) -> FactorCompletion:
    """The completion that a recovery of these entries gives."""
    rank = answer.rank
    left, right = answer.U[:, :rank] * answer.singular_values[:rank], np.ascontiguousarray(answer.V[:, :rank])
    size = root_mean_square(entries.values)
    noise = unbiased_noise(answer.relative_residual * size, size, rank, entries.shape, entries.size)
    counts = entries.row_counts, entries.col_counts
    return FactorCompletion(0.0, left, right, False, np.zeros(rank), noise, counts, answer.iterations, answer.converged)


def solved(answer: Recovered, entries: Entries, held_out: HeldOut) -> Solved:
    """A recovery, and how sure it is."""
    remarks = () if answer.sure else (f"The recovery is not sure: {answer.reason}.",)
    return Solved(factor_completion(answer, entries), held_out, answer.sure, remarks, answer.reason)


def unbiased_noise(residual: float, size: float, rank: int, shape: tuple[int, int], entries: int) -> float:
    """Noise that leaves this root mean square residual when every parameter has taken one of the entries.

    At least a rounding error of values of this size, so that deviations are never 0.
    """
    parameters = rank * (sum(shape) - rank)
    return max(residual / float(np.sqrt(max(1 - parameters / entries, 0.1))), 1e-12 * size)


def _leverage(factor: Array, biased: bool) -> Array:
    """``f^T C^-1 f`` of each row ``f`` of a factor with second moment ``C``; on average the number of factors."""
    features = factor.astype(np.float64)
    if biased:
        features[:, -1] = 1.0
    moment = features.T @ features / len(features)
    return np.einsum("ia,ab,ib->i", features, np.linalg.pinv(moment, hermitian=True), features)


@dataclass(frozen=True)
class Biases:
    """``x_ij = mean + rows_i + cols_j + noise`` with shrunk effects; a `Completion` of rank 0.

    Attributes:
        mean: The mean of the entries.
        rows: ``(m,)`` row effects, 0 for a row without entries.
        cols: ``(n,)`` column effects, 0 for a column without entries.
        row_damping: A row effect is the sum of its residuals over their number plus this: the ratio of the noise variance to the
            variance of the row effects, estimated from the data. Infinite where rows do not differ.
        col_damping: The same of columns.
        noise: Root mean square of what remains, per degree of freedom.
        iterations: Sweeps taken.
        converged: Whether the effects have settled.
    """

    mean: float
    rows: Array
    cols: Array
    row_damping: float
    col_damping: float
    noise: float
    iterations: int
    converged: bool

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


@dataclass(frozen=True)
class Guarded:
    """A completion whose rows and columns with fewer than ``least`` entries are completed by biases only."""

    inner: Completion
    biases: Completion
    least: int
    thin_rows: Mask
    thin_cols: Mask

    @staticmethod
    def around(inner: Completion, biases: Completion, entries: Entries, least: int) -> "Guarded":
        return Guarded(inner, biases, least, entries.row_counts < least, entries.col_counts < least)

    @property
    def factors(self) -> tuple[Array, Array]:
        return self.inner.factors

    @property
    def iterations(self) -> int:
        return self.inner.iterations

    @property
    def converged(self) -> bool:
        return self.inner.converged

    def predict(self, rows: Indices, cols: Indices) -> Array:
        thin = self.thin_rows[rows] | self.thin_cols[cols]
        return np.where(thin, self.biases.predict(rows, cols), self.inner.predict(rows, cols))

    def deviation(self, rows: Indices, cols: Indices) -> Array:
        thin = self.thin_rows[rows] | self.thin_cols[cols]
        return np.where(thin, self.biases.deviation(rows, cols), self.inner.deviation(rows, cols))

    def complete(self, entries: Entries) -> Array:
        thin = (entries.row_counts < self.least)[:, None] | self.thin_cols
        return np.where(thin, self.biases.complete(entries), self.inner.complete(entries))


def solve_biases(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Biases as a solver; it has no settings and starts afresh."""
    training = fit_biases(entries.select(~held))
    return Solved(fit_biases(entries, start=training), HeldOut.of(training, entries, held))


def left_out_biases(entries: Entries, checked: Mask) -> HeldOut:
    """Predictions of these entries, each by effects that were fitted without it, under the damping of all."""
    biases = fit_biases(entries)
    fitted = HeldOut.of(biases, entries, checked)
    left = (fitted.values - fitted.predictions) / (1 - _leverages(entries, biases)[checked])
    return replace(fitted, predictions=fitted.values - left)


def _leverages(entries: Entries, biases: Biases) -> Array:
    """How much of each entry its own prediction takes up: the diagonal of the projection of the damped least squares.

    The effects of the longer side are eliminated; the matrix that is left is that of the mean and the shorter side.
    """
    dampings = np.clip([biases.row_damping, biases.col_damping], *DAMPINGS)
    sides = zip((entries.rows, entries.cols), (entries.row_counts, entries.col_counts), dampings, strict=True)
    (short, few, own), (long, many, damping) = sorted(sides, key=lambda side: side[1].size)
    known = np.zeros((many.size, few.size + 1))
    known[long, short + 1], known[:, 0] = 1.0, many
    shares = known / (many + damping)[:, None]
    normal = np.diag(np.r_[entries.size, few + own])
    normal[0, 1:] = normal[1:, 0] = few
    inverse = np.linalg.inv(normal - shares.T @ known)
    of_short = inverse[0, 0] + 2 * inverse[0, 1:] + np.diag(inverse)[1:]
    across = shares @ inverse
    of_long = 1 / (many + damping) + (across * shares).sum(1) - 2 * across[:, 0]
    return of_short[short] + of_long[long] - 2 * across[long, short + 1]


def fit_biases(entries: Entries, start: Biases | None = None) -> Biases:
    """Fit the effects in turn, their variances by restricted maximum likelihood. Costs ``O(|Omega|)`` per sweep.

    Each sweep takes the most likely damping given the residual sums of a side, and the noise that leaves these residuals when the effects
    have taken their degrees of freedom. A `start` from most of the same entries saves sweeps and changes nothing else.
    """
    mean = float(entries.values.mean())
    centred, (m, n) = entries.with_values(entries.values - mean), entries.shape
    row_counts, col_counts = entries.row_counts, entries.col_counts
    spread = float(np.std(centred.values))
    rows, noise = (np.zeros(m), spread) if start is None else (start.rows, start.noise)
    cols, squares, level = np.zeros(n), np.empty(m), 0.0  # level: of the mean above that of the entries
    row_damping, col_damping, sweeps, converged = float("inf"), float("inf"), 0, False
    while sweeps < SWEEPS and not converged:
        sweeps += 1
        before = rows, cols
        sums = centred.column_sums(rows + level)
        col_damping = _damping(sums, col_counts, noise)
        cols, shift = _centred(_shrunk(sums, col_counts, col_damping), col_counts)
        level += shift
        sums = _residual_sums(entries.row_start, entries.cols, centred.values, cols + level)
        row_damping = _damping(sums, row_counts, noise)
        rows, shift = _centred(_shrunk(sums, row_counts, row_damping), row_counts)
        level += shift
        run_rows(
            add_squares,
            entries.row_start,
            PASS * entries.size,
            entries.cols,
            centred.values,
            rows + level,
            cols,
            squares,
        )
        taken = 1 + _shrunk(1.0 * row_counts, row_counts, row_damping).sum()  # degrees of freedom
        taken += _shrunk(1.0 * col_counts, col_counts, col_damping).sum()
        noise = float(np.sqrt(squares.sum() / max(entries.size - taken, LEAST_LEFT * entries.size)))
        change = max(float(np.abs(new - old).max()) for new, old in zip((rows, cols), before, strict=True))
        converged = change <= TOLERANCE * noise + ROUNDING * spread
    biases = Biases(mean + level, rows, cols, row_damping, col_damping, noise, sweeps, converged)
    return replace(biases, rows=biases.row_effects(entries))  # as those of new rows


def _centred(effects: Array, counts: Indices) -> tuple[Array, float]:
    """The effects of what has entries less their mean, and that: it belongs to the mean of all, which nothing shrinks."""
    seen = counts > 0
    shift = float(effects[seen].mean())
    return np.where(seen, effects - shift, 0.0), shift


def _shrunk(sums: Array, counts: Indices, damping: float) -> Array:
    """The damped means; 0 without entries, where also the damping may be 0."""
    return np.divide(sums, counts + damping, out=np.zeros_like(sums), where=counts > 0)


def _damping(sums: Array, counts: Indices, noise: float) -> float:
    """Noise variance over that of the effects with the largest likelihood, given the residual sums; infinite where there are no effects."""
    if noise == 0:
        return 0.0
    members, energy = np.bincount(counts), np.bincount(counts, (sums / noise) ** 2)
    sizes = 1.0 + np.flatnonzero(members[1:])
    members, energy = (part[1:][members[1:] > 0] for part in (members, energy))

    def slope(logarithm: float) -> float:
        damping = np.exp(logarithm)
        return float(((energy * damping / (sizes + damping) - sizes * members) / (sizes + damping)).sum())

    if slope(-WIDEST) >= 0 or slope(WIDEST) <= 0:
        return 0.0 if slope(-WIDEST) >= 0 else float("inf")
    return float(np.exp(float(brentq(slope, -WIDEST, WIDEST, xtol=1e-12))))  # pyright: ignore[reportArgumentType]


def _residual_sums(start: Any, others: Indices, values: Array, effects: Array) -> Array:
    """The sum over each row of its values less the effects of their columns."""
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

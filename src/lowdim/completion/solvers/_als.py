"""The `als` solver: over-relaxed alternating least squares, for many entries.

A sweep solves for all row factors and then for all column factors (see `_least_squares`). Each half is over-relaxed by
``w = 2 / (1 + sqrt(1 - rate))``, with the rate of convergence measured on a sample of the entries, once the residual is below .2: on
the plateau before, over-relaxation diverges. Biases are factors that are held at 1 on one side.

The rank is doubled until held-out entries gain nothing, and then truncated. In noise, the decay is that of a deep linear network:
the Schatten-p quasi-norm with ``p = 2 / depth`` as a quadratic, with weights ``p s^(p - 1)`` in the basis of the singular vectors,
and a strength chosen on held-out entries.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from lowdim.completion.entries import Entries, pair_products, solve_rows
from lowdim.completion.solvers._completions import Biases, FactorCompletion, fit_biases, unbiased_noise
from lowdim.completion.solvers._solver import (
    Array,
    Completion,
    HeldOut,
    Indices,
    Mask,
    Settings,
    Solved,
    Solver,
    described,
    root_mean_square,
    singular_values,
)

SINGLE_PRECISION_SIZE = 1_000_000  # entries from which the factors are float32
SAMPLE = 100_000  # entries on which the residual is measured
SUBSPACE_STEPS = 2
LARGEST_RELAXATION = 1.35
RELAXED_BELOW = 0.2  # relative residual
STALLED_SWEEPS, STALLED_BELOW = 3, 1  # in a row, whose residual falls by less than the next; and below `RELAXED_BELOW`
STALL = 1e-4  # of the residual
SOON = 0.02  # of the residual: what a fit that is only a check or a start may still have before it
GAIN = 0.99  # of the held-out error, which a doubled rank or another sweep of the search must go below
SURPLUS = 1.02  # of the lowest held-out error, which a lower rank may cost
EXACT = 1e-3  # relative held-out error below which there is no noise to regularise against
STRENGTHS = (0.3, 1.0, 3.0)
JUDGES = 20_000  # held-out entries that are enough to compare strengths
BIASES_EXPLAIN = 0.02  # of the variance, from which on biases are tried


@dataclass(frozen=True)
class TwoOrders:
    """The entries by rows and by columns, less a mean, in the precision of the factors, and a sample of them."""

    shape: tuple[int, int]
    row_start: NDArray[np.int64]
    cols: NDArray[np.int32]
    by_row: Array
    col_start: NDArray[np.int64]
    rows: NDArray[np.int32]
    by_col: Array
    sample: tuple[Indices, Indices, Array]

    @staticmethod
    def of(entries: Entries, mean: float) -> "TwoOrders":
        dtype = np.float32 if entries.size >= SINGLE_PRECISION_SIZE else np.float64
        by_row = np.subtract(entries.values, mean, out=np.empty(entries.size, dtype), casting="same_kind")
        start, rows, by_col = entries.by_columns(by_row)
        step = max(1, entries.size // SAMPLE)
        sample = entries.rows[::step], entries.cols[::step], by_row[::step]
        return TwoOrders(entries.shape, entries.row_start, entries.cols, by_row, start, rows, by_col, sample)

    def rescaled(self, units: Array) -> "TwoOrders":
        """The same with the columns multiplied by these units; the mean that was taken off must be 0."""
        units = units.astype(self.by_row.dtype)
        rows, cols, values = self.sample
        return replace(
            self,
            by_row=self.by_row * units[self.cols],
            by_col=self.by_col * np.repeat(units, np.diff(self.col_start)),
            sample=(rows, cols, values * units[cols]),
        )

    def relative_residual(self, left: Array, right: Array, biased: bool) -> float:
        rows, cols, values = self.sample
        residual = values - pair_products(left, right, rows, cols, biased)
        size = root_mean_square(values.astype(np.float64))
        return root_mean_square(residual.astype(np.float64)) / size if size > 0 else 0.0


@dataclass(frozen=True)
class Fit:
    """Factors, the decay they were fitted with, and how the fit ended."""

    left: Array
    right: Array
    decay: Array
    iterations: int
    converged: bool


def solve_als(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Fit by alternating least squares; see the module.

    Cost: ``O(|Omega| k^2)`` per sweep, and about 30 bytes of memory per entry.
    """
    training = entries.select(~held)
    searches = [_Search.of(training, entries, held, biases, settings) for biases in _biases(training, settings)]
    fits = [search.fit(settings.rank) if settings.rank else search.best_rank() for search in searches]
    errors = [search.error(fit) for search, fit in zip(searches, fits, strict=True)]
    best = errors.index(min(errors))
    search, fit = searches[best], fits[best]
    units = settings.units
    one_scale = False
    if units is not None and search.is_uniform(fit, units):
        one_scale = True  # dividing the columns has made the noise uneven, which is not in the model
        entries = entries.with_values(entries.values * units[entries.cols])
        search, fit = search.rescaled(fit, entries, held, units)
    fit, strength = search.best_strength(fit)
    held_out = search.check(fit, entries, held)
    model = fit.left.shape, search.biased
    if isinstance(start, FactorCompletion) and (start.left.shape, start.biased) == model:
        fit = replace(fit, left=start.left, right=start.right)
    problem = TwoOrders.of(entries, search.mean)
    fit = alternate(
        problem, fit.left, fit.right, biased=search.biased, strength=strength, settings=settings, soon=STALL
    )
    return Solved(_completion(fit, problem, search.mean, search.biased), held_out, one_scale=one_scale)


def alternate(
    problem: TwoOrders,
    left: Array,
    right: Array,
    *,
    biased: bool,
    strength: float,
    settings: Settings,
    soon: float = 0.0,
) -> Fit:
    """Sweeps until the residual is half the tolerance (the last half-sweep lowers it further) or has stopped falling.

    It also ends where all falls to come are less than `soon` of the residual, if each is to the one before as the last one was.
    """
    stage = settings.journal.stage(settings.iterations)
    saved = stage.saved()
    if saved is not None:
        left, right, decay = saved["left"], saved["right"], saved["decay"]
        residual, lowest, relaxation, stalled, sweep, fall = saved["numbers"].tolist()
    else:
        decay = np.zeros(right.shape[1], right.dtype)
        residual = min(problem.relative_residual(left, right, biased), 1.0)
        lowest = math.inf  # the start may fit better, under less decay
        relaxation, stalled, sweep, fall = 1.0, 0, 0, 0.0
    while sweep == 0 or (
        sweep < settings.iterations and not _has_stalled(stalled, residual) and residual > settings.tolerance / 2
    ):
        sweep += 1
        if strength > 0 or residual > RELAXED_BELOW:
            left, right, sizes = balanced(left, right, biased)
            decay[: sizes.size] = _decay(sizes, strength, problem, residual, settings.depth)
        else:
            decay[:] = 0
        left = _relaxed(left, _half(problem, right, decay, biased, rows=True), relaxation)
        right = _relaxed(right, _half(problem, left, decay, biased, rows=False), relaxation)
        previous, residual = residual, problem.relative_residual(left, right, biased)
        relaxing = residual < RELAXED_BELOW and previous > 0  # 0: the start fits exactly
        relaxation = _relaxation(relaxation, residual / previous) if relaxing else 1.0
        before, fall = fall, previous - residual
        over = residual > (1 - STALL) * lowest or abs(fall) < STALL * residual
        over = over or fall**2 < soon * residual * (before - fall)
        stalled = stalled + 1 if over else 0
        lowest = min(lowest, residual)
        numbers = np.array([residual, lowest, relaxation, stalled, sweep, fall])
        stage.report(int(sweep), lambda: {"left": left, "right": right, "decay": decay, "numbers": numbers})  # noqa: B023
    left = _half(problem, right, decay, biased, rows=True)
    return Fit(left, right, decay, int(sweep), residual <= settings.tolerance / 2 or _has_stalled(stalled, residual))


def _has_stalled(stalled: float, residual: float) -> bool:
    """Whether so many sweeps without gain are the end: on the plateau before the descent it takes more of them."""
    return stalled >= (STALLED_SWEEPS if residual > RELAXED_BELOW else STALLED_BELOW)


def _decay(sizes: Array, strength: float, problem: TwoOrders, residual: float, depth: int) -> Array:
    """Of the squared factors: the quasi-norm's, and on the plateau at least what a residual of this size calls for.

    Without the latter, a row and a column that share few other entries can grow together without bound. The prior variance of
    balanced factors with singular value ``s`` is ``s / sqrt(m n)``.
    """
    if sizes[0] == 0:
        return np.zeros_like(sizes)
    sizes = np.maximum(sizes, 1e-3 * sizes[0])
    p = 2.0 / depth
    decay = strength * p * sizes ** (p - 1)
    if residual <= RELAXED_BELOW:
        return decay
    noise = residual**2 * float(np.mean(problem.sample[2].astype(np.float64) ** 2))
    return np.maximum(decay, noise * math.sqrt(math.prod(problem.shape)) / sizes)


def _half(problem: TwoOrders, other: Array, decay: Array, biased: bool, *, rows: bool) -> Array:
    out = np.empty((problem.shape[0 if rows else 1], other.shape[1]), other.dtype)
    order = (problem.row_start, problem.cols, problem.by_row)
    if not rows:
        order = (problem.col_start, problem.rows, problem.by_col)
    solve_rows(*order, other, decay, biased=biased, out=out)
    return out


def _relaxed(old: Array, new: Array, relaxation: float) -> Array:
    if relaxation != 1.0:
        new -= old
        new *= new.dtype.type(relaxation)
        new += old
    return new


def _relaxation(current: float, rate: float) -> float:
    """The best relaxation, from the rate of convergence under the current one (Young's formula for two blocks)."""
    if not max(current - 1, 1e-12) <= rate < 1:
        return 1 + (current - 1) / 2
    squared = min((rate + current - 1) ** 2 / (current**2 * rate), 0.999)
    return min(2 / (1 + np.sqrt(1 - squared)), LARGEST_RELAXATION)


def balanced(left: Array, right: Array, biased: bool) -> tuple[Array, Array, Array]:
    """The same product with orthogonal factors of equal norms, the roots of the singular values, which come third."""
    rank = left.shape[1] - biased
    halves = [_half_of_gram(factor[:, :rank]) for factor in (left, right)]
    first, sizes, second = np.linalg.svd(halves[0][0].T @ halves[1][0])
    out: list[Array] = []
    for factor, (_, inverse), turn in zip((left, right), halves, (first, second.T), strict=True):
        changed = factor.copy()
        changed[:, :rank] = factor[:, :rank] @ (inverse @ turn * np.sqrt(sizes)).astype(factor.dtype)
        out.append(changed)
    return out[0], out[1], sizes


def _half_of_gram(factor: Array) -> tuple[Array, Array]:
    """``H`` with ``H H^T = F^T F``, and ``H^-T`` (0 in directions that the factor lacks)."""
    values, vectors = np.linalg.eigh((factor.T @ factor).astype(np.float64))
    known = values > values[-1] * 1e-12
    roots = np.sqrt(np.where(known, values, 0.0))
    return vectors * roots, vectors * np.where(known, 1 / np.where(known, roots, 1.0), 0.0)


def spectral_start(problem: TwoOrders, rank: int, biases: Biases | None, seed: int) -> tuple[Array, Array]:
    """Factors in the leading singular subspace of the entries with zeros (less biases) in the holes, scaled to fit."""
    dtype = problem.by_row.dtype
    by_row, by_col = problem.by_row, problem.by_col
    if biases is not None:
        # TwoOrders has no row of each entry by rows, nor column by columns; repeat the effects instead.
        by_row = by_row - biases.cols[problem.cols] - np.repeat(biases.rows, np.diff(problem.row_start))
        by_col = by_col - biases.rows[problem.rows] - np.repeat(biases.cols, np.diff(problem.col_start))
        by_row, by_col = by_row.astype(dtype), by_col.astype(dtype)
    right = np.random.default_rng(seed).standard_normal((problem.shape[1], rank)).astype(dtype)
    matrix = scipy.sparse.csr_array((by_row, problem.cols, problem.row_start), shape=problem.shape)
    left = np.empty((problem.shape[0], rank), dtype)
    for _ in range(SUBSPACE_STEPS):
        left = matrix @ right
        left = left @ _half_of_gram(left)[1].astype(dtype)
        right = matrix.T @ left
    share = problem.cols.size / (problem.shape[0] * problem.shape[1])
    right /= dtype.type(share)
    if biases is not None:
        left = np.column_stack([left, biases.rows]).astype(dtype)
        right = np.column_stack([right, biases.cols]).astype(dtype)
    return left, right


@dataclass(frozen=True)
class _Search:
    """The fit of the training entries, judged by the held-out ones."""

    problem: TwoOrders
    mean: float
    biases: Biases | None
    held: tuple[Indices, Indices, Array]
    spread: float
    largest: int
    settings: Settings

    @staticmethod
    def of(training: Entries, entries: Entries, held: Mask, biases: Biases | None, settings: Settings) -> "_Search":
        mean = biases.mean if biases is not None else 0.0
        places = np.flatnonzero(held)
        values = entries.values[places]
        return _Search(
            TwoOrders.of(training, mean),
            mean,
            biases,
            (entries.rows[places], entries.cols[places], values),
            root_mean_square(values - mean),
            max(min(settings.max_rank, min(entries.shape) - 1), 1),
            settings,
        )

    @property
    def biased(self) -> bool:
        return self.biases is not None

    def fit(self, rank: int) -> Fit:
        return self._from(*spectral_start(self.problem, rank, self.biases, self.settings.seed))

    def _from(self, left: Array, right: Array) -> Fit:
        return alternate(self.problem, left, right, biased=self.biased, strength=0.0, settings=self.settings, soon=SOON)

    def error(self, fit: Fit) -> float:
        rows, cols, values = self.held
        return root_mean_square(values - self.mean - pair_products(fit.left, fit.right, rows, cols, self.biased))

    def is_uniform(self, fit: Fit, units: Array) -> bool:
        """As `HeldOut.is_uniform`, of about `SAMPLE` held-out entries, or all."""
        rows, cols, values = self.held
        step = max(1, values.size // SAMPLE)
        rows, cols, values = rows[::step], cols[::step], values[::step]
        predictions = self.mean + pair_products(fit.left, fit.right, rows, cols, self.biased)
        return HeldOut(cols, values, predictions, np.zeros_like(values)).is_uniform(units)

    def check(self, fit: Fit, entries: Entries, held: Mask) -> HeldOut:
        return HeldOut.of(_completion(fit, self.problem, self.mean, self.biased), entries, held)

    def rescaled(self, fit: Fit, entries: Entries, held: Mask, units: Array) -> "tuple[_Search, Fit]":
        """The search and the fit for the same entries with their columns multiplied by these units."""
        if self.biased:  # the effects of rows are no longer the same in all columns
            training = entries.select(~held)
            search = _Search.of(training, entries, held, fit_biases(training), self.settings)
            return search, search.fit(fit.left.shape[1] - 1)
        rows, cols, values = self.held
        values = values * units[cols]
        search = replace(
            self,
            problem=self.problem.rescaled(units),
            held=(rows, cols, values),
            spread=root_mean_square(values),
        )
        return search, replace(fit, right=fit.right * units[:, None].astype(fit.right.dtype))

    def best_rank(self) -> Fit:
        """Double the rank until the held-out error gains nothing; then the lowest rank that costs nothing."""
        rank = min(2, self.largest)
        best = self.fit(rank)
        while rank < self.largest and self.error(best) > EXACT * self.spread:
            rank = min(2 * rank, self.largest)
            larger = self.fit(rank)
            if not self.error(larger) < GAIN * self.error(best):
                break
            best = larger
        left, right, _ = balanced(best.left, best.right, self.biased)
        columns = left.shape[1] - self.biased
        errors = [self.error(_truncated(left, right, r, self.biased)) for r in range(1, columns + 1)]
        allowed = max(SURPLUS * min(errors), EXACT * self.spread)
        fitting = [r for r, error in enumerate(errors, 1) if error <= allowed]
        if not fitting or fitting[0] == columns:
            return best
        lower = _truncated(left, right, fitting[0], self.biased)
        return self._from(lower.left, lower.right)

    def best_strength(self, fit: Fit) -> tuple[Fit, float]:
        """The strength of the decay that predicts held-out entries best, in units of the Bayesian one, and a fit that has it."""
        if not self.error(fit) > EXACT * self.spread:
            return fit, 0.0
        sizes, p = singular_values(_completion(fit, self.problem, 0.0, self.biased).factors), 2 / self.settings.depth
        middle = float(np.exp(np.mean(np.log(np.maximum(sizes, 1e-12)))))
        unit = _noise(fit, self.problem, self.biased) ** 2 * math.sqrt(math.prod(self.problem.shape)) / (p * middle**p)
        problem, rows = self.problem, self.problem.shape[0] >= self.problem.shape[1]
        left, right, sizes = balanced(fit.left, fit.right, self.biased)
        residual = problem.relative_residual(left, right, self.biased)

        def decay(strength: float) -> Array:
            out = np.zeros(right.shape[1], right.dtype)
            out[: sizes.size] = _decay(sizes, strength, problem, residual, self.settings.depth)
            return out

        trial, strength = self._trial(right if rows else left, rows), 0.0
        least = trial(decay(strength))
        for factor in STRENGTHS:
            error = trial(decay(factor * unit))
            if not error <= least:  # on the plateau, small ones are the same
                break
            least, strength = error, factor * unit
        solved = _half(problem, right if rows else left, decay(strength), self.biased, rows=rows)
        left, right = (solved, right) if rows else (left, solved)
        return replace(fit, left=left, right=right, decay=decay(strength)), strength

    def _trial(self, given: Array, rows: bool) -> Callable[[Array], float]:
        """The held-out error under a decay, of some rows (or columns), solved for given the factors of the other side."""
        problem = self.problem
        own, other, truth = self.held if rows else (self.held[1], self.held[0], self.held[2])
        order = (problem.row_start, problem.cols, problem.by_row)
        if not rows:
            order = (problem.col_start, problem.rows, problem.by_col)
        step = max(1, own.size // JUDGES)
        judged, counts = own % step == 0, np.diff(order[0])
        known = np.repeat(np.arange(counts.size) % step == 0, counts)
        start = np.concatenate([[0], np.cumsum(counts[::step])])
        others, values = order[1][known], order[2][known]
        own, other, truth = own[judged] // step, other[judged], truth[judged] - self.mean
        out = np.empty((start.size - 1, given.shape[1]), given.dtype)

        def error(decay: Array) -> float:
            solve_rows(start, others, values, given, decay, biased=self.biased, out=out)
            return root_mean_square(truth - pair_products(out, given, own, other, self.biased))

        return error


def _truncated(left: Array, right: Array, rank: int, biased: bool) -> Fit:
    keep = list(range(rank)) + ([left.shape[1] - 1] if biased else [])
    decay = np.zeros(len(keep), right.dtype)
    return Fit(np.ascontiguousarray(left[:, keep]), np.ascontiguousarray(right[:, keep]), decay, 0, False)


def _completion(fit: Fit, problem: TwoOrders, mean: float, biased: bool) -> FactorCompletion:
    counts = np.diff(problem.row_start), np.diff(problem.col_start)
    noise = _noise(fit, problem, biased)
    return FactorCompletion(mean, fit.left, fit.right, biased, fit.decay, noise, counts, fit.iterations, fit.converged)


def _noise(fit: Fit, problem: TwoOrders, biased: bool) -> float:
    """Root mean square residual over the entries that are left when every parameter has taken one."""
    rows, cols, values = problem.sample
    residual = values - pair_products(fit.left, fit.right, rows, cols, biased)
    sizes = root_mean_square(residual.astype(np.float64)), root_mean_square(values.astype(np.float64))
    return unbiased_noise(*sizes, fit.left.shape[1], problem.shape, problem.cols.size)


def _biases(entries: Entries, settings: Settings) -> list[Biases | None]:
    """With which biases to try: those asked for, or none and, where they explain something, all."""
    if settings.biases is False:
        return [None]
    biases = fit_biases(entries)
    if settings.biases:
        return [biases]
    spread = float(np.std(entries.values))
    explained = 1 - (biases.noise / spread) ** 2 if spread > 0 else 0.0
    return [None, biases] if explained > BIASES_EXPLAIN else [None]


TABLE_COLUMNS = 3_000
TABLE_CELLS = 20_000_000
PROBE_SWEEPS = 10
PROBE_OVERSAMPLING = 2.0
NOISE_FREE = 0.01  # relative residual of the probe


def _suits(entries: Entries, settings: Settings) -> str | None:
    m, n = entries.shape
    if n > TABLE_COLUMNS or m * n > TABLE_CELLS:
        return f"{described(entries)}: too large for a table"
    return (
        f"{described(entries)}: few factors fit all entries almost exactly" if noise_free(entries, settings) else None
    )


def noise_free(entries: Entries, settings: Settings) -> bool:
    """Whether a rank that the entries could not fit by chance fits their deviations from the column means almost exactly."""
    rank = entries.affordable_rank(settings.max_rank, PROBE_OVERSAMPLING)
    if min(entries.shape) < 2 or entries.oversampling(rank) < PROBE_OVERSAMPLING:
        return False
    means = entries.column_sums() / np.maximum(entries.col_counts, 1)
    centred = entries.with_values(entries.values - means[entries.cols])
    if np.std(centred.values) == 0:
        return False
    problem = TwoOrders.of(centred, 0.0)
    left, right = spectral_start(problem, rank, None, settings.seed)
    probe = Settings(iterations=PROBE_SWEEPS, tolerance=NOISE_FREE)
    fit = alternate(problem, left, right, biased=False, strength=0.0, settings=probe)
    return problem.relative_residual(fit.left, fit.right, False) < NOISE_FREE


ALS = Solver(
    name="als",
    title="many entries, or hardly any noise: alternating least squares",
    solve=solve_als,
    memory=lambda entries, shape, rank: 125 * entries + 100 * sum(shape) * rank,
    suits=_suits,
    rescued=True,
    reads=frozenset({"depth", "iterations", "tolerance", "biases"}),
)

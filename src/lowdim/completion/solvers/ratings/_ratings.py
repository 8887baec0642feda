"""The `ratings` solvers: Bayesian factorization of explicit ratings with biases and implicit features on both sides.

The rating of column ``i`` by row ``u`` is ``y = mu + b_u + c_i + p_u . q_i + e`` with ``e ~ N(0, 1 / (alpha w_u v_i))``: some people and
some items are noisier than others. A row's parameters ``T_u = [p_u, b_u]`` are ``N(m + s_u sum_j z_j, diag(lambda)^-1)`` with ``j``
over the columns that it has rated and ``s_u`` one over the root of their number: what one chooses to rate says something, whatever the rating. The
columns have the same form, with the rows that rated them.

What tables say about rows or columns shifts the means of their parameters: ``m + G_u C`` in place of ``m``, with ``G_u`` what is known of
``u`` and effects ``C ~ N(0, 1 / beta)``. So one who has rated nothing gets more than the mean of a column.

`solve_ratings` averages the predictions of Gibbs draws, of rows with the means of columns given these (Rao-Blackwell); `solve_ratings_quickly` draws a few and then iterates the same updates with means and
covariances (variational Bayes), which is less accurate and several times faster. Without the draws, the iteration would stay near factors
of 0 where the entries are few.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdim.completion.entries import Entries, pair_products
from lowdim.completion.solvers._als import noise_free
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
    hold_out,
)
from lowdim.completion.solvers.ratings._sampler import Sampler, directions, row_means

Floats = NDArray[Any]

FACTORS, FEWEST_FACTORS = 16, 3
BURN_IN, DRAWS = 20, 230
CHECK_BURN_IN, CHECK_DRAWS, MOST_CHECK_DRAWS = 8, 25, 100
CHECK_WORK = 300_000  # entries times draws of a check: of few entries, few draws are too far from their mean
WARM_SWEEPS, VARIATIONAL_SWEEPS = 30, 6
KEPT_BYTES = 2**28  # of the draws that are kept


@dataclass(frozen=True)
class Draws:
    """Draws of everything that predictions need, along the first axis; a single one of means in the variational mode."""

    left: Floats  # (draws, m, k + 1)
    right: Floats  # (draws, n, k + 1)
    right_means: Floats  # (draws, n, k + 1), given the rows of the draw: they vary less
    row_weights: Floats  # (draws, m)
    col_weights: Floats  # (draws, n)
    alpha: Floats  # (draws,)
    centre: Floats  # (draws, k + 1), of the rows
    features: Floats  # (draws, n, k + 1), of the rows
    precision: Floats  # (draws, k + 1), of the rows

    @staticmethod
    def of(states: list[tuple[Floats, ...]]) -> "Draws":
        return Draws(*(np.stack(parts) for parts in zip(*states, strict=True)))


@dataclass(frozen=True)
class RatingsCompletion:
    """The mean over draws; a row's own entries enter anew in `complete`, where its noise weight is taken to be 1.

    Attributes:
        mean: mu.
        draws: Of the posterior.
        covariances: In the variational mode, of ``[p, -b]`` and ``[q, -c]``, packed; otherwise without rows.
        iterations: Sweeps.
        converged: Whether as many sweeps were made as the method asks for.
    """

    mean: float
    draws: Draws
    covariances: tuple[Floats, Floats]
    iterations: int
    converged: bool

    @property
    def factors(self) -> tuple[Array, Array]:
        """Of the last draw: the factors of several have no common basis."""
        return self.draws.left[-1, :, :-1].astype(np.float64), self.draws.right[-1, :, :-1].astype(np.float64)

    def predict(self, rows: Indices, cols: Indices) -> Array:
        total = np.zeros(len(rows))
        for left, right in zip(self.draws.left, self.draws.right_means, strict=True):
            total += pair_products(left, right, rows, cols, True)
        return self.mean + total / len(self.draws.alpha)

    def deviation(self, rows: Indices, cols: Indices) -> Array:
        noise = np.zeros(len(rows))
        for w, v, alpha in zip(self.draws.row_weights, self.draws.col_weights, self.draws.alpha, strict=True):
            noise += 1 / (alpha * w[rows] * v[cols] * len(self.draws.alpha))
        if not self.covariances[0].size:
            return np.sqrt(noise + self._variance(rows, cols))
        return np.sqrt(noise + self._uncertainty(rows, cols))

    def complete(self, entries: Entries) -> Array:
        values = (entries.values - self.mean).astype(np.float32)
        completed = np.zeros(entries.shape)
        for d in range(len(self.draws.alpha)):
            left, right = self._new_rows(entries, values, d), self.draws.right[d]
            completed += left[:, :-1] @ right[:, :-1].T
            completed += left[:, -1:] + right[:, -1]
        return self.mean + completed / len(self.draws.alpha)

    def _variance(self, rows: Indices, cols: Indices) -> Array:
        """The variance over the draws, one draw after the other (Welford): all at once would take kilobytes for each pair."""
        mean, squares = np.zeros(len(rows)), np.zeros(len(rows))
        for number, (left, right) in enumerate(zip(self.draws.left, self.draws.right, strict=True), 1):
            products = pair_products(left, right, rows, cols, True)
            rest = products - mean
            mean += rest / number
            squares += rest * (products - mean)
        return squares / len(self.draws.alpha)

    def _new_rows(self, entries: Entries, values: Floats, d: int) -> Floats:
        """The posterior means of rows, given the columns of one draw."""
        shares = 1 / np.sqrt(np.maximum(entries.row_counts, 1))
        implied = entries.sparse(np.ones(entries.size, np.float32)) @ self.draws.features[d]
        prior = self.draws.centre[d] + shares[:, None] * implied
        columns = (self.draws.right[d], self.draws.col_weights[d], self.covariances[1])
        given = (prior, self.draws.precision[d], self.draws.alpha[d])
        return row_means(entries.row_start, entries.cols, values, columns, *given)

    def _uncertainty(self, rows: Indices, cols: Indices) -> Array:
        """Variance of ``b + c + p . q`` for independent ``[p, b]`` and ``[q, c]`` with the variational covariances."""
        size = self.draws.left.shape[2]
        signs = np.ones((size, size))
        signs[-1, :-1] = signs[:-1, -1] = -1
        lower = np.tril_indices(size)
        total = np.zeros(len(rows))
        for first in range(0, len(rows), 100_000):
            part = slice(first, first + 100_000)
            packed = self.covariances[0][rows[part]], self.covariances[1][cols[part]]
            blocks = [np.zeros((p.shape[0], size, size)) for p in packed]
            for block, p in zip(blocks, packed, strict=True):
                block[:, lower[0], lower[1]] = block[:, lower[1], lower[0]] = p
                block *= signs
            left, right = self.draws.left[0, rows[part]].copy(), self.draws.right[0, cols[part]].copy()
            left[:, -1] = right[:, -1] = 1
            total[part] = np.einsum("ta,tab,tb->t", right, blocks[0], right)
            total[part] += np.einsum("ta,tab,tb->t", left, blocks[1], left)
            total[part] += np.einsum("tab,tab->t", blocks[0][:, :-1, :-1], blocks[1][:, :-1, :-1])
        return total


def solve_ratings(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Average Gibbs draws. The held-out entries are predicted by a shorter chain (33 sweeps instead of 250, of few entries 120).

    Cost: ``O(|Omega| k^2 + (m + n) k^3)`` per sweep; .1 to .2 seconds for a million ratings on one thread.
    """
    del start  # a chain forgets where it began
    return Solved(_sample(entries, settings, BURN_IN, DRAWS), check_ratings(entries, held, settings))


def check_ratings(entries: Entries, held: Mask, settings: Settings) -> HeldOut:
    """The check of `solve_ratings` alone."""
    draws = int(np.clip(CHECK_WORK // entries.size, CHECK_DRAWS, MOST_CHECK_DRAWS))
    burn_in = max(CHECK_BURN_IN, draws // 5)
    return HeldOut.of(_sample(entries.select(~held), settings, burn_in, draws), entries, held)


def solve_ratings_quickly(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Draw 30 times, then iterate the updates with means and covariances 6 times."""
    del start
    return Solved(_iterate(entries, settings), check_ratings_quickly(entries, held, settings))


def check_ratings_quickly(entries: Entries, held: Mask, settings: Settings) -> HeldOut:
    """The check of `solve_ratings_quickly` alone."""
    return HeldOut.of(_iterate(entries.select(~held), settings), entries, held)


def _sample(entries: Entries, settings: Settings, burn_in: int, draws: int) -> RatingsCompletion:
    sampler = _sampler(entries, settings, variational=False)
    size = 4 * sum(2 * side.parameters.size + side.weights.size for side in (sampler.rows, sampler.cols))
    size += 4 * sampler.cols.means.size
    every = max(1, -(-draws * size // KEPT_BYTES))
    states: list[tuple[Floats, ...]] = []
    stage = settings.journal.stage(burn_in + draws)
    saved, names = stage.saved(), [f"draws.{part}" for part in range(len(fields(Draws)))]
    if saved is not None and names[0] in saved and names[-1] not in saved:  # an earlier version kept less: anew
        saved = None
    sampler.restore(saved)
    if saved is not None and names[0] in saved:
        states = list(zip(*(saved[name] for name in names), strict=True))
    while sampler.sweeps < burn_in + draws:
        sampler.sweep()
        if sampler.sweeps > burn_in and (burn_in + draws - sampler.sweeps) % every == 0:
            states.append(_state(sampler))
        stage.report(sampler.sweeps, lambda: sampler.state() | _stacked(states))
    none = np.zeros((0, 1), np.float32)
    return RatingsCompletion(sampler.mean, Draws.of(states), (none, none), sampler.sweeps, True)


def _stacked(states: list[tuple[Floats, ...]]) -> dict[str, Floats]:
    parts = zip(*states, strict=True)
    return {f"draws.{number}": np.stack(part) for number, part in enumerate(parts)}


def _iterate(entries: Entries, settings: Settings) -> RatingsCompletion:
    sampler = _sampler(entries, settings, variational=True)
    stage = settings.journal.stage(WARM_SWEEPS + VARIATIONAL_SWEEPS)
    saved = stage.saved()
    if saved is None:
        drawn = _sampler(entries, settings, variational=False)
        while drawn.sweeps < WARM_SWEEPS:
            drawn.sweep()
        sampler.begin_from(drawn)
    sampler.restore(saved)
    while sampler.sweeps < WARM_SWEEPS + VARIATIONAL_SWEEPS:
        sampler.sweep()
        stage.report(sampler.sweeps, sampler.state)
    covariances = sampler.rows.covariances, sampler.cols.covariances
    return RatingsCompletion(sampler.mean, Draws.of([_state(sampler)]), covariances, sampler.sweeps, True)


def _sampler(entries: Entries, settings: Settings, *, variational: bool) -> Sampler:
    known = directions(settings.row_features), directions(settings.col_features)
    return Sampler(entries, _factors(entries, settings), settings.seed, variational=variational, known=known)


def _state(sampler: Sampler) -> tuple[Floats, ...]:
    rows, cols = sampler.rows, sampler.cols
    means = cols.means if cols.means.size else cols.parameters
    moving = rows.parameters, cols.parameters, means, rows.weights, cols.weights
    rest = np.float32(sampler.alpha), rows.centre, rows.features, rows.precision
    return tuple(np.array(part) for part in (*moving, *rest))


def _factors(entries: Entries, settings: Settings) -> int:
    """Those asked for; else as many as the ratings of a typical row or column could tell, with the help of the prior."""
    if settings.rank:
        return settings.rank
    told = int(np.clip(3 * entries.size // sum(entries.shape), FEWEST_FACTORS, FACTORS))
    return max(min(told, settings.max_rank, min(entries.shape) - 1), 1)


MOST_LEVELS = 25
LEAST_SIDE = 100
FEWEST = 10  # rows or columns of a sparse matrix of ratings
MOST_DENSITY = 0.3
QUICK_FROM = 5_000_000  # entries from which averaging takes minutes
SPARSE = 0.05  # observed share up to which a noisy matrix of any values is averaged as ratings are
MOST_SPARSE = 300_000  # entries up to which it is
MOST_ASKED = 10_000  # entries of a table of few distinct values that is asked whether it is one of ratings
DIGITS = 9  # of values that were multiplied and divided
TENTHS = 5


def are_ratings(entries: Entries) -> bool:
    """Whether these are a few distinct values (of 10,000 entries) in a large or very sparse matrix."""
    side = min(entries.shape)
    sparse = (side >= LEAST_SIDE and entries.density <= MOST_DENSITY) or (side >= FEWEST and entries.density <= SPARSE)
    return sparse and np.unique(entries.values[:: max(1, entries.size // 10_000)]).size <= MOST_LEVELS


def _rescue(entries: Entries, held: Mask, settings: Settings, badly: Solved) -> tuple[Solved, str] | None:
    """Averaging, unless columns predict the few distinct values of a small matrix clearly better from each other."""
    units = np.ones(entries.shape[1]) if settings.units is None else settings.units
    entries = entries.with_values(entries.values * units[entries.cols])
    alone = settings.clock is None and all(block.size == 1 for block in settings.together or ())
    if not (alone and badly.checked is not None and _could_be_ratings(entries)):
        return None
    checked, check = _checks(entries, badly, settings)
    theirs = badly.held_out.in_units(units).of_places(checked[badly.checked])
    if theirs.is_clearly_better(check):
        return None
    return replace(
        solve_ratings(entries, held, settings), one_scale=True
    ), f"few distinct values, {described(entries)}: explicit ratings"


def _could_be_ratings(entries: Entries) -> bool:
    few = min(entries.shape) >= FEWEST and entries.density <= MOST_DENSITY and entries.size <= MOST_ASKED
    return few and np.unique(entries.values.round(DIGITS)).size <= MOST_LEVELS


def _checks(entries: Entries, badly: Solved, settings: Settings) -> tuple[Mask, HeldOut]:
    """Which entries are predicted without themselves, and how: in the parts that the other solver lacked, or in tenths of those it has checked."""
    assert badly.checked is not None
    parts = badly.lacked or tuple(
        badly.checked & hold_out(entries, 0.1, settings.seed, part, last=True) for part in range(TENTHS)
    )
    checked = badly.checked & np.any(parts, axis=0)
    return checked, HeldOut.by_parts(entries, checked, parts, lambda part: check_ratings(entries, part, settings))


def _reason(entries: Entries, settings: Settings) -> str | None:
    """Why a matrix is one for these solvers, or None."""
    if settings.row_features is not None or settings.col_features is not None:
        return f"what is known of rows or columns, {described(entries)}"
    if are_ratings(entries):
        return f"few distinct values, {described(entries)}: explicit ratings"
    sparse = min(entries.shape) >= LEAST_SIDE and entries.density <= SPARSE
    sparse = sparse and sum(entries.shape) <= entries.size <= MOST_SPARSE
    if sparse and not noise_free(entries, settings):
        return f"sparse and noisy, {described(entries)}"
    return None


def _suits(entries: Entries, settings: Settings) -> str | None:
    return _reason(entries, settings) if entries.size <= QUICK_FROM else None


def _suits_quickly(entries: Entries, settings: Settings) -> str | None:
    return _reason(entries, settings) if entries.size > QUICK_FROM else None


def _memory_quickly(entries: int, shape: tuple[int, int], rank: int) -> int:
    return 4 * 2**20 + 320 * entries + 120 * sum(shape) * rank


def _memory(entries: int, shape: tuple[int, int], rank: int) -> int:
    draws = DRAWS * 4 * (sum(shape) * (rank + 2) + 2 * shape[1] * (rank + 1))
    # once more while they are stacked, when the working space of the fit is free again
    stacked = 4 * 2**20 + 2 * min(draws, KEPT_BYTES) + 40 * entries
    return max(stacked, _memory_quickly(entries, shape, rank))


RATINGS = Solver(
    name="ratings",
    title="explicit ratings, by averaging over the posterior",
    solve=solve_ratings,
    check=check_ratings,
    memory=_memory,
    suits=_suits,
    rescue=_rescue,
    rescued=True,
    reads=frozenset({"features"}),
    biased=True,
    one_scale=True,
    shrinks=True,
)
RATINGS_QUICK = Solver(
    name="ratings-quick",
    title="explicit ratings, less accurate and several times faster",
    solve=solve_ratings_quickly,
    check=check_ratings_quickly,
    memory=_memory_quickly,
    suits=_suits_quickly,
    reads=frozenset({"features"}),
    biased=True,
    one_scale=True,
    shrinks=True,
)

"""The solvers of explicit ratings: posterior averaging, and a quick variational form of it."""

import numpy as np

from lowdim.completion.solvers._als import noise_free
from lowdim.completion.solvers._solver import Entries, Settings, Solver, described
from lowdim.completion.solvers.ratings._ratings import (
    DRAWS,
    KEPT_BYTES,
    check_ratings,
    check_ratings_quickly,
    solve_ratings,
    solve_ratings_quickly,
)

MOST_LEVELS = 25
LEAST_SIDE = 100
FEWEST = 10  # rows or columns of a sparse matrix of ratings
MOST_DENSITY = 0.3
QUICK_FROM = 5_000_000  # entries from which averaging takes minutes
SPARSE = 0.05  # observed share up to which a noisy matrix of any values is averaged as ratings are
MOST_SPARSE = 300_000  # entries up to which it is


def are_ratings(entries: Entries) -> bool:
    """Whether these are a few distinct values (of 10,000 entries) in a large or very sparse matrix."""
    side = min(entries.shape)
    sparse = (side >= LEAST_SIDE and entries.density <= MOST_DENSITY) or (side >= FEWEST and entries.density <= SPARSE)
    return sparse and np.unique(entries.values[:: max(1, entries.size // 10_000)]).size <= MOST_LEVELS


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
    draws = DRAWS * 4 * (sum(shape) * (rank + 2) + shape[1] * (rank + 1))
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

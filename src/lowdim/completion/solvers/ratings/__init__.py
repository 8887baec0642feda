"""The solvers of explicit ratings: posterior averaging, and a quick variational form of it."""

import numpy as np

from lowdim.completion.solvers._solver import Entries, Settings, Solver, described
from lowdim.completion.solvers.ratings._ratings import KEPT_BYTES, solve_ratings, solve_ratings_quickly

MOST_LEVELS = 25
LEAST_SIDE = 100
MOST_DENSITY = 0.3
QUICK_FROM = 5_000_000  # entries from which averaging takes minutes


def are_ratings(entries: Entries) -> bool:
    """Whether these are a few distinct values (of 10,000 entries) in a large and sparse matrix."""
    large = min(entries.shape) >= LEAST_SIDE and entries.density <= MOST_DENSITY
    return large and np.unique(entries.values[:: max(1, entries.size // 10_000)]).size <= MOST_LEVELS


def _reason(entries: Entries) -> str:
    return f"few distinct values, {described(entries)}: explicit ratings"


def _suits(entries: Entries, settings: Settings) -> str | None:
    return _reason(entries) if entries.size <= QUICK_FROM and are_ratings(entries) else None


def _suits_quickly(entries: Entries, settings: Settings) -> str | None:
    return _reason(entries) if entries.size > QUICK_FROM and are_ratings(entries) else None


def _memory_quickly(entries: int, shape: tuple[int, int], rank: int) -> int:
    return 320 * entries + 120 * sum(shape) * rank


def _memory(entries: int, shape: tuple[int, int], rank: int) -> int:
    draws = 2 * 230 * 4 * sum(shape) * (2 * rank + 4)  # once more while they are stacked
    return min(draws, 2 * KEPT_BYTES) + _memory_quickly(entries, shape, rank)


RATINGS = Solver(
    name="ratings",
    title="explicit ratings, by averaging over the posterior",
    solve=solve_ratings,
    memory=_memory,
    suits=_suits,
    biased=True,
    one_scale=True,
    shrinks=True,
)
RATINGS_QUICK = Solver(
    name="ratings-quick",
    title="explicit ratings, less accurate and several times faster",
    solve=solve_ratings_quickly,
    memory=_memory_quickly,
    suits=_suits_quickly,
    biased=True,
    one_scale=True,
    shrinks=True,
)

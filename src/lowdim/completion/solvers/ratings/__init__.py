"""The solvers of explicit ratings: posterior averaging, and a quick variational form of it."""

from dataclasses import replace

import numpy as np

from lowdim.completion.solvers._als import noise_free
from lowdim.completion.solvers._solver import Entries, HeldOut, Mask, Settings, Solved, Solver, described, hold_out
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

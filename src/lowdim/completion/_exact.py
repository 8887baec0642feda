"""The solvers `exact` and `gd` behind the common interface."""

from dataclasses import replace
from typing import Any

import numpy as np

from lowdim.completion.solvers._solver import Array, Completion, HeldOut, Mask, Settings, Solved, root_mean_square
from lowdim.completion.entries import Entries
from lowdim.completion.solvers._factors import FactorCompletion, unbiased_noise
from lowdim.completion.solvers.gd._gradient_descent import GradientDescent, gradient_descent
from lowdim.completion.solvers.exact._recover import Recovery, recover

CHECKABLE = 1.3  # entries per degree of freedom from which a recovery nearly always succeeds


def solve_exact(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Recover a nearly noise-free matrix; see `recover`.

    All entries are used first. If the recovery is sure, its rank is known, and the check is made with what remains when the held-out
    entries are taken away, as long as that suffices for a recovery; otherwise nothing is held out.
    """
    del start  # the path of the smoothing is the method
    return _checked(_recover(entries, settings, settings.rank), entries, held, settings)


def check_exact(entries: Entries, held: Mask, settings: Settings) -> HeldOut:
    """The check of an unsure recovery alone, without the recovery from all entries."""
    training = entries.select(~held)
    return HeldOut.of(_completion(_recover(training, settings, settings.rank), training), entries, held)


def solve_exact_briefly(entries: Entries, held: Mask, settings: Settings) -> Solved | None:
    """As `solve_exact`, but soon given up where nothing fits: None unless the answer is sure."""
    found = _recover(entries, settings, settings.rank, brief=True)
    return _checked(found, entries, held, settings) if found.sure else None


def _checked(found: Recovery, entries: Entries, held: Mask, settings: Settings) -> Solved:
    rank = found.rank
    if found.sure and (rank == 0 or entries.select(~held).oversampling(rank) < CHECKABLE):
        return _solved(found, _unchecked(entries, held), entries)
    known = replace(settings, rank=rank) if found.sure else settings
    return _solved(found, check_exact(entries, held, known), entries)


def solve_gd(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """The compressed deep linear network, trained by gradient descent; see `gradient_descent`."""
    del start  # it must start near zero
    held_out = check_gd(entries, held, settings)
    return _solved(gradient_descent(entries, **_options(entries, settings)), held_out, entries)


def check_gd(entries: Entries, held: Mask, settings: Settings) -> HeldOut:
    """The check of `solve_gd` alone, without the fit of all entries."""
    training = entries.select(~held)
    first = gradient_descent(training, **_options(entries, settings))
    return HeldOut.of(_completion(first, training), entries, held)


def _options(entries: Entries, settings: Settings) -> dict[str, Any]:
    rank = settings.rank or affordable_rank(entries, settings.max_rank)
    return {"rank": rank, "depth": settings.depth, "random_state": settings.seed, "journal": settings.journal}


def affordable_rank(entries: Entries, most: int, oversampling: float = 1.0) -> int:
    """The largest rank up to `most` with as many entries per degree of freedom, at least 1."""
    ranks = range(1, min(most, min(entries.shape) - 1) + 1)
    return max((rank for rank in ranks if entries.oversampling(rank) >= oversampling), default=1)


def _recover(entries: Entries, settings: Settings, rank: int | None, *, brief: bool = False) -> Recovery:
    bound = None if rank else max(min(settings.max_rank, min(entries.shape) - 1), 1)
    return recover(
        entries,
        rank=rank,
        rank_bound=bound,
        depth=settings.depth,
        random_state=settings.seed,
        brief=brief,
        journal=settings.journal,
    )


def _solved(found: Recovery | GradientDescent, held_out: HeldOut, entries: Entries) -> Solved:
    remarks = () if found.sure else (f"The recovery is not sure: {found.reason}.",)
    return Solved(_completion(found, entries), held_out, found.sure, remarks, found.reason)


def _completion(found: Recovery | GradientDescent, entries: Entries) -> FactorCompletion:
    rank = found.rank  # gd's network is wider
    left, right = found.U[:, :rank] * found.singular_values[:rank], np.ascontiguousarray(found.V[:, :rank])
    size = root_mean_square(entries.values)
    noise = unbiased_noise(found.relative_residual * size, size, found.rank, entries.shape, entries.size)
    counts = entries.row_counts, entries.col_counts
    decay = np.zeros(right.shape[1])
    return FactorCompletion(0.0, left, right, False, decay, noise, counts, found.iterations, found.converged)


def _unchecked(entries: Entries, held: Mask) -> HeldOut:
    unknown: Array = np.full(int(held.sum()), np.nan)
    return HeldOut(entries.cols[held], entries.values[held], unknown, unknown)

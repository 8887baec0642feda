"""The solver of nearly noise-free matrices with few entries: recovery, and when it is sure."""

from dataclasses import replace

import numpy as np

from lowdim.completion.solvers._factors import factor_completion, solved
from lowdim.completion.solvers._solver import Array, Completion, Entries, HeldOut, Mask, Settings, Solved, Solver
from lowdim.completion.solvers.exact._recover import Recovery, recover

CHECKABLE = 1.3  # entries per degree of freedom from which a recovery nearly always succeeds
WELL_PREDICTED = 0.05  # held-out error over the spread of the entries, below which no recovery is tried
MOST_ENTRIES, LEAST_SIDE, MOST_DENSITY = 300_000, 40, 0.15  # of matrices in which it is


def solve_exact(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Recover a nearly noise-free matrix; see `recover`.

    All entries are used first. If the recovery is sure, its rank is known, and the check is made with what remains when the held-out
    entries are taken away, as long as that suffices for a recovery; otherwise nothing is held out.
    """
    del start  # the path of the smoothing is the method
    return _checked(_recovery(entries, settings, settings.rank), entries, held, settings)


def check_exact(entries: Entries, held: Mask, settings: Settings) -> HeldOut:
    """The check of an unsure recovery alone, without the recovery from all entries."""
    training = entries.select(~held)
    return HeldOut.of(factor_completion(_recovery(training, settings, settings.rank), training), entries, held)


def rescue(entries: Entries, held: Mask, settings: Settings, badly: Solved) -> tuple[Solved, str] | None:
    """A recovery where few and continuous entries were badly predicted, soon given up where nothing fits: None unless it is sure."""
    few = entries.size <= MOST_ENTRIES and entries.density <= MOST_DENSITY and min(entries.shape) >= LEAST_SIDE
    if not few or 2 * np.unique(entries.values).size <= entries.size:
        return None
    if badly.held_out.rmse < WELL_PREDICTED * float(np.std(entries.values)):
        return None
    recovery = _recovery(entries, settings, settings.rank, brief=True)
    why = "few entries that a matrix of low rank fits exactly"
    return (_checked(recovery, entries, held, settings), why) if recovery.sure else None


def _checked(recovery: Recovery, entries: Entries, held: Mask, settings: Settings) -> Solved:
    rank = recovery.rank
    if recovery.sure and (rank == 0 or entries.select(~held).oversampling(rank) < CHECKABLE):
        unknown: Array = np.full(int(held.sum()), np.nan)
        held_out = HeldOut(entries.cols[held], entries.values[held], unknown, unknown)
    else:
        held_out = check_exact(entries, held, replace(settings, rank=rank) if recovery.sure else settings)
    return solved(recovery, entries, held_out)


def _recovery(entries: Entries, settings: Settings, rank: int | None, *, brief: bool = False) -> Recovery:
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


EXACT = Solver(
    name="exact",
    title="nearly noise-free, few entries: recovery with the rank unknown, and whether it is sure",
    solve=solve_exact,
    check=check_exact,
    rescue=rescue,
    memory=lambda entries, shape, rank: 80 * entries + 280 * sum(shape) * rank,
    reads=frozenset({"depth"}),
    biased=False,
    one_scale=True,
)

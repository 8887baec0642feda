"""When entries that a matrix fits determine it: what the solvers `exact` and `gd` vouch for, and how they say it."""

from lowdim.completion.entries import Entries

CHECKABLE = 1.3  # entries per degree of freedom from which a recovery nearly always succeeds
SURE = 1.15  # entries per degree of freedom from which a vanished residual proves the matrix


def determines(entries: Entries, rank: int) -> bool:
    """Whether only one matrix of this rank fits: enough entries, and as many as the rank in every row and column."""
    return entries.oversampling(rank) >= SURE and _fewest(entries) >= rank


def facts(entries: Entries, rank: int, residual: float) -> str:
    """What it rests on, in words."""
    few = f"; some row or column has only {_fewest(entries)}" if _fewest(entries) < rank else ""
    oversampling = f"{entries.oversampling(rank):.2f} entries per degree of freedom"
    return f"at rank {rank}: relative residual {residual:.1e}, {oversampling}{few}"


def _fewest(entries: Entries) -> int:
    return int(min(entries.row_counts.min(), entries.col_counts.min()))

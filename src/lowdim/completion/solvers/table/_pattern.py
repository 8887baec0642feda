"""Whether the holes of a table come in stretches, and stretches of known cells to be held out that look like them.

A cell in a stretch of holes lacks what a single hidden cell keeps: its neighbours in the column, and the other columns that are missing with
it. Where holes come in stretches, the errors of single cells say too little.
"""

from collections.abc import Sequence

import numpy as np

from lowdim._linalg import Array, Indices, Mask

LONGER = 0.2  # more of the holes than by chance that are followed by another one
UNEVEN = 2.0  # times the variance of the holes in a row that columns missing independently would give
LEAST_ROWS, LEAST_HOLES = 30, 10
LEAST_HELD = 0.1  # of the known cells
MOST_SHIFTS = 20


def held_stretches(
    observed: Mask, together: Sequence[Indices] | None, seed: int, *, ordered: bool = False
) -> Mask | None:
    """Known cells ``(m, n)`` to be held out: the holes, moved to other rows. None where the holes stand alone and rows have no order.

    `together` has for each column those that are unknown whenever it is.
    """
    holes = ~observed
    own = holes if together is None else holes[:, sorted({int(block[0]) for block in together})]
    if not (ordered or in_stretches(own)):
        return None
    generator = np.random.default_rng(seed)
    held = np.zeros_like(holes)
    for _ in range(MOST_SHIFTS):
        held |= np.roll(holes, generator.integers(1, len(holes)), axis=0) & observed
        if held.sum() >= LEAST_HELD * observed.sum():
            break
    left = observed & ~held
    held[:, left.sum(0) < 3] = False  # a column keeps what it is predicted from
    held[left.sum(1) == 0] = False
    return held if held.any() else None


def in_stretches(holes: Mask) -> bool:
    """Whether holes follow each other in a column, or stand in one row, clearly more often than by chance."""
    share = holes.mean(0)
    if len(holes) < LEAST_ROWS or holes.sum() < LEAST_HOLES:
        return False
    followed = _share(holes[1:] & holes[:-1], holes[:-1]) - _share(holes[:-1] * share, holes[:-1])
    expected = float((share * (1 - share)).sum())
    return followed > LONGER or float(holes.sum(1).var()) > UNEVEN * expected


def _share(part: Array | Mask, of: Mask) -> float:
    return float(part.sum() / max(of.sum(), 1))

"""What the holes of a table look like: whether they come in stretches, and whether what is missing differs from what is known.

A cell in a stretch of holes lacks what a single hidden cell keeps: its neighbours in the column, and the other columns that are missing with
it. Where holes come in stretches, the errors of single cells say too little, and stretches of known cells are held out instead.

If cells go missing at random, what is predicted for them is distributed as what is predicted for held-out cells. If high values go
missing more often, the predictions of the missing cells are higher, and the held-out error tells too little. Values that decide alone,
without any relation to what is known of their row, leave no trace.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lowdim.completion.solvers._solver import Array, Completion, Entries, HeldOut, Indices, Mask

LONGER = 0.2  # more of the holes than by chance that are followed by another one
UNEVEN = 2.0  # times the variance of the holes in a row that columns missing independently would give
LEAST_ROWS, LEAST_HOLES = 30, 10
LEAST_HELD = 0.1  # of the known cells of columns with holes
MOST_SHIFTS = 20
SAMPLE = 20_000  # missing cells looked at
CLEAR = 3.3  # standard errors of the difference: one table in a thousand by chance
RELEVANT = 0.05  # deviations of a column


def held_stretches(observed: Mask, together: Sequence[Indices] | None, seed: int) -> Mask | None:
    """Known cells ``(m, n)`` to be held out: the holes, moved to other rows. None where the holes stand alone.

    `together` has for each column those that are unknown whenever it is.
    """
    holes = ~observed
    own = holes if together is None else holes[:, sorted({int(block[0]) for block in together})]
    if not in_stretches(own):
        return None
    generator = np.random.default_rng(seed)
    held, wanted = np.zeros_like(holes), LEAST_HELD * observed[:, holes.any(0)].sum()
    for _ in range(MOST_SHIFTS):
        held |= np.roll(holes, generator.integers(1, len(holes)), axis=0) & observed
        if held.sum() >= wanted:
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


@dataclass(frozen=True)
class Difference:
    """The mean prediction of missing cells less that of held-out ones, in deviations of the columns, and its standard error."""

    mean: float
    error: float

    @property
    def clear(self) -> bool:
        return abs(self.mean) > max(CLEAR * self.error, RELEVANT)


def difference(
    entries: Entries, completion: Completion, rows: Indices, held_out: HeldOut, seed: int
) -> Difference | None:
    """Compare missing with held-out cells; None where there are fewer than 20 of either."""
    counts = np.maximum(np.bincount(entries.cols, minlength=entries.shape[1]), 1)
    means = np.bincount(entries.cols, entries.values, entries.shape[1]) / counts
    missing_rows, missing_cols = _missing(entries, seed)
    if min(missing_rows.size, rows.size) < 20:
        return None
    predicted = completion.predict(missing_rows, missing_cols) - means[missing_cols]
    known = held_out.predictions - means[held_out.cols]
    # cells of one row are predicted from the same latents: the rows are the independent units
    influence = _of_rows(missing_rows, predicted, entries.shape[0]) - _of_rows(rows, known, entries.shape[0])
    return Difference(float(predicted.mean() - known.mean()), float(np.linalg.norm(influence)))


def not_at_random(
    entries: Entries, completion: Completion, rows: Indices, held_out: HeldOut, seed: int
) -> tuple[str, ...]:
    """What to say where missing cells clearly differ; arguments as for `difference`."""
    seen = difference(entries, completion, rows, held_out, seed)
    if seen is None or not seen.clear:
        return ()
    return (
        f"Cells are not missing at random: what is missing is predicted {abs(seen.mean):.2f} column deviations "
        f"{'higher' if seen.mean > 0 else 'lower'} than what is known. The true error is larger than the held-out one, and "
        "intervals cover less than they say.",
    )


def _of_rows(rows: Indices, values: Array, count: int) -> Array:
    return np.bincount(rows, values - values.mean(), count) / values.size


def _missing(entries: Entries, seed: int) -> tuple[Indices, Indices]:
    """A random sample of the missing cells."""
    m, n = entries.shape
    observed = np.zeros(m * n, np.bool_)
    observed[entries.rows.astype(np.int64) * n + entries.cols] = True
    places = np.flatnonzero(~observed)
    if places.size > SAMPLE:
        places = np.random.default_rng(seed).choice(places, SAMPLE, replace=False)
    return np.divmod(places, n)

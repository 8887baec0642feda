"""What the holes of a table look like: whether they come in stretches, and whether what is missing differs from what is known.

A cell in a stretch of holes lacks what a single hidden cell keeps: its neighbours in the column, and the other columns that are missing with
it. Where holes come in stretches, the errors of single cells say too little, and stretches of known cells are held out instead.

In a table with an order in time a cell in the middle of a gap is also farther from what is known than one beside it, and one in a gap that
ends a series has a neighbour on one side only. There copies of the gaps are held out: of the same columns and length, between known
cells, and with the other columns hidden that are missing in the rows of the gap.

If cells go missing at random, what is predicted for them is distributed as what is predicted for held-out cells. If high values go
missing more often, the predictions of the missing cells are higher, and the held-out error tells too little. Values that decide alone,
without any relation to what is known of their row, leave no trace.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lowdim.completion.solvers._solver import Array, Completion, Entries, HeldOut, Indices, Mask

LONGER = 0.2  # more of the holes than by chance that are followed by another one
UNEVEN = 2.0  # times the variance of the holes in a row that columns missing independently would give
LEAST_ROWS, LEAST_HOLES = 30, 10
HELD_ALONE = 0.2  # of the known cells of columns with holes, where rows have no order
LEAST_LEFT = 3  # known cells of a column
SAMPLE = 20_000  # missing cells looked at
CLEAR = 3.3  # standard errors of the difference: one table in a thousand by chance
RELEVANT = 0.05  # deviations of a column
HELD = 0.25  # of the known cells of columns with holes, in one fit
KEPT = 0.5  # of the known cells of a column, at least, in one fit
LONG = 3  # cells in a gap of which not all have known neighbours
ENOUGH, MOST_FITS = 30, 3  # copies of long gaps, below which another fit is made
MOST_COPIES = 1_000  # in one fit
BEYOND = 2  # lengths of a gap without end that are hidden beyond its copy


def copies_of_stretches(observed: Mask, together: Sequence[Indices] | None, seed: int) -> "Copies | None":
    """Copies ``(m, n)`` of stretches of holes at random places, until `HELD_ALONE` of the cells are hidden; None where the holes stand alone.

    A copy is of the holes of one column that follow each other, with those beside them: a row that has another copy of all of its holes
    would know less than those to be filled. `together` has for each column those that are unknown whenever it is. Rows without any
    value, which stay so, make no stretches.
    """
    (m, n), holes = observed.shape, ~observed
    first = np.arange(n) if together is None else np.array([block[0] for block in together])
    if not in_stretches(holes[~holes.all(1)][:, np.unique(first)]):
        return None
    hidden, number, count = np.zeros((m, n), bool), np.full((m, n), -1), 0
    left = observed.sum(0)
    least, wanted = np.maximum(KEPT * left, LEAST_LEFT), left.sum() - HELD_ALONE * left[holes.any(0)].sum()
    generator, along = np.random.default_rng(seed), _along(holes)
    runs = _runs(holes & observed.any(0) & (first == np.arange(n)))
    for column, start, stop in runs[generator.integers(len(runs), size=MOST_COPIES)]:
        if left.sum() <= wanted:
            break
        cols = ((generator.random(n) < along[column]) | (np.arange(n) == column))[first]
        shape = holes[start:stop] & cols
        if generator.random() * np.unique(first[shape.any(0)]).size > 1:
            continue  # else a stretch of several columns would be copied once for each
        top = generator.integers(m - (stop - start) + 1)
        rows = slice(top, top + stop - start)
        known = observed[rows] & ~hidden[rows]
        new = shape & known
        new &= left - new.sum(0) >= least
        new[~(known & ~new).any(1)] = False  # a row keeps something
        if new.any():
            hidden[rows] |= new
            number[rows][new] = count
            left, count = left - new.sum(0), count + 1
    return Copies(hidden, number) if count else None


def _runs(holes: Mask) -> Indices:
    """``(runs, 3)``: the column of each maximal run of holes, its first row and that after its last."""
    steps = np.diff(np.pad(holes.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    return np.column_stack([*np.nonzero(steps > 0), np.nonzero(steps < 0)[1]])


def _along(holes: Mask) -> Array:
    """How often a hole of column k goes along with one of column j, ``(n, n)``: of the cells that are unknown in the rows of copies of j by
    chance this share more makes those unknown as often as beside the holes of j."""
    numbers, count = holes.astype(np.float32), holes.sum(0)
    both = numbers.T @ numbers
    beside = both / np.maximum(count, 1)[:, None]
    alone = (count - both) / np.maximum(len(holes) - count, 1)[:, None]
    free = (1 - alone) * beside
    return np.divide(beside - alone, free, out=np.zeros_like(free), where=free > 0)


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


@dataclass(frozen=True)
class Copies:
    """Copies of gaps, or single cells.

    Attributes:
        hidden: ``(m, n)``, the known cells that they hide.
        number: ``(m, n)``, of the copy of which a hidden cell is checked; -1 elsewhere.
        cut: Whether some gap is longer than all known stretches, and copies are shorter than it is.
    """

    hidden: Mask
    number: Indices
    cut: bool = False

    @classmethod
    def of_cells(cls, cells: Mask) -> "Copies":
        """Each cell by itself."""
        return cls(cells, np.where(cells, np.arange(cells.size).reshape(cells.shape), -1))


@dataclass(frozen=True)
class _Gap:
    """Missing cells of columns, from row `start` to before `stop` in order, and how many known ones are needed on either side: 0 or 1."""

    start: int
    stop: int
    cols: Indices
    before: int
    after: int


def copies_of_gaps(observed: Mask, clock: Array, seed: int) -> list[Copies]:
    """Copies of gaps ``(m, n)`` in random order and at random places, as many as `HELD` and `KEPT` allow, for one fit or several. No cell is
    checked twice."""
    order = np.flatnonzero(~np.isnan(clock[:, 1]))
    order = order[np.lexsort((clock[order, 1], clock[order, 0]))]
    free, found = observed.copy(), list[Copies]()
    generator, count, long = np.random.default_rng(seed), 0, 0
    gaps, cut = _Laying(observed[order], observed[order], clock[order, 0]).gaps(generator)
    while long < ENOUGH and len(found) < MOST_FITS:
        laying = _Laying(observed[order], free[order], clock[order, 0])
        laying.run(gaps, generator)
        if not laying.count:
            break
        hidden, number = np.zeros_like(observed), np.full(observed.shape, -1)
        hidden[order], number[order] = laying.hidden, np.where(laying.number >= 0, laying.number + count, -1)
        found.append(Copies(hidden, number, cut))
        free &= number < 0
        count += laying.count
        long += laying.long
    return found


class _Laying:
    """The state of `copies_of_gaps`, in the order of time. Borders of copies stay known."""

    def __init__(self, known: Mask, free: Mask, group: Array) -> None:
        self.known, self.free, self.border = known, known & free, np.zeros_like(known)
        self.first, self.last = (np.searchsorted(group, group, side=side) for side in ("left", "right"))
        self.hidden, self.number, self.count = np.zeros_like(known), np.full(known.shape, -1), 0
        self.dark, self.long = np.zeros(known.shape[1], int), 0  # hidden cells of each column, copies of long gaps
        self.most = (1 - KEPT) * known.sum(0)
        self.wanted = HELD * known[:, ~known.all(0)].sum()

    def run(self, gaps: Sequence[_Gap], generator: np.random.Generator) -> None:
        """Each gap as often as the others, so that checked cells are as those to be filled; the longest first, which need most room."""
        cells = sum((gap.stop - gap.start) * gap.cols.size for gap in gaps)
        count = min(math.ceil(len(gaps) * self.wanted / max(cells, 1)), MOST_COPIES)
        rounds = math.ceil(count / max(len(gaps), 1))
        chosen = [gaps[place] for _ in range(rounds) for place in generator.permutation(len(gaps))][:count]
        for gap in sorted(chosen, key=lambda gap: gap.start - gap.stop):
            starts = self.starts(gap)
            if starts.size:
                self.lay(gap, int(generator.choice(starts)))

    def gaps(self, generator: np.random.Generator) -> tuple[list[_Gap], bool]:
        """Some of the gaps, of those of which no copy fits the first half, quarter and so on; and whether there are such."""
        whole = list(self.whole_gaps())
        whole = [whole[place] for place in generator.permutation(len(whole))[:MOST_COPIES]]
        fitting = [self.fitting(gap) for gap in whole]
        return fitting, any(one is not gap for one, gap in zip(fitting, whole, strict=True))

    def whole_gaps(self) -> Iterator[_Gap]:
        """Maximal runs of holes within their group; those of the same rows together. Columns that a group lacks are no gap."""
        rows = np.arange(len(self.known))
        columns: dict[tuple[int, int], list[int]] = {}
        for column, seen in enumerate(self.known.T):
            starts = np.flatnonzero(~seen & ((rows == self.first) | np.r_[True, seen[:-1]]))
            stops = np.flatnonzero(~seen & ((rows == self.last - 1) | np.r_[seen[1:], True])) + 1
            for run in zip(starts.tolist(), stops.tolist(), strict=True):
                columns.setdefault(run, []).append(column)
        for (start, stop), cols in columns.items():
            before, after = int(start > self.first[start]), int(stop < self.last[start])
            if before or after:
                yield _Gap(start, stop, np.array(cols), before, after)

    def fitting(self, gap: _Gap) -> _Gap:
        while gap.stop - gap.start > 1 and not self.starts(gap).size:
            gap = replace(gap, stop=(gap.start + gap.stop) // 2)
        return gap

    def starts(self, gap: _Gap) -> Indices:
        """Where a copy of a gap fits: all free, known cells on the sides where the gap has them, and enough left of its columns."""
        length, cols = gap.stop - gap.start, gap.cols
        hiding = length if gap.before and gap.after else (1 + BEYOND) * length
        if (self.dark[cols] + hiding > self.most[cols]).any():
            return np.zeros(0, int)
        start = np.arange(max(len(self.known) - length + 1, 0))
        start = start[(start - gap.before >= self.first[start]) & (start + length + gap.after <= self.last[start])]
        lit = np.all((self.known & ~self.hidden)[:, cols], axis=1)
        closed = np.any((~self.free | self.hidden | self.border)[:, cols], axis=1)
        fits = _count(closed, start, start + length) == 0
        low, high = self.reach(gap, start)
        border = np.any(self.border[:, cols], axis=1)
        for needed, side, near, far in (
            (gap.before, start - 1, low, start),
            (gap.after, start + length, start + length, high),
        ):
            fits &= lit[side] if needed else _count(border, near, far) == 0
        return start[fits]

    def reach(self, gap: _Gap, start: Any) -> tuple[Any, Any]:
        """The first row, and that after the last, in which the columns of a gap are hidden for a copy that begins in this row."""
        stop, beyond = start + gap.stop - gap.start, BEYOND * (gap.stop - gap.start)
        low = start if gap.before else np.maximum(start - beyond, self.first[start])
        return low, stop if gap.after else np.minimum(stop + beyond, self.last[start])

    def lay(self, gap: _Gap, start: int) -> None:
        """A copy that begins in this row."""
        stop, (low, high) = start + gap.stop - gap.start, self.reach(gap, start)
        hiding = np.zeros((high - low, self.known.shape[1]), bool)
        hiding[start - low : stop - low] = ~self.known[gap.start : gap.stop] & (self.dark < self.most)
        hiding[:, gap.cols] = True
        hiding &= self.known[low:high] & ~self.border[low:high] & ~self.hidden[low:high]
        self.hidden[low:high] |= hiding
        self.dark += hiding.sum(0)
        if gap.before:
            self.border[start - 1, gap.cols] = True
        if gap.after:
            self.border[stop, gap.cols] = True
        self.number[start:stop, gap.cols] = self.count
        self.count += 1
        self.long += stop - start >= LONG


def _count(cells: Mask, low: Indices, high: Indices) -> Indices:
    """How many of them lie in rows from `low` to before `high`."""
    before = np.r_[0, np.cumsum(cells)]
    return before[high] - before[low]

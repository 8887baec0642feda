"""How wide intervals must be, from the errors of checked cells."""

from typing import NamedTuple

import numpy as np

from lowdim._intervals import Z
from lowdim._linalg import Array, Indices, Mask

LEVEL = 0.9
POOLED = 10  # checked cells, or copies of gaps, of a column that weigh as much as all columns together
POOLED_CLASS = 2  # of a class, that weigh as much as all classes together
EXACT = 1e-3  # of the largest error of a column, below which another is told exactly, and says nothing of the errors of others
TYPICAL = 0.3  # correlation within a gap of lying outside the interval


class Errors(NamedTuple):
    """Absolute errors of checked cells over what their deviations are thought to be: their columns, the classes of their distance from
    what is known, and the copy of a gap that each lies in (a number of its own where it stands alone)."""

    sizes: Array
    cols: Indices
    place: Indices
    copy: Indices


def spread(errors: Errors, shape: tuple[int, int]) -> Array:
    """The factors ``(columns, classes)`` that make intervals of `LEVEL` cover as many of the checked cells.

    Classes are drawn to all cells together, and columns to all columns, by the number of copies: errors in one gap go together. A class
    without cells is taken to be as the next lower one. Columns that are told exactly, as the times themselves are, count for themselves alone.
    """
    if not errors.sizes.size:
        return np.ones(shape)
    factors, felt = np.empty(shape), _felt(errors)
    common = overall = _quantile(errors.sizes[felt])
    for k in range(shape[1]):
        here = np.flatnonzero(errors.place == k)
        if felt[here].any():
            common = _drawn(overall, errors, here[felt[here]], POOLED_CLASS)
        factors[:, k] = common if felt[here].any() or not k else factors[:, k - 1]
        for column, own in _by_column(here, errors.cols[here]).items():
            factors[column, k] = _drawn(common, errors, own, POOLED)
    return factors / Z


def surplus(errors: Errors, factors: Array) -> Array:
    """What the factors of each class are to be multiplied with because they rest on few copies of gaps, ``(classes,)``.

    One more gap may lie anywhere among the copies. If each had one error, the level of their conformal quantile would be
    ``LEVEL (1 + 1 / copies)``; if errors in a copy were independent, it would be that of so many cells. Between them the cells count as
    fewer by the correlation within copies of lying outside the interval (the design effect of cluster samples, Kish 1965).
    """
    sizes = errors.sizes / (factors[errors.cols, errors.place] * Z)
    more = np.ones(factors.shape[1])
    for k in range(more.size):
        here = errors.place == k
        if here.any():
            more[k] = _surplus(sizes[here], errors.copy[here])
        elif k:
            more[k] = more[k - 1]
    return more


def _surplus(sizes: Array, copy: Indices) -> float:
    copy, counts = np.unique(copy, return_inverse=True, return_counts=True)[1:]
    pairs = float((counts * (counts - 1)).sum())
    if not pairs:
        return 1.0
    outside = np.bincount(copy, sizes > 1)
    share = float(outside.sum()) / sizes.size
    together = float((outside * (outside - 1)).sum()) / pairs
    own = (together - share**2) / (share * (1 - share)) if 0 < share < 1 else TYPICAL
    correlation = (counts.size * np.clip(own, 0, 1) + POOLED * TYPICAL) / (counts.size + POOLED)
    independent = sizes.size / (1 + correlation * pairs / sizes.size)
    return max(1.0, float(np.quantile(sizes, min(LEVEL * (1 + 1 / independent), 1.0))))


def _felt(errors: Errors) -> Mask:
    """Which cells are in columns that are not told exactly."""
    largest = np.zeros(errors.cols.max() + 1)
    np.maximum.at(largest, errors.cols, errors.sizes)
    return largest[errors.cols] >= EXACT * largest.max()


def _by_column(cells: Indices, cols: Indices) -> dict[int, Indices]:
    """The cells of each of these columns."""
    columns, starts = np.unique(np.sort(cols), return_index=True)
    return dict(zip(columns.tolist(), np.split(cells[np.argsort(cols, kind="stable")], starts)[1:], strict=True))


def _drawn(common: float, errors: Errors, cells: Indices, pooled: int) -> float:
    """The quantile of some errors, drawn to a common one. Few errors of 0, as those of rounded values, do not show that all are."""
    count = np.unique(errors.copy[cells]).size
    own = max(_quantile(errors.sizes[cells]), common * 10 ** (-count / 2))
    return float(np.exp((count * np.log(own) + pooled * np.log(common)) / (count + pooled)))


def _quantile(errors: Array) -> float:
    """The conformal quantile: one more error, that of the cell to be filled, is as likely anywhere among these."""
    place = min(int(np.ceil(LEVEL * (errors.size + 1))), errors.size) - 1
    return max(float(np.sort(errors)[place]), 1e-12)

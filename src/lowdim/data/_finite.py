"""Feature rows that are numbers, also in float32, and the names of samples that are not."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lowdim.data._dataset import Split
from lowdim.errors import InputError, NonFiniteError

_SHOWN = 5
_AT_ONCE = 4096
_LOST = 0.1
"""Of a column's standard deviation that float32 may round away."""


def some(items: Sequence[str], positions: Iterable[int]) -> str:
    """The names of some samples, the first few of many.

    Example:
        >>> some(["a", "b", "c"], [2, 0])
        'c, a'
    """
    chosen = list(positions)
    more = f", … ({len(chosen):,} in all)" if len(chosen) > _SHOWN else ""
    return ", ".join(items[int(position)] for position in chosen[:_SHOWN]) + more


def require_finite(split: Split) -> None:
    """Refuses feature rows that are no numbers in the float32 that networks compute with; other samples always are.

    Raises:
        NonFiniteError: If a row holds NaN, infinity or a number beyond float32, or all of them vanish in it; says which.
    """
    if split.kind != "features" or not len(split):
        return
    largest = np.array([np.abs(split.load(index)).max() for index in range(len(split))], dtype=np.float64)
    limits = np.finfo(np.float32)
    bad = np.flatnonzero(~(largest <= limits.max))
    if len(bad):
        raise NonFiniteError(
            f"{len(bad)} of {len(split)} samples of the {split.name} split are NaN, infinite or beyond {limits.max:.2g}: "
            f"{some(split.items, bad)}. Drop them, or find out where they come from."
        )
    if 0 < largest.max() < limits.tiny:
        raise NonFiniteError(
            f"No number of the {split.name} split is larger than {largest.max():.2g}, which vanishes in float32. Scale the features."
        )


def rounding_warnings(split: Split) -> list[str]:
    """The warning that float32 rounds away most of what varies in some columns of features in double precision; else none.

    Raises:
        InputError: If it does so in all columns.
    """
    if split.kind != "features" or not len(split) or split.load(0).dtype != np.float64:
        return []
    lost, varying = _lost_in_float32(split)
    if not len(lost):
        return []
    columns = some([str(column) for column in range(lost[-1] + 1)], lost)
    where = "all columns" if len(lost) == varying else f"columns (from 0) {columns}"
    message = (
        f"Networks compute in float32, which rounds away most of what varies in {where} of the {split.name} split: they lie too far "
        "from zero, or are too small. Subtract their means and divide by their standard deviations."
    )
    if len(lost) == varying:
        raise InputError(message)
    return [message]


def _lost_in_float32(split: Split) -> tuple[np.ndarray, int]:
    """Columns that vary hardly more than float32 rounds them, and how many vary."""
    count = len(split)

    def rows() -> Iterator[np.ndarray]:
        for start in range(0, count, _AT_ONCE):
            yield np.stack([split.load(index) for index in range(start, min(start + _AT_ONCE, count))])

    largest = np.max([np.abs(part).max(axis=0) for part in rows()], axis=0)
    largest[largest == 0] = 1
    mean = np.sum([(part / largest).sum(axis=0) for part in rows()], axis=0) / count
    deviations, errors = np.zeros(len(mean)), np.zeros(len(mean))
    for part in rows():
        deviations += ((part / largest - mean) ** 2).sum(axis=0) / count
        errors = np.maximum(errors, np.abs((part - part.astype(np.float32)) / largest).max(axis=0))
    deviations = np.sqrt(deviations)
    varying = deviations > count * np.finfo(np.float64).eps
    return np.flatnonzero(varying & (errors > _LOST * deviations)), int(varying.sum())

"""Feature rows that are numbers, and the names of samples that are not."""

from collections.abc import Iterable, Sequence

import numpy as np

from lowdim.data._dataset import Split
from lowdim.errors import NonFiniteError

_SHOWN = 5


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

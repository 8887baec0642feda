"""What models say of known cells that they have not seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lowdim._linalg import Array, Indices, Mask
from lowdim.completion.solvers.table._completion import TableCompletion
from lowdim.completion.solvers.table._gaps import Copies
from lowdim.completion.solvers.table._in_time import interpolated


@dataclass(frozen=True)
class Unseen:
    """Known cells as models tell them that have not seen them; all ``(m, n)``, in the units of the fitted model.

    Attributes:
        modelled: By the model.
        unit: The square root of the factor model's deviation.
        line: By interpolation in time.
        place: The class of the distance from what is known in time.
        copy: The number of the copy of a gap, or of the single cell; -1 where a cell is not checked.
    """

    modelled: Array
    unit: Array
    line: Array
    place: Indices
    copy: Indices

    @classmethod
    def alone(cls, fitted: TableCompletion, clock: Array | None) -> "Unseen":
        """Each known cell by itself."""
        stage = fitted.stage
        modelled, unit = np.full((2, *fitted.values.shape), np.nan)
        modelled[stage.rows], unit[stage.rows] = stage.honest, np.sqrt(stage.deviation)
        copy = Copies.of_cells(~np.isnan(modelled)).number
        return cls(modelled, unit, *_in_time(fitted, fitted.observed, clock, others=True), copy)

    @classmethod
    def of_copies(
        cls, checks: Sequence[tuple[TableCompletion, Copies]], fitted: TableCompletion, clock: Array | None
    ) -> "Unseen":
        """The cells of copies of gaps, each by a model from which it was hidden."""
        whole = cls(*np.full((3, *fitted.values.shape), np.nan), *np.full((2, *fitted.values.shape), -1))
        for check, copies in checks:
            size, shift = check.scale / fitted.scale, (check.mean - fitted.mean) / fitted.scale
            modelled = shift + size * check.stage.complete(check.values, check.observed)
            plain = check.stage.plain
            unit = size * np.sqrt(plain.predict(plain.inner(check.values), check.observed)[2])
            line, place = _in_time(fitted, check.observed, clock)
            here = copies.number >= 0
            for part, own in zip(vars(whole).values(), (modelled, unit, line, place, copies.number), strict=True):
                part[here] = own[here]
        return whole


def _in_time(
    fitted: TableCompletion, observed: Mask, clock: Array | None, *, others: bool = False
) -> tuple[Array, Indices]:
    if clock is None:
        return np.full(observed.shape, np.nan), np.zeros(observed.shape, np.intp)
    return interpolated(fitted.values, observed, clock, others=others)

"""Where the marks of an axis and the names of points stand: one answer for the drawing and the interactive figure."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from lowdim.figures import Lines

_WIDE, _HIGH = 400.0, 190.0
"""Points of a panel's axes, about."""
_LETTER, _LINE = 4.2, 9.0
"""Points of a letter and a line of a name, about."""
_NARROW = 30
"""Largest over smallest value of a logarithmic axis up to which powers of ten alone would leave it without marks."""
Numbers = Sequence[float] | np.ndarray


def log_ticks(values: Numbers) -> list[float] | None:
    """Marks of a logarithmic axis that spans too little for powers of ten; None where these will do.

    Example:
        >>> log_ticks([12.0, 20.0]), log_ticks([1.5, 30.0]), log_ticks([1e-6, 1.0])
        ([12.0, 14.0, 16.0, 18.0, 20.0], [2.0, 5.0, 10.0, 20.0], None)
    """
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known) & (known > 0)]
    if not len(known) or known.max() > _NARROW * known.min():
        return None
    low, high = float(known.min()), float(known.max())
    if high > 5 * low:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        marks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    else:
        marks = [float(mark) for mark in MaxNLocator(5).tick_values(low, max(high, low * 1.01))]
    inside = [mark for mark in marks if 0.999 * low <= mark <= 1.001 * high]
    return inside or marks


def label_sides(lines: Lines, x: Numbers, y: Numbers, labels: Sequence[str]) -> list[str]:
    """On which side of its point each name stands ("top right", …), so that names cover neither each other nor the edge, where there
    is room.

    Example:
        >>> from lowdim.figures import Series
        >>> two = Series("two", [0.0, 1.0, 1.0], [0.0, 1.0, 1.0], style="points")
        >>> label_sides(Lines("f", "", "", "", [two]), two.x, two.y, ["a", "b", "c"])
        ['top right', 'top left', 'bottom left']
    """
    across, up = _scaled(x, log=lines.log_x) * _WIDE, _scaled(y, log=lines.log_y) * _HIGH
    taken: list[tuple[float, float, float, float]] = []
    sides: list[str] = []
    for place, label in enumerate(labels):
        width = _LETTER * len(label)
        outward = ("left", "right") if across[place] > _WIDE / 2 else ("right", "left")
        boxes: dict[str, tuple[float, float, float, float]] = {}
        for horizontal in outward:
            for vertical in ("top", "bottom", "middle"):
                left = across[place] + 4 if horizontal == "right" else across[place] - 4 - width
                bottom = up[place] + {"top": 3, "bottom": -3 - _LINE, "middle": -_LINE / 2}[vertical]
                boxes[f"{vertical} {horizontal}"] = (left, bottom, left + width, bottom + _LINE)
        side = min(boxes, key=lambda name: sum(_shared(boxes[name], other) for other in taken))
        taken.append(boxes[side])
        sides.append(side)
    return sides


def _scaled(values: Numbers, *, log: bool) -> np.ndarray:
    """Between 0 and 1, as far as they are known."""
    known = np.asarray(values, dtype=float)
    known = np.log(np.where(known > 0, known, np.nan)) if log else known
    low, high = np.nanmin(known, initial=np.inf), np.nanmax(known, initial=-np.inf)
    return np.nan_to_num((known - low) / (high - low) if high > low else np.zeros(len(known)))


def _shared(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    """Area that two boxes have in common."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)

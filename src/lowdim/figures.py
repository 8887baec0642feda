"""Descriptions of figures: the data and its labels, nothing drawn.

Any room may describe what should be seen; only `lowdim.report` draws, from one description both the SVG and the interactive figure,
and writes the numbers as CSV.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

Style = Literal["line", "points", "dashed", "line+points", "dotted", "bars"]


@dataclass(frozen=True)
class Series:
    """One curve: `y` against `x` (equal lengths), with an optional band from `low` to `high`."""

    name: str
    x: Sequence[Any] | np.ndarray
    y: Sequence[float] | np.ndarray
    low: Sequence[float] | np.ndarray | None = None
    high: Sequence[float] | np.ndarray | None = None
    style: Style = "line"
    labels: Sequence[str] | None = None
    """Text of each point, shown on hover (and beside the point when the style is ``"points"``)."""
    colour: int | None = None
    """Place in the palette; default the place among the series. Equal numbers give related curves one colour."""


@dataclass(frozen=True)
class Lines:
    """Curves over one pair of axes. `x_ticks` replaces the numbers 0, 1, … on the horizontal axis by names. With `across` the names run
    down the page, each above its row, and values run across: for names of any length."""

    name: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False
    x_ticks: Sequence[str] | None = None
    caption: str = ""
    across: bool = False

    @property
    def counted(self) -> int | None:
        """Where only whole numbers stand on the horizontal axis, so that a mark between them means nothing: from the first to the last."""
        places = (
            np.concatenate([np.asarray(series.x).ravel() for series in self.series]) if self.series else np.empty(0)
        )
        if places.dtype.kind not in "iuf" or not places.size or (places % 1 != 0).any():  # as of infinite ones
            return None
        return int(places.max()) - int(places.min())


@dataclass(frozen=True)
class Surface:
    """A surface z[i, j] over y[i] (rows) and x[j] (columns)."""

    name: str
    title: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    z: np.ndarray
    x_label: str
    y_label: str
    z_label: str
    log_z: bool = False
    caption: str = ""


@dataclass(frozen=True)
class Matrix:
    """Counts by row and column, each cell coloured by its share of the row."""

    name: str
    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    counts: np.ndarray
    x_label: str
    y_label: str
    caption: str = ""


@dataclass(frozen=True)
class Panels:
    """Several figures side by side, of one kind each (all `Lines` or all `Surface`)."""

    name: str
    title: str
    panels: "Sequence[Lines] | Sequence[Surface]"
    columns: int = 3
    caption: str = ""


@dataclass(frozen=True)
class Images:
    """Pictures with captions; each is uint8, H x W or H x W x 3."""

    name: str
    title: str
    images: Sequence[tuple[str, np.ndarray]]
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of values under column names. Where there is no room for all columns, those of `drop` are left out first, in that order;
    a terminal shows at most the first `most` rows."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    drop: Sequence[str] = ()
    most: int | None = None


Figure: TypeAlias = Lines | Surface | Matrix | Panels | Images

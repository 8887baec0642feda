"""Ratings as a wide table: a row for each user, a column for each item, empty where one did not rate."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdim.tables._columns import Column
from lowdim.tables._file import Source, TextSource
from lowdim.tables._scales import scale_of
from lowdim.tables._table import Table

MOST_LEVELS = 11
FEWEST_ITEMS = 10
LEAST_EMPTY = 0.5
_TRIED = 20  # texts, before all are looked at
_PART = 1_000_000  # cells whose ids are held as texts at a time
_ID_NAME = re.compile(r"(?i)name|.*user.*|.*customer.*|.*review.*|.*rater.*|.*client.*|member|person|.*id")
_NUMBER = re.compile(r"[+\-\N{MINUS SIGN}]?\d[\d.,]*")
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Wide:
    """Ratings in a wide table.

    Attributes:
        source: The file.
        columns: Those of the table with ratings.
        places: Of these in the file.
        numbers: ``(rows, items)``, NaN where nothing is known.
        ids: Of all rows, all different.
        others: Columns that are completed with a table, and not with ratings.
        write: A rating as the file has it, where that is more than a number.
    """

    source: Source
    columns: tuple[Column, ...]
    places: Places
    numbers: NDArray[np.float64]
    ids: NDArray[np.str_]
    others: tuple[str, ...]
    write: Callable[[float], str] | None = None

    @property
    def names(self) -> NDArray[np.str_]:
        """Of the items."""
        return np.array([column.name for column in self.columns])

    @property
    def low(self) -> float:
        """The least rating."""
        return float(np.nanmin(self.numbers))

    @property
    def high(self) -> float:
        """The largest."""
        return float(np.nanmax(self.numbers))

    @property
    def empty(self) -> float:
        """The share of unknown cells, of rows and columns that have any."""
        known = ~np.isnan(self.numbers)
        rated = np.count_nonzero(known, axis=1) > 0, np.count_nonzero(known, axis=0) > 0
        return 1 - float(np.mean(known[np.ix_(*rated)]))

    @property
    def is_one(self) -> bool:
        """Whether these look like ratings: whole or half numbers of a few levels, the same in all of ten columns, at least half unknown."""
        found = self.numbers[~np.isnan(self.numbers)]
        if len(self.columns) < FEWEST_ITEMS or not found.size or (2 * found % 1).any():
            return False
        return 0 < self.high - self.low < MOST_LEVELS and self.empty >= LEAST_EMPTY

    def holes(self) -> Iterator[tuple[Places, Places]]:
        """Rows, and places among the items, of what can be told: some at a time."""
        rated = ~np.isnan(self.numbers)
        known = np.column_stack([column.known for column in self.columns])  # also words among the numbers
        wanted = ~known & np.any(rated, axis=1)[:, None] & rated.any(0)
        step = max(1, _PART // max(wanted.shape[1], 1))
        for first in range(0, len(wanted), step):
            rows, cols = np.nonzero(wanted[first : first + step])
            yield rows + first, cols

    def written(self, item: int, value: float) -> Any:
        """A filled cell: with two decimals, where the type of its column holds them."""
        if self.write is not None:
            return self.write(value)
        column = self.columns[item]
        usual = column.write(float(round(value)))
        if isinstance(usual, str):
            number = f"{value:.2f}"
            if isinstance(self.source, TextSource):
                number = number.replace(".", self.source.text.form.decimal)
            return _NUMBER.sub(number, usual, count=1)
        if isinstance(usual, int) and self.source.suffix != ".xlsx":
            return usual
        return round(value, 2)


def wide_ratings(source: Source, table: Table) -> Wide:
    """The columns of a table that may hold ratings: of numbers with holes, without that of the ids."""
    first = table.columns[0]
    named = first.kind in ("id", "text") or _is_name(first)
    numbers, write = dict[int, Any](), None
    for place, column in enumerate(table.columns):
        values = None if place == 0 and named else _numbers(source, place, column)
        if values is not None and np.isnan(values).any():
            numbers[place] = values
    if all(table.columns[place].kind == "constant" for place in numbers):
        scaled, write = _scaled(source, table, named)
        numbers = scaled or numbers
    others = [
        column.name
        for place, column in enumerate(table.columns)
        if column.modelled and place not in numbers and not (place == 0 and named)
    ]
    height = len(first.known)
    ids = [str(cell) for cell in source.cells.iloc[:, 0]] if named else []
    if len(set(ids)) < height or max(map(len, ids)) > 1_000:
        ids = [str(row + 1) for row in range(height)]
    matrix = np.column_stack(list(numbers.values())) if numbers else np.zeros((height, 0))
    columns = tuple(table.columns[place] for place in numbers)
    return Wide(source, columns, np.array(list(numbers), np.intp), matrix, np.array(ids), tuple(others), write)


def _scaled(
    source: Source, table: Table, named: bool
) -> tuple[dict[int, NDArray[np.float64]], Callable[[float], str] | None]:
    """The numbers of columns in which the ratings of one scale stand as texts, and how one is written there."""
    kinds = ("category", "boolean", "constant", "text")
    places = [
        place for place, column in enumerate(table.columns) if column.kind in kinds and not (place == 0 and named)
    ]
    known = [np.flatnonzero(table.columns[place].known) for place in places]
    texts = [str(source.cells.iat[row, place]) for place, rows in zip(places, known, strict=True) for row in rows]
    scale = None
    for part in (texts[:_TRIED], texts):
        scale = scale_of(part) if part else None
        if scale is None:
            return {}, None
    assert scale is not None
    found: dict[int, NDArray[np.float64]] = {}
    parts = np.split(np.array(scale.values), np.cumsum([rows.size for rows in known])[:-1])
    for place, rows, values in zip(places, known, parts, strict=True):
        found[place] = np.full(len(source.cells), np.nan)
        found[place][rows] = values
    return found, scale.write


def _is_name(column: Column) -> bool:
    """Whether numbers in the first column name users."""
    distinct = len(np.unique(column.values)) == len(column.known)
    return column.kind == "integer" and distinct and _ID_NAME.fullmatch(column.name) is not None


def _numbers(source: Source, place: int, column: Column) -> Any:
    """The numbers of a column of them, also of one where all are the same."""
    if column.kind in ("integer", "number"):
        return column.numbers[:, 0]
    if column.kind != "constant":
        return None
    row = int(column.known.argmax())
    text = str(source.cells.iloc[row, place])
    value, scale = source.number(text), None
    if value is None and any(sign.isdigit() for sign in text):  # as its neighbours, which are numbers with a unit
        scale = scale_of([text])
    value = value if scale is None else scale.values[0]
    return None if value is None else np.where(column.known, value, np.nan)

"""A table of columns of any kind as one matrix of numbers, and the matrix as the table's cells again."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lowdim._intervals import Z
from lowdim._numbers import capped
from lowdim.errors import InputError, UsageError, did_you_mean
from lowdim.tables._columns import (
    KINDS,
    Column,
    Kind,
    column_like,
    column_of_texts,
    column_of_values,
    dates_in_numbers,
    identifies,
    marks_of,
)
from lowdim.tables._cycles import CYCLES, comes_round
from lowdim.tables._dates import dates_of_texts, have_day_first
from lowdim.tables._marks import LEVELS_AS_WELL, MISSING, MISSING_TEXT, USUAL
from lowdim.tables._text import Form, form_of_cells

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_NINES = (9.0, 99.0, 999.0, 9999.0, 99999.0)
_CODES = (*_NINES, 7.0, 8.0, 77.0, 88.0, 97.0, 98.0, 997.0, 998.0)
SENTINELS = (*(-code for code in _CODES), *(code for code in _CODES if code > 9))
"""Numbers that people write for a missing one, or for an answer that was refused or not known."""
_NO_DATES = tuple(
    (date(*day) - date(1970, 1, 1)).days for day in [(1, 1, 1), (1753, 1, 1), (1899, 12, 30), (1899, 12, 31), (1900, 1, 1), (1970, 1, 1), (2099, 12, 31), (2999, 12, 31), (9999, 12, 31)]
)  # fmt: skip
"""Days since 1970 that programs write for no date."""
_LARGE = 999.0  # nines that are asked about however seldom they are
_APART = 3.0  # steps between the other values beyond them, from which a nine is asked about
_FAR = 2.0  # ranges of the other values beyond their range, from which one of them is likely to be none
_OFTEN, _SEVERAL = 3, 6
_RATINGS = 20  # rows from which a full table of two columns of ids may hold ratings
_TOTAL = re.compile(
    r"(?i)((grand|sub)[ -]?)?totals?|sums?|summe|zwischensumme|gesamt|insgesamt|average|avg|mean|durchschnitt|mittelwert|median"
)
"""What stands before a row of totals."""
_STATISTIC = re.compile(r"(?i)count|n|anzahl|min(imum)?|max(imum)?|std|stdev|standard deviation|standardabweichung")
"""What does where it stands beside such a row; elsewhere it may be a name."""
_TOTALS = 0.1  # of the rows, up to which they can be totals of the others
_SUM = r"totals?|totale[sn]?|totaux|totaal|sums?|summen?|somme|suma|somma|soma|gesamt\w*|insgesamt|ergebnis|all|alle|overall|итого|всего|合计|总计|小计|合計|小計|計|총계|합계|Σ|∑"
_OF_A_SUM = re.compile(rf"(?i)\W*(({_SUM})(\W.*)?|.*\W({_SUM}))\W*")
"""What may stand before a row of sums, among other words: where its numbers are none of less than these rows' sum, too."""
_ROUNDED = 1e-9  # of a sum, by which it is missed
_MANY = 8  # rows, from which the sum of one column is no chance
_NOTE = re.compile(r"[^\W\d].*[\s:].*")
_YEAR_NAME = re.compile(r"(?i)(year|yr|jahr|année|annee|an|año|ano|anno|rok)s?")
_YEAR = re.compile(r"[12]\d{3}(\.0)?")
_LEAST_TIMES = 3  # of each entity, on average
_MOSTLY, _TELLING = 0.5, 8  # share and number of known times, of which some are unknown, whose order is no chance
_EVEN, _SELDOM = 0.15, 0.05  # of the median step: how much others differ; the share of steps that are longer


_Reader = Callable[[str, pd.Series, Kind | None], Column]


class Filled(NamedTuple):
    """One filled cell: ``low`` and ``high`` bound a 90 % interval of a number; a category has its probability instead."""

    row: int
    column: str
    value: Any
    low: float | None
    high: float | None
    probability: float | None

    @property
    def deviation(self) -> float:
        """Of a number; of a category the probability of being another."""
        if self.low is None or self.high is None:
            return 1 - (self.probability or 0.0)
        return (self.high - self.low) / (2 * Z)


@dataclass(frozen=True)
class Table:
    """Columns of any kind.

    Attributes:
        columns: All of them, in order.
        notes: What was found and is not plain: one line each.
        clock: ``(rows, 2)``, the number of the entity and the time of each row (NaN where it is not known); None where rows have no order.
        time: The column with the times.
        entity: The column with the entities that each have times of their own.
    """

    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()
    clock: Array | None = None
    time: str | None = None
    entity: str | None = None

    @property
    def matrix(self) -> Array:
        """The columns that enter the model, ``(rows, width)``, NaN in the holes."""
        return np.concatenate([column.inputs for column in self.columns], axis=1)

    @property
    def blocks(self) -> list[NDArray[np.intp]]:
        """Of every column of the matrix: the columns that stand for the same column of the table."""
        blocks: list[NDArray[np.intp]] = []
        for column in self.columns:
            width, start = column.width, len(blocks)
            blocks += [np.arange(start, start + width)] * width
        return blocks

    @property
    def names(self) -> list[str]:
        """Of the columns of the matrix: a level stands behind its column's name, and so does where in a cycle a date is."""
        names: list[str] = []
        for column in self.columns:
            category = column.kind == "category"
            names += (
                [f"{column.name}={level}" for level in column.levels] if category else [column.name] * column.modelled
            )
            names += [
                f"{column.name} modulo {days:g} ({wave})" for days in column.cycles for wave in ("sine", "cosine")
            ]
        return names

    def like(self, frame: pd.DataFrame) -> "Table":
        """Other rows of the same columns, in their order."""
        frame = with_times(frame)
        columns = tuple(column_like(column, frame.iloc[:, place]) for place, column in enumerate(self.columns))
        clock = None if self.clock is None else _clock(frame, columns, self.time, self.entity, _times_of_values)
        return replace(self, columns=columns, clock=clock)

    def placed(self, rows: NDArray[np.intp], totals: NDArray[np.intp], count: int) -> "Table":
        """The same as these rows of so many; the others hold nothing of the model, and stay as they are."""

        def spread(part: NDArray[Any], nothing: Any) -> NDArray[Any]:
            whole = np.full((count, *part.shape[1:]), nothing)
            whole[rows] = part
            return whole

        columns = tuple(
            replace(column, known=spread(column.known, False), numbers=spread(column.numbers, np.nan))
            for column in self.columns
        )
        clock = None if self.clock is None else spread(self.clock, np.nan)
        known = np.any([column.known for column in columns if column.modelled], axis=0)
        known |= False if clock is None else ~np.isnan(clock[:, 1])
        notes = [
            f"{what}: {', '.join(str(row + 1) for row in where[:5])}{f', … ({where.size} in all)' if where.size > 5 else ''}"
            for what, where in (
                ("rows without any value stay empty", np.setdiff1d(np.flatnonzero(~known), totals)),
                ("rows that hold totals of others, or notes, stay as they are", totals),
            )
            if where.size
        ]
        return replace(self, columns=columns, clock=clock, notes=(*self.notes, *notes))

    def describe(self) -> list[str]:
        """One line for each kind that there is."""
        lines: list[str] = []
        shown = {
            "number": "numbers", "integer": "whole numbers", "date": "dates, as days inside", "boolean": "yes or no",
            "category": "categories, one column for each level inside", "ordered": "levels in order, as numbers inside", "constant": "constant, passed through",
            "id": "identifiers, passed through", "text": "text, passed through", "empty": "without any value, left empty",
        }  # fmt: skip
        for kind in KINDS:
            of_kind = [column for column in self.columns if column.kind == kind]
            if of_kind:
                names: list[str] = []
                for _, part in itertools.groupby(
                    of_kind, lambda column: column.why if column.kind == "ordered" else column.name
                ):
                    alike = list(part)
                    told = ", ".join(repr(column.name) for column in alike[:4]) + (", …" if alike[4:] else "")
                    names.append(f"{told} ({alike[0].why})" if alike[0].why else told)
                lines.append(f"{shown[kind]}: {capped(names)}")
        return lines

    def holes(self) -> list[tuple[int, int]]:
        """(row, column) of every cell that the model fills."""
        return [
            (int(row), place)
            for place, column in enumerate(self.columns)
            if column.modelled
            for row in np.flatnonzero(~column.known)
        ]

    def filled(
        self, completed: NDArray[Any], deviations: NDArray[Any] | None = None, rows: Mask | None = None
    ) -> dict[tuple[int, int], Filled]:
        """What stands in the holes.

        Args:
            completed: The completed `matrix`.
            deviations: Of its cells.
            rows: Those to fill, beside those with a time; rows without any value stay as they are.
        """
        answer: dict[tuple[int, int], Filled] = {}
        start = 0
        if rows is not None and self.clock is not None:
            rows = rows | ~np.isnan(self.clock[:, 1])
        for place, column in enumerate(self.columns):
            width = column.width
            if not width:
                continue
            part = slice(start, start + width)
            start += width
            own = completed[:, part]
            if column.name == self.time and self.clock is not None:
                own = np.where(np.isnan(self.clock[:, 1:]), own, self.clock[:, 1:])
            values, probabilities = column.decode(own)
            for row in np.flatnonzero(~column.known if rows is None else ~column.known & rows):
                value = column.write(float(values[row]))
                if column.levels:
                    answer[int(row), place] = Filled(
                        int(row), column.name, value, None, None, float(probabilities[row])
                    )
                    continue
                half = Z * float(deviations[row, part.start]) if deviations is not None else float("nan")
                centre = float(column.within(own[row, :1])[0])
                answer[int(row), place] = Filled(int(row), column.name, value, centre - half, centre + half, None)
        return answer

    def drawn(
        self, completed: NDArray[Any], generator: np.random.Generator, rows: Mask | None = None
    ) -> dict[tuple[int, int], Filled]:
        """As `filled`, of a draw of the completed `matrix`, with levels drawn by their shares."""
        completed, start = completed.copy(), 0
        for column in self.columns:
            part = slice(start, start + column.width)
            start = part.stop
            if column.kind == "category":
                shares = np.maximum(completed[:, part], 1e-9)
                ends = np.cumsum(shares / shares.sum(1, keepdims=True), axis=1)
                level = (generator.random((len(shares), 1)) > ends).sum(1)
                completed[:, part] = level[:, None] == np.arange(shares.shape[1])
            elif column.kind == "boolean":
                completed[:, part] = generator.random((len(completed), 1)) < completed[:, part]
        return self.filled(completed, rows=rows)


def table_of_texts(
    cells: pd.DataFrame,
    names: Sequence[str],
    form: Form,
    *,
    kinds: Mapping[str, Kind] | None = None,
    passed: Sequence[str] = (),
    only: Sequence[str] | None = None,
    missing: Sequence[str] = (),
    sentinels: bool = True,
    time: str | None = None,
    entity: str | None = None,
) -> Table:
    """The columns of a text table.

    Args:
        cells: ``rows x columns`` of text.
        names: Of the columns.
        form: How numbers are written.
        kinds: Of columns, where they are not to be found.
        passed: Columns that pass through.
        only: Columns that do not; all others then do.
        missing: Texts that stand for a missing cell beside the usual ones; ``NAME=TEXT`` in one column.
        sentinels: Whether numbers like -999 that lie far from all others count as missing.
        time: The column with the time of each row; by default the first of dates that ascend or descend, mostly known, or a frame's index of times.
        entity: The column with the entities that each have times of their own.

    Raises:
        UsageError: If a column that is named does not exist, or cannot be of the kind that is asked for.
        InputError: If a column holds infinite values.
    """
    kinds = _checked(names, kinds, (*passed, *_given(time, entity)), only, through=passed)

    rows, totals = _rows_with_values(cells, form.number)
    height, cells = len(cells), cells.iloc[rows].reset_index(drop=True)
    texts = [cells.iloc[:, place].tolist() for place in range(len(names))]
    form = _with_order_of_dates(form, texts)

    def read(place: int, marks: Sequence[str]) -> Column:
        name = names[place]
        return column_of_texts(
            name,
            texts[place],
            form,
            kind=kinds.get(name),
            missing=[*marks_of(name, names, missing), *marks],
            first=place == 0,
        )

    columns = [read(place, ()) for place in range(len(names))]
    for place, marks in enumerate(_marks_of_others(columns, texts)):
        if marks:
            columns[place] = read(place, sorted(marks))
    notes = _marks_found(columns, texts) + _words_kept(columns, texts)
    if sentinels:
        found = [_sentinels(column) for column in columns]
        everywhere = sorted(set().union(*found))
        cleared: dict[tuple[str, ...], list[str]] = {}
        for place, column in enumerate(columns):
            bad = [value for value in everywhere if value in found[place] or _outside(column, value)]
            marks = sorted({text for text in texts[place] if form.number(text) in bad}) if bad else []
            if marks:
                count = int(np.isin(column.numbers, bad).sum())
                columns[place] = read(place, marks)
                cleared.setdefault(tuple(marks), []).append(f"{names[place]!r} ({count} cells)")
        notes += [
            f"{', '.join(marks)} in {', '.join(where[:8])}{', …' if len(where) > 8 else ''} lies far from all other values and is taken as "
            "missing; `sentinels=False` keeps it"
            for marks, where in cleared.items()
        ]

        notes += _codes_apart(columns)

    def times(name: str, cells: pd.Series, kind: Kind | None) -> Column:
        return column_of_texts(name, cells.tolist(), form, kind=kind, missing=marks_of(name, names, missing))

    named = cells.set_axis(list(names), axis=1)
    table = _in_order(Table(tuple(columns), (*notes, *_if_full(columns, named))), named, time, entity, times)
    return _with_cycles(_completable(table)).placed(rows, totals, height)


def table_of_frame(
    frame: pd.DataFrame,
    *,
    kinds: Mapping[str, Kind] | None = None,
    passed: Sequence[str] = (),
    only: Sequence[str] | None = None,
    time: str | None = None,
    entity: str | None = None,
) -> Table:
    """The columns of a frame, and behind them its index where this holds times; arguments as for `table_of_texts`."""
    frame = with_times(frame)
    names = [str(name) for name in frame.columns]
    kinds = _checked(names, kinds, (*passed, *_given(time, entity)), only, through=passed)
    frame = frame.set_axis(names, axis=1)
    form = form_of_cells(_texts_of(frame))
    rows, totals = _rows_with_values(frame, form.number)
    count, frame = len(frame), frame.iloc[rows].reset_index(drop=True)
    texts = _texts_of(frame)
    form = _with_order_of_dates(form, texts)

    def read(name: str, values: pd.Series) -> Column:
        return column_of_values(name, values, kind=kinds.get(name), first=name == names[0], form=form)

    columns = [read(name, frame.iloc[:, place]) for place, name in enumerate(names)]
    for place, marks in enumerate(_marks_of_others(columns, texts)):
        if marks:
            missing = [text.strip().lower() in marks for text in texts[place]]
            columns[place] = read(names[place], frame.iloc[:, place].mask(np.array(missing)))
    notes = [*_marks_found(columns, texts), *_words_kept(columns, texts), *_far_off(columns), *_if_full(columns, frame)]
    table = Table(tuple(columns), tuple(notes))
    table = _completable(_in_order(table, frame, time, entity, _times_of_values))
    return _with_cycles(table).placed(rows, totals, count)


def rows_are_named(frame: pd.DataFrame) -> bool:
    """Whether whole numbers in a frame of numbers name its rows, are their years in order, or spell dates."""
    names = [str(name) for name in frame.columns]
    whole = [place for place, dtype in enumerate(frame.dtypes) if getattr(dtype, "kind", "") in "iu"]
    if any(identifies(names[place], frame.iloc[:, place].to_numpy(), first=place == 0) for place in whole):
        return True
    if any(dates_in_numbers(name, frame.iloc[:, place].dropna().to_numpy(float)) for place, name in enumerate(names)):
        return True
    return any(_YEAR_NAME.fullmatch(name.strip()) for name in names) and table_of_frame(frame).time is not None


def with_times(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its index as the last column, where this holds a time for every row; else as it is."""
    index = frame.index.to_timestamp() if isinstance(frame.index, pd.PeriodIndex) else frame.index
    if not isinstance(index, pd.DatetimeIndex) or index.hasnans:
        return frame
    name = str(index.name) if index.name is not None else "index"
    while name in map(str, frame.columns):
        name += " (index)"
    return frame.assign(**{name: index})


def _with_order_of_dates(form: Form, texts: Sequence[Sequence[str]]) -> Form:
    """The form, with what these columns say about the order of day and month."""
    given = ([stripped for text in own if (stripped := text.strip())] for own in texts)
    return replace(form, day_first=form.decimal == "," or any(map(have_day_first, given)))


def _texts_of(frame: pd.DataFrame) -> list[list[str]]:
    """The cells of each column that are texts, and empty texts for the others."""
    return [[cell if isinstance(cell, str) else "" for cell in frame[name].astype(object)] for name in frame]


def _rows_with_values(
    cells: pd.DataFrame, number: Callable[[str], float | None]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows that hold data; and those that hold totals of them or, below all others, notes. The rest is empty."""
    filled, words = np.zeros(cells.shape, bool), np.zeros(cells.shape, bool)
    for place in range(cells.shape[1]):
        column = cells.iloc[:, place]
        texts = [cell.strip() if isinstance(cell, str) else None for cell in column]
        filled[:, place] = column.notna().to_numpy() & np.array([text != "" for text in texts], bool)
        words[:, place] = [bool(text) and text[0].isalpha() for text in texts]
    rows = np.flatnonzero(filled.any(1))
    if len(rows) <= 3:
        return rows, rows[:0]
    first = filled.argmax(1)
    labels = {
        int(row): str(cells.iat[row, first[row]]).strip(" :")
        for row in np.flatnonzero((words.sum(1) == 1) & words[np.arange(len(cells)), first] & ~filled.all(1))
    }
    totals = {row for row, label in labels.items() if _TOTAL.fullmatch(label)}
    levels = {(first[row], cells.iat[row, first[row]]) for row in totals}
    if any(
        (cells.iloc[:, place] == level).sum() > sum(cells.iat[row, place] == level for row in totals)
        for place, level in levels
    ):
        totals.clear()  # a level of data that are totals themselves
    left, data = totals if len(totals) <= max(1, _TOTALS * len(rows)) else set[int](), rows.tolist()
    for way in (data, data[::-1]):
        for before, row in itertools.pairwise(way):
            if before in left and row in labels and _STATISTIC.fullmatch(labels[row]):
                left.add(row)
    left |= _below(cells, filled, rows, left)
    left |= _notes_alone(cells, filled, number)
    left |= _sums(cells, [row for row in data if row not in left], words, number)
    return np.array([row for row in data if row not in left], int), np.array(sorted(left), int)


def _below(cells: pd.DataFrame, filled: Mask, rows: NDArray[np.intp], totals: Collection[int]) -> set[int]:
    """Of the last rows, those with totals in any cell, and those with a note alone that an empty row or totals part from the data."""

    def sums(row: int) -> bool:
        return row in totals or any(
            isinstance(cell, str)
            and _TOTAL.fullmatch(cell.strip(" :"))
            and (cells.iloc[:, place] == cell).sum() <= max(1, _TOTALS * len(rows))
            for place, cell in enumerate(cells.iloc[row])
        )

    last = len(rows)
    while (
        last > 3
        and filled[rows[last - 1]].sum() == 1
        and _NOTE.fullmatch(str(cells.iat[rows[last - 1], filled[rows[last - 1]].argmax()]).strip())
    ):
        last -= 1
    if last < len(rows) and rows[last] == rows[last - 1] + 1 and not sums(rows[last - 1]):
        last = len(rows)
    while last > 3 and sums(rows[last - 1]):
        last -= 1
    return set(rows[last:].tolist())


def _notes_alone(cells: pd.DataFrame, filled: Mask, number: Callable[[str], float | None]) -> set[int]:
    """Rows with nothing but a text that no other row has, in a column where texts come again or where others are none: they say nothing."""
    found: set[int] = set()
    alone = np.flatnonzero(filled.sum(1) == 1)
    for place in np.unique(filled[alone].argmax(1)) if cells.shape[1] > 1 else ():
        own = [cell.strip() if isinstance(cell, str) else "" for cell in cells.iloc[:, place]]
        counts = Counter(text for text in own if text and number(text) is None and dates_of_texts([text]) is None)
        if max(counts.values(), default=0) > 1 or counts.total() < filled[:, place].sum() / 2:
            mine = alone[filled[alone].argmax(1) == place]
            found |= {int(row) for row in mine if counts[own[row]] == 1 and own[row].lower() not in MISSING}
    return found


def _sums(cells: pd.DataFrame, data: Sequence[int], words: Mask, number: Callable[[str], float | None]) -> set[int]:
    """Rows of sums: the first or the last, where a word or an empty cell stands beside numbers that are the sums of all others; and those
    called so, where each number is at least the sum of the rows up to the one before that is called so, or of all others."""
    if len(data) <= 3 or cells.shape[1] < 2:
        return set()
    labels = {
        place: str(cells.iat[row, words[row].argmax()]) for place, row in enumerate(data) if words[row].sum() == 1
    }
    called = [place for place, label in labels.items() if _OF_A_SUM.fullmatch(label.strip(" :"))]

    @cache
    def numbers(column: int) -> Array:
        return np.array([_number_in(cell, number) for cell in cells.iloc[list(data), column]])

    def is_sum(place: int, others: NDArray[np.intp], *, exact: bool) -> bool:
        mine = [
            column
            for column in range(cells.shape[1])
            if not np.isnan(_number_in(cells.iat[data[place], column], number))
        ]
        above = False
        for column in mine:
            own, parts = numbers(column)[place], numbers(column)[others]
            parts = parts[~np.isnan(parts)]
            if parts.size < 2 or (parts < 0).any() or own <= 0:
                return False
            missed, rounded = own - parts.sum(), max(_ROUNDED * own, _last_digit(parts) * parts.size**0.5)
            if missed < -rounded or (exact and missed > rounded):
                return False
            above |= bool(own > parts.max())
        return above and (not exact or len(mine) > 1 or len(others) >= _MANY)

    found: set[int] = set()
    before = 0
    rest = np.setdiff1d(np.arange(len(data)), called)
    for place in called:
        if is_sum(place, np.arange(before, place), exact=False) or is_sum(place, rest, exact=False):
            found.add(place)
        before = place + 1
    for place in {0, len(data) - 1} - found:
        others = np.setdiff1d(np.arange(len(data)), [place, *found])
        if others.size > 3 and is_sum(place, others, exact=True):
            found.add(place)
    return {data[place] for place in found}


def _last_digit(values: Array) -> float:
    """What the last decimal of numbers stands for; 0 of whole ones."""
    places = max(len(f"{value:.9f}".rstrip("0").partition(".")[2]) for value in values[:200])
    return 10.0**-places if places else 0.0


def _number_in(cell: Any, number: Callable[[str], float | None]) -> float:
    """The finite number in a cell of any type, or NaN."""
    if isinstance(cell, bool | np.bool_) or not isinstance(cell, str | int | float | np.number):
        return np.nan
    value = number(cell) if isinstance(cell, str) else float(cell)
    return np.nan if value is None or not np.isfinite(value) else value


def _completable(table: Table) -> Table:
    """The table, if another column, or the order in time, says something about a column with holes."""
    modelled = [column for column in table.columns if column.modelled]
    if not modelled:
        kinds = capped(table.columns)
        wrong = ", `delimiter` what stands between columns" if len(table.columns) == 1 else ""
        raise InputError(f"No column can be completed: {kinds}. `kind` says what a column is{wrong}.")
    if len(modelled) == 1 and not modelled[0].known.all() and table.clock is None:
        others = capped([column for column in table.columns if not column.modelled])
        raise InputError(
            f"Only {modelled[0].name!r} can be completed, and no other column says anything about it"
            + (f": {others}. `kind` says what a column is." if others else ".")
        )
    return table


def _with_cycles(table: Table) -> Table:
    """The table with the cycles of its dates that some column follows, and a line on each."""
    followed: dict[str, list[float]] = {}
    notes: list[str] = []
    for dates in (column for column in table.columns if column.kind == "date"):
        for what, length in CYCLES.items():
            names = [
                repr(column.name)
                for column in table.columns
                if column.modelled
                and column is not dates
                and any(comes_round(dates.numbers[:, 0], part, length) for part in column.numbers.T)
            ]
            if names:
                followed.setdefault(dates.name, []).append(length)
                shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
                notes.append(f"the {what} in {dates.name!r} enters the model: {shown} come round with it")
    columns = tuple(replace(column, cycles=tuple(followed.get(column.name, ()))) for column in table.columns)
    return replace(table, columns=columns, notes=(*table.notes, *notes))


def _times_of_values(name: str, cells: pd.Series, kind: Kind | None) -> Column:
    return column_of_values(name, cells, kind=kind)


def _given(*names: str | None) -> tuple[str, ...]:
    return tuple(name for name in names if name is not None)


def _in_order(table: Table, cells: pd.DataFrame, time: str | None, entity: str | None, times: _Reader) -> Table:
    """The table with the order of its rows in time, if they have one."""
    if time is None:
        time, entity = _order_found(table, cells, entity, times)
    if time is None:
        if entity is not None:
            raise UsageError(f"`entity` {entity!r} needs the column with the times: say which with `time`.")
        return table
    clock = _clock(cells, table.columns, time, entity, times)
    column = next(column for column in table.columns if column.name == time)
    unknown = int(column.modelled and (~column.known & ~np.isnan(clock[:, 1])).sum())
    note = f"rows are in order of {time!r}" + (f" for each {entity!r}" if entity else "")
    note += f"; where it is unknown ({unknown}), it is taken to lie evenly between its neighbours" if unknown else ""
    return replace(table, notes=(*table.notes, note, *_absent(clock, column)), clock=clock, time=time, entity=entity)


def _absent(clock: Array, column: Column) -> list[str]:
    """A line on rows that times at even steps lack; months and the like are even, working days are not."""
    order = np.lexsort((clock[:, 1], clock[:, 0]))
    groups, times = clock[order].T
    follows = np.flatnonzero((np.diff(groups) == 0) & (np.diff(times) > 0))
    if not follows.size:
        return []
    steps = np.diff(times)[follows]
    steps = steps / np.median(steps)
    long = np.round(steps) > 1
    if not long.any() or long.mean() > _SELDOM or (np.abs(steps[~long] - 1) > _EVEN).any():
        return []
    first = follows[long][0]
    lacking, places = int((np.round(steps[long]) - 1).sum()), int(long.sum())
    where = f"between {column.write(times[first])} and {column.write(times[first + 1])}"
    return [
        f"{lacking:,} row{'s are' if lacking > 1 else ' is'} absent from the even steps of {column.name!r}, "
        f"{where if places == 1 else f'in {places} places, the first {where}'}; only rows that are there are completed"
    ]


def _order_found(
    table: Table, cells: pd.DataFrame, entity: str | None, times: _Reader
) -> tuple[str | None, str | None]:
    """The column with the times and that with the entities: dates or years that ascend or descend in the whole table, or
    ascend for each level of a column of labels."""
    found = {
        column.name: _clock(cells, table.columns, column.name, entity, times)
        for column in table.columns
        if (column.known.all() or _TELLING <= column.known.sum() > _MOSTLY * column.known.size)
        and len(column.known) > 2
        and (column.kind == "date" or _are_years(column, cells))
    }
    for name, clock in found.items():
        steps = np.diff(clock[:, 1])
        if entity is not None or (steps > 0).all() or (steps < 0).all():
            return name, entity
    for name in found:
        for column in table.columns:
            labels = ("category", "ordered", "boolean", "text", "integer")
            if column.kind in labels and column.known.all() and column.name != name:
                if not all(isinstance(cell, Hashable) for cell in cells[column.name]):
                    continue
                groups = pd.factorize(cells[column.name])[0]
                if groups.max() == 0 or _LEAST_TIMES * (groups.max() + 1) > groups.size:
                    continue
                clock = _clock(cells, table.columns, name, column.name, times)
                ordered = clock[np.argsort(groups, kind="stable")]
                if ((np.diff(ordered[:, 1]) > 0) | (np.diff(ordered[:, 0]) > 0)).all():
                    return name, column.name
    return None, entity


def _are_years(column: Column, cells: pd.DataFrame) -> bool:
    if column.kind not in ("integer", "id") or not _YEAR_NAME.fullmatch(column.name.strip()):
        return False
    return all(_YEAR.fullmatch(str(cell).strip()) for cell in cells[column.name][column.known])


def _clock(
    cells: pd.DataFrame,
    columns: Sequence[Column],
    time: str | None,
    entity: str | None,
    times: _Reader,
) -> Array:
    names = [column.name for column in columns]
    assert time is not None
    column = columns[names.index(time)]
    own = cells.iloc[:, names.index(time)]
    kinds: tuple[Kind | None, ...] = None, "number"
    for kind in kinds:  # one that passes through is read again
        if not column.modelled or column.levels:
            try:
                column = times(time, own, kind)
            except UsageError as error:
                raise UsageError(f"The column {time!r} gives no order in time: {_why_no_time(own)}.") from error
    entities = np.zeros(len(cells), int) if entity is None else pd.factorize(cells.iloc[:, names.index(entity)])[0]
    clock = np.column_stack([entities, column.numbers[:, 0]]).astype(float)
    order = np.argsort(entities, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(entities[order])) + 1):
        clock[rows, 1] = _between(clock[rows, 1])
    return clock


def _between(times: Array) -> Array:
    """Times of rows that ascend or descend where they are known, with the others at even steps between and beyond these; else as they are."""
    known = np.flatnonzero(~np.isnan(times))
    steps = np.diff(times[known])
    if known.size == times.size or known.size < 2 or not ((steps > 0).all() or (steps < 0).all()):
        return times
    rows, step = np.arange(times.size), np.median(steps / np.diff(known))
    inside = np.interp(rows, known, times[known])
    return inside + step * (np.minimum(rows - known[0], 0) + np.maximum(rows - known[-1], 0))


def _why_no_time(cells: pd.Series) -> str:
    """Of a column whose cells are neither all dates nor all numbers, one cell of each form."""
    forms = {re.sub(r"\d", "9", str(cell)): str(cell) for cell in reversed(cells.dropna().tolist())}
    shown = " and ".join(repr(cell) for cell in [*forms.values()][::-1][:2])
    if cells.nunique() < 2:
        return f"all its cells are {shown}"
    return f"its cells are not all dates of one form, nor all numbers; it holds {shown}"


def _checked(
    names: Sequence[str],
    kinds: Mapping[str, Kind] | None,
    named: Sequence[str],
    only: Sequence[str] | None,
    *,
    through: Sequence[str],
) -> dict[str, Kind]:
    kinds = dict(kinds or {})
    for name in [*kinds, *named, *(only or ())]:
        if name not in names:
            raise UsageError(f"There is no column {name!r}. {did_you_mean(name, names)}")
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise UsageError(f"There is no kind {kind!r} (asked for {name!r}). {did_you_mean(kind, KINDS)}")
    passed: set[str] = {*through, *(set() if only is None else set(names) - set(only))}
    passing: dict[str, Kind] = dict.fromkeys(passed, "text")
    return kinds | passing


def _marks_of_others(columns: Sequence[Column], texts: Sequence[Sequence[str]]) -> list[set[str]]:
    """For each column of text or levels: what stands for a missing cell in columns of numbers, dates and booleans, and in this one, too."""
    words = [{cell.strip().lower() for cell in cells} for cells in texts]
    plain = ("number", "integer", "date", "boolean")
    evident: set[str] = set()
    for column, own in zip(columns, words, strict=True):
        evident |= own & MISSING if column.kind in plain else set()
    evident -= LEVELS_AS_WELL
    return [
        evident & own - MISSING_TEXT - ({"-"} if "+" in own else set()) if column.kind not in plain else set()
        for column, own in zip(columns, words, strict=True)
    ]


def _marks_found(columns: Sequence[Column], texts: Sequence[Sequence[str]]) -> list[str]:
    """A line on the texts that are taken as missing, where they are not the usual ones."""
    found: Counter[str] = Counter()
    for column, cells in zip(columns, texts, strict=True):
        found.update(cells[row].strip() for row in np.flatnonzero(~column.known).tolist())
    shown = [f"{text!r} ({count})" for text, count in found.most_common() if text.lower() not in USUAL]
    return [f"taken as missing: {', '.join(shown[:8])}{', …' if len(shown) > 8 else ''}"] if shown else []


def _words_kept(columns: Sequence[Column], texts: Sequence[Sequence[str]]) -> list[str]:
    """A line on levels that may stand for a missing cell; of those that say nothing by themselves where they do in another column."""
    elsewhere = {
        cells[row].strip().lower()
        for column, cells in zip(columns, texts, strict=True)
        for row in np.flatnonzero(~column.known).tolist()
    }
    doubtful = MISSING - MISSING_TEXT - (LEVELS_AS_WELL - elsewhere)
    found: dict[str, list[str]] = {}
    for column in columns:
        if column.kind in ("category", "boolean"):
            for level in column.levels:
                if str(level).strip().lower() in doubtful:
                    found.setdefault(str(level), []).append(column.name)
    return [
        f"{level!r} in {', '.join(map(repr, names[:4]))}{', …' if len(names) > 4 else ''} is read as a value; "
        f"where it means missing, `na` '{names[0]}={level}' says so"
        for level, names in found.items()
    ]


def _far_off(columns: Sequence[Column]) -> list[str]:
    """A line on numbers like -999 in typed columns, where they are not taken as missing."""
    found: dict[float, list[str]] = {}
    for column in columns:
        for value in _sentinels(column):
            found.setdefault(value, []).append(column.name)
    dates = [
        f"{str(column.write(day)).removesuffix(' 00:00:00')} in {column.name!r} stands apart from all other dates; where it means none, make it "
        "missing"
        for column in columns
        for day in _days_apart(column)
    ]
    return dates + [
        f"{value:g} in {', '.join(map(repr, names[:4]))}{', …' if len(names) > 4 else ''} lies far from all other values; "
        f"where it means missing, `na` '{names[0]}={value:g}' says so"
        for value, names in found.items()
    ]


def _sentinels(column: Column) -> list[float]:
    """Numbers like -999 in a column that are frequent and lie far from all its other values."""
    low, high = _range(column)
    far = _FAR * max(high - low, abs(low), abs(high), np.finfo(float).tiny)
    return [
        value
        for value in SENTINELS
        if (column.values == value).sum() >= _OFTEN and (value < low - far or value > high + far or value < 0 < low)
    ]


def _days_apart(column: Column) -> list[float]:
    """Days that programs write for no date, far from all others of a column."""
    if column.kind != "date":
        return []
    days = np.unique(column.values)
    others = days[~np.isin(days, _NO_DATES)]
    far = _FAR * np.ptp(others) if others.size > 1 else np.inf
    return [float(day) for day in days if day not in others and not others.min() - far <= day <= others.max() + far]


def _codes_apart(columns: Sequence[Column]) -> list[str]:
    """A line on nines that are frequent and stand apart from whole numbers, or are many and far above all others, however seldom, and on -1
    where it is frequent and all else is positive or 0: they may be codes."""
    found: dict[float | str, list[str]] = {}
    for column in columns:
        for day in _days_apart(column):
            found.setdefault(column.write(day), []).append(column.name)
        if column.kind not in ("integer", "number"):
            continue
        distinct, counts = np.unique(column.values, return_counts=True)
        if distinct.size > _SEVERAL and distinct[0] == -1 and counts[0] >= max(_OFTEN, counts[1] + 1):
            found.setdefault(-1.0, []).append(column.name)
        low, high = _range(column)
        for value in distinct[distinct >= _LARGE]:
            if value in _NINES and high < np.inf and value > high + _FAR * max(high - low, abs(high)):
                found.setdefault(float(value), []).append(column.name)
        if column.kind == "number":
            continue
        others, last = distinct[:-1], distinct[-1]
        if last in _NINES and counts[-1] >= _OFTEN and others.size > 1:
            step = (others[-1] - others[0]) / (others.size - 1)
            if last - others[-1] > _APART * step and column.name not in found.get(float(last), ()):
                found.setdefault(float(last), []).append(column.name)
    shown = {value if isinstance(value, str) else f"{value:g}": names for value, names in found.items()}
    return [
        f"{value} in {', '.join(map(repr, names[:4]))}{', …' if len(names) > 4 else ''} stands apart from all other values; "
        f"where it means missing, `na` '{names[0]}={value}' says so"
        for value, names in shown.items()
    ]


def _if_full(columns: Sequence[Column], cells: pd.DataFrame) -> list[str]:
    """Where no cell is empty: what may be meant by the table."""
    if not all(column.known.all() for column in columns if column.modelled):
        return []
    numbers = [column for column in columns if column.kind in ("integer", "number")]
    zeros = [float((column.numbers == 0).mean()) for column in numbers]
    if len(zeros) > 2 and np.median(zeros) > 0.5:
        share = f"{np.mean(zeros):.0%}"
        return [
            f"no cell is empty, but 0 stands in {share} of those with numbers; where it means missing, `na` 0 says so"
        ]
    ids = [
        column
        for column in columns
        if column.kind in ("integer", "category", "ordered", "text")
        and 1 < len(set(map(str, cells[column.name]))) <= len(cells) / 2
    ]
    values = [column for column in numbers if column not in ids[:2]]
    if len(ids) > 1 and values and len(cells) >= _RATINGS:
        row, col, value = ids[0].name, ids[1].name, values[0].name
        if not bool(cells[[row, col]].astype(str).duplicated().to_numpy().any()):
            return [
                f"no cell is empty, and each pair of {row!r} and {col!r} comes once; if these are ratings, `row` {row!r} `col` {col!r} "
                f"`value` {value!r} completes them"
            ]
    return []


def _outside(column: Column, value: float) -> bool:
    """Whether a number that stands for a missing one in another column lies beyond all others of this one, too."""
    low, high = _range(column)
    return not low <= value <= high


def _range(column: Column) -> tuple[float, float]:
    """The least and the largest number that is none of `SENTINELS`; everything, where nothing can be said."""
    if column.kind not in ("number", "integer"):
        return -np.inf, np.inf
    values = column.values
    others = values[~np.isin(values, SENTINELS)]
    return (float(others.min()), float(others.max())) if others.size > 1 else (-np.inf, np.inf)

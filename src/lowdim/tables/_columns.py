"""Columns of any kind as numbers, and back: what a column is, which numbers stand for it, and how a filled cell is written.

The kind is found from values and name. Numbers, whole numbers, dates (as days) and booleans become one column of numbers; a category becomes
one column per level, 1 where it is the level; levels that have an order become the numbers of their places. Identifiers, free text and empty
columns pass through.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lowdim.errors import InputError, UsageError
from lowdim.tables._cycles import phases
from lowdim.tables._dates import DAY, Dates, compact_dates, dates_of_texts, within_years
from lowdim.tables._marks import MISSING, MISSING_TEXT
from lowdim.tables._numbers import EXACT, Numbers, are_codes, number_of, numbers_of_texts, several_units
from lowdim.tables._ordered import in_order
from lowdim.tables._text import Form, form_of_cells

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Kind = Literal["number", "integer", "boolean", "category", "ordered", "date", "constant", "id", "text", "empty"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MODELLED: frozenset[Kind] = frozenset({"number", "integer", "boolean", "category", "ordered", "date"})

_ONE_NUMBER: frozenset[Kind] = frozenset({"number", "integer", "date"})

MOST_LEVELS = 30
_PER_LEVEL = 2  # known cells per level, on average, that a category has at least
_BOOLEANS = ({"true", "false"}, {"yes", "no"}, {"t", "f"}, {"y", "n"})
_TRUE = {"true", "yes", "t", "y"}
_ID_NAME = re.compile(
    r"(?i)(^|[_\s-])(id|idx|index|key|uuid|guid|row|nr|no)\.?$|[_\s-](num|number)$|[a-z](Id|nummer)$|^nummer$|^#$|^unnamed: \d+$|^$"
)
_NEVER_FILLED = re.compile(r"(?i)(^|[_\s-])(id|uuid|guid)$|[_\s-]number$|[a-z](Id|nummer)$|^#$")
"""Of these, those of columns that name their rows also where some lack a name."""
_CODE_NAME = re.compile(
    r"(?i)(^|[_\s])(((phone|tel|telephone|telefon|mobile|handy|fax|account)([_\s-]?(no|nr|num|number|nummer)\.?)?"
    r"|(card|vat|tax|passport|serial|konto|ruf)[_\s-]?(no|nr|num|number|nummer)\.?)|zip|plz|blz|isbn|issn|ean|upc|gtin|imei|iban|bic|ssn|vin|sku|barcode"
    r"|(zip|post|postal|area|country)[_\s]?code|postleitzahl|bankleitzahl)$|^(post|zip)code$"
)
"""Of columns of whole numbers that name something: what is between two of them means nothing."""
_TIMES: tuple[tuple[Any, Callable[[Any], float], Callable[[Any, float, float], Any]], ...] = (
    (
        datetime,
        lambda cell: cell.timestamp() if cell.tzinfo else cell.replace(tzinfo=UTC).timestamp(),
        lambda *given: _stamp(*given),
    ),
    (
        date,
        lambda cell: (cell - date(1970, 1, 1)).days * DAY,
        lambda _, seconds, __: date(1970, 1, 1) + timedelta(round(within_years(seconds / DAY))),
    ),
    (
        timedelta,
        lambda cell: cell.total_seconds(),
        lambda _, seconds, unit: pd.Timedelta(round(seconds / unit) * unit, unit="s"),
    ),
    (
        time,
        lambda cell: cell.hour * 3600 + cell.minute * 60 + cell.second + cell.microsecond / 1e6,
        lambda _, seconds, unit: (datetime(1970, 1, 1) + timedelta(seconds=round(seconds / unit) * unit)).time(),
    ),
)
"""Types of dates and times, seconds of one, and one of seconds, as precise as a unit."""
MOST_PLACES = 6
MOST_BOUNDED = 10  # different values of whole numbers up to which they are a scale with ends
_MOSTLY = 0.5  # of the cells, from which a column of numbers with other texts is told as one
_NEARLY = 0.8  # of the cells, from which it is one, and the others stay as they are
_PROTECTED = re.compile(r'="(.*)"')
_FIRST_DATE, _LAST_DATE = 1900, 21e12  # between which dates in whole numbers lie
_DIGITS = re.compile(r"[\d.]+")
_FROM_ONE_SIDE = re.compile(r"[<>≤≥~] *[\d.,]+( ?\D+)?")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: Of the column.
        kind: What it is.
        known: ``(rows,)``, whether a cell holds a value.
        numbers: ``(rows, width)``, NaN where it does not, and for words among numbers, which stay as they are; width 0 for what passes through, the number of levels for a category.
        levels: Of a category or a boolean (false first), as they stand in the table.
        write: A filled cell from a number (the number of the level where there are levels).
        why: What decided the kind, where it is not plain.
        read: Of a column of texts: the number of one, NaN where it has none; None of any other column.
        cycles: Of dates: the lengths in days of the cycles that others follow (see `CYCLES`).
        bounds: Of whole numbers of few different values, each known twice on average: the least and the largest, beyond which nothing is filled.
    """

    name: str
    kind: Kind
    known: Mask
    numbers: Array
    levels: tuple[Any, ...] = ()
    write: Callable[[float], Any] = float
    why: str = ""
    read: Callable[[str], float] | None = None
    cycles: tuple[float, ...] = ()
    bounds: tuple[float, float] | None = None

    def __str__(self) -> str:
        return f"{self.name!r} ({self.kind}{': ' + self.why if self.why else ''})"

    @property
    def modelled(self) -> bool:
        """Whether it enters the model."""
        return self.numbers.shape[1] > 0

    @property
    def values(self) -> Array:
        """The numbers that are known, of a column that is one of numbers inside."""
        return self.numbers[~np.isnan(self.numbers)]

    @property
    def width(self) -> int:
        """How many columns of the matrix stand for it."""
        return self.numbers.shape[1] + 2 * len(self.cycles)

    @property
    def inputs(self) -> Array:
        """What enters the model, ``(rows, width)``: the numbers, and where in its cycles a date is."""
        return np.concatenate([self.numbers, *(phases(self.numbers[:, 0], length) for length in self.cycles)], axis=1)

    def within(self, numbers: Array) -> Array:
        """Completed inputs ``(rows, width)``, kept within the bounds."""
        return numbers if self.bounds is None else np.clip(numbers, *self.bounds)

    def decode(self, numbers: Array) -> tuple[Array, Array]:
        """What completed inputs ``(rows, width)`` mean: a number per row (of the level, where there are levels), and the probability of
        the level (1 elsewhere)."""
        if self.kind == "category":
            shares = np.maximum(numbers, 1e-9)
            shares = shares / shares.sum(1, keepdims=True)
            return shares.argmax(1).astype(float), shares.max(1)
        values = self.within(numbers)[:, 0]
        if self.kind == "boolean":
            share = np.clip(values, 0, 1)
            return (share >= 0.5).astype(float), np.maximum(share, 1 - share)
        return (np.round(values) if self.kind == "integer" else values), np.ones(len(values))


def column_like(column: Column, values: pd.Series) -> Column:
    """Other cells of a column that is known: with its kind and levels. A level that it does not have counts as unknown in the numbers."""
    known = values.notna().to_numpy()
    if not (column.modelled and known.any()):
        return replace(column, known=known, numbers=np.full((len(known), column.numbers.shape[1]), np.nan))
    if column.read is not None:
        texts = ["" if cell is None else str(cell).strip() for cell in values.astype(object).where(known, None)]
        numbers = np.array([column.read(text) for text in texts])
        known = np.array([text.lower() not in MISSING for text in texts]) | ~np.isnan(numbers)
        return replace(column, known=known, numbers=np.where(known, numbers, np.nan)[:, None])
    if not column.levels:
        found = column_of_values(column.name, values, kind=column.kind)
        return replace(found, cycles=column.cycles, bounds=column.bounds)
    place = {_spelling(level): index for index, level in enumerate(column.levels)}
    words = np.array([_spelling(cell) in place or _word(cell) not in MISSING for cell in values.astype(object)], bool)
    known = known & words
    cells = zip(values.astype(object), known, strict=True)
    codes = np.array([place.get(_spelling(cell), np.nan) if there else np.nan for cell, there in cells], float)
    return replace(column, known=known, numbers=_coded(codes, column.kind, len(column.levels)))


def column_of_texts(
    name: str,
    cells: Sequence[str],
    form: Form,
    *,
    kind: Kind | None = None,
    missing: Collection[str] = (),
    first: bool = False,
) -> Column:
    """A column of a text table."""
    stripped = [cell.strip() for cell in cells]
    if any(map(_PROTECTED.fullmatch, stripped)):
        bare = [_unprotected(cell) for cell in stripped]
        column = column_of_texts(name, bare, form, kind=kind, missing=missing, first=first)
        if column.read is not None:
            read, write = column.read, column.write
            return replace(column, write=lambda value: f'="{write(value)}"', read=lambda text: read(_unprotected(text)))
    marked = {text.lower() for text in missing}
    known = np.array([cell.lower() not in MISSING and cell.lower() not in marked for cell in stripped], bool)
    texts = [cell for cell, there in zip(stripped, known, strict=True) if there]
    if kind not in ("category", "ordered", "text", "id", "boolean", "date") and texts:
        numbers, own = numbers_of_texts(texts, form), form_of_cells([texts])
        if numbers is None and own.decimal != form.decimal and form.separator != ",":  # where 1,3 may be two answers
            numbers = numbers_of_texts(texts, own)
            numbers = numbers and replace(
                numbers, why="; ".join(filter(None, [f"{own.decimal!r} before decimals", numbers.why]))
            )
        if numbers is not None and (kind is not None or not _named_code(name, texts, numbers)):
            if np.isinf(numbers.values).any():
                raise InputError(
                    f"The column {name!r} holds an infinite value. Correct it, or name it as missing with `na`."
                )
            values = np.full(len(cells), np.nan)
            values[known] = numbers.values
            dates = dates_in_numbers(name, values[known], numbers.write, numbers.read) if kind is None else None
            if dates and any(map(_DIGITS.fullmatch, texts)):  # rather than $202101 or 202,101
                return _dated(name, known, dates, stripped)
            column = _numeric(name, values, known, numbers.whole, numbers.write, kind, first)
            return replace(column, read=numbers.read, why="; ".join(filter(None, [column.why, numbers.why])))
    if kind in (None, "date") and texts:
        dates = dates_of_texts(texts, day_first=form.day_first)
        dates = compact_dates(texts, name) if dates is None and kind == "date" else dates
        if dates is not None:
            return _dated(name, known, dates, stripped)
    if kind is not None or {text.lower() for text in texts} not in _BOOLEANS:
        known = np.array([cell.lower() not in MISSING_TEXT and cell.lower() not in marked for cell in stripped], bool)
        texts = [cell for cell, there in zip(stripped, known, strict=True) if there]
    column = _of_levels(name, [cell if there else None for cell, there in zip(stripped, known, strict=True)], kind)
    if kind is None and column.kind in ("text", "id"):
        beside = known & [cell.lower() not in MISSING and _is_beside(cell) for cell in stripped]
        if 0 < beside.sum() <= (1 - _NEARLY) * len(texts):
            left = ["" if stays else cell for cell, stays in zip(stripped, beside, strict=True)]
            found = column_of_texts(name, left, form, missing=missing, first=first)
            if found.kind in _ONE_NUMBER:
                return _with_words(found, beside, stripped)
    words = [text for text in texts if form.number(text) is None]
    others = Counter(text for text in words if text.lower() not in MISSING)
    if kind is None and others and len(words) <= _MOSTLY * len(texts) and not several_units(texts):
        shown = ", ".join(repr(text) for text, _ in others.most_common(3)) + (", \u2026" if len(others) > 3 else "")
        return replace(
            column,
            why=f"numbers but for {shown} in {others.total()} cells; `na` names what stands for a missing one",
        )
    return column


def _unprotected(cell: str) -> str:
    """A text as Excel shows it, which may stand as ="text" so that it does not become a number there."""
    return _PROTECTED.sub(r"\1", cell)


def dates_in_numbers(
    name: str, values: Array, write: Callable[[float], Any] = float, read: Callable[[str], float] = float
) -> Dates | None:
    """The dates that numbers spell, as 20240131, written and read as these are; None where they are no dates, or names.

    Example:
        >>> dates_in_numbers("x", np.array([202112.0, 202201.0])).why, dates_in_numbers("x", np.array([1.5, 2.5]))
        ('read as %Y%m', None)
    """
    decimals = 0 if (values % 1 == 0).all() else 2
    within = (values >= _FIRST_DATE) & (values < _LAST_DATE)
    if not values.size or within.sum() < values.size / 2 or (values != values.round(decimals)).any():
        return None
    if _NEVER_FILLED.search(name) or _CODE_NAME.search(name):
        return None
    dates = compact_dates([f"{value:.{decimals}f}" for value in values], name)
    return dates and replace(
        dates,
        write=lambda day: write(float(dates.write(day))),
        read=lambda text: dates.read(f"{read(text):.{decimals}f}"),
    )


def _is_beside(text: str) -> bool:
    """Whether it may stand in a column of numbers and be none: a word, or a number that is known from one side."""
    word = any(sign.isalpha() for sign in text) and not any(sign.isdigit() for sign in text)
    return word or _FROM_ONE_SIDE.fullmatch(text) is not None


def _with_words(column: Column, beside: Mask, cells: Sequence[Any]) -> Column:
    """A column of numbers or dates with what stands beside them, which is known and no number, and stays as it is."""
    words = Counter(cell for cell, stays in zip(cells, beside, strict=True) if stays)
    shown = ", ".join(repr(word) for word, _ in words.most_common(3)) + (", …" if len(words) > 3 else "")
    why = f"but for {shown} in {words.total()} cells, which stay as they are; `na` names what stands for a missing one"
    return replace(column, known=column.known | beside, why="; ".join(filter(None, [column.why, why])))


def marks_of(name: str, names: Sequence[str], missing: Sequence[str]) -> list[str]:
    """What stands for a missing cell in this column."""
    marks: list[str] = []
    for text in missing:
        column, sign, mark = text.rpartition("=")
        named = bool(sign) and column in names
        if not named or column == name:
            marks.append(mark if named else text)
    return marks


def _named_code(name: str, texts: Sequence[str], numbers: Numbers) -> bool:
    """Whether whole numbers are names, by their look or by that of the column."""
    return are_codes(texts) or (numbers.whole and _CODE_NAME.search(name) is not None)


def _dated(name: str, known: Mask, dates: Dates, cells: Sequence[Any]) -> Column:
    """A column of dates, of which some cells may be none and stay as they are."""
    days = np.full(len(known), np.nan)
    days[known] = dates.days
    if len(np.unique(dates.days)) == 1:
        return Column(name, "constant", known, np.empty((len(known), 0)), (), dates.write)
    column = Column(name, "date", known, days[:, None], (), dates.write, dates.why, dates.read)
    beside = known & np.isnan(days)
    return _with_words(column, beside, cells) if beside.any() else column


def column_of_values(
    name: str, values: pd.Series, *, kind: Kind | None = None, first: bool = False, form: Form | None = None
) -> Column:
    """A column of a frame, whose type says most of what it is; numbers and dates that are texts are read as those of a text table are."""
    known = values.notna().to_numpy()
    cells = [cell if there else None for cell, there in zip(values.astype(object), known, strict=True)]
    if isinstance(values.dtype, pd.CategoricalDtype):
        levels = [level for level in values.dtype.categories if level in set(cells)]
        order = levels if values.dtype.ordered else in_order(list(map(str, levels))) if kind is None else None
        return _of_levels(name, cells, kind or "category", order if kind in (None, "ordered") else None)
    if pd.api.types.is_bool_dtype(values.dtype):
        return _of_levels(name, [None if cell is None else bool(cell) for cell in cells], kind or "boolean")
    found = [cell for cell in cells if cell is not None]
    if kind in (None, "number", "integer", "date") and found and all(isinstance(cell, str) for cell in found):
        texts = ["" if cell is None else str(cell) for cell in cells]
        column = column_of_texts(name, texts, form or Form(), kind=kind, first=first)
        if column.read is not None and column.modelled:
            return column
    texts = np.array([isinstance(cell, str) for cell in cells], bool)
    if kind is None and texts.any() and len(found) > texts.sum():  # as in sheets, whose cells have types of their own
        left = pd.Series([None if text else cell for cell, text in zip(cells, texts, strict=True)], dtype=object)
        column = column_of_values(name, left.infer_objects(), first=first)
        beside = texts & [_word(cell) not in MISSING for cell in cells]
        levels = column.kind != "date" and _of_levels(name, cells, None).kind not in ("text", "id")
        few = beside.sum() <= (1 - _NEARLY) * len(found) and not levels
        if column.kind in _ONE_NUMBER and all(_is_beside(str(cells[row])) for row in np.flatnonzero(beside)):
            if not beside.any():
                return column
            if few:
                return _with_words(column, beside, cells)
    if kind in (None, "date") and found:
        column = _of_times(name, found, known)
        if column is not None:
            return column
    if kind not in ("category", "boolean", "text", "id") and not any(isinstance(cell, str) for cell in found):
        column = _of_numbers(name, values, found, known, kind, first)
        if column is not None:
            return column
    return _of_levels(name, cells, kind)


def _of_times(name: str, found: Sequence[Any], known: Mask) -> Column | None:
    """A column of dates, times or durations, written as precisely as they are; None where they are none of these."""
    matching = next((one for one in _TIMES if all(isinstance(cell, one[0]) for cell in found)), None)
    if matching is None:
        return None
    _, seconds, written = matching
    numbers = np.array([seconds(cell) for cell in found])
    days = np.full(len(known), np.nan)
    days[known] = numbers / DAY
    midnights = all(
        isinstance(cell, datetime) and (cell.hour, cell.minute, cell.second, cell.microsecond) == (0, 0, 0, 0)
        for cell in found
    )
    unit = DAY if midnights else next((unit for unit in (DAY, 60.0, 1.0) if not (numbers % unit).any()), 1e-6)
    return Column(name, "date", known, days[:, None], write=lambda day: written(found[0], day * DAY, unit))


def _stamp(example: datetime, seconds: float, unit: float) -> Any:
    seconds = within_years(seconds / DAY, room=example.tzinfo is not None) * DAY
    try:
        stamp = pd.Timestamp(round(seconds, 6), unit="s", tz="UTC").tz_convert(example.tzinfo)
    except (OverflowError, pd.errors.OutOfBoundsDatetime):  # years that pandas' nanoseconds do not reach
        whole = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=round(seconds / unit) * unit)
        return whole.replace(tzinfo=None) if example.tzinfo is None else whole.astimezone(example.tzinfo)
    return stamp.round({DAY: "D", 60.0: "min", 1.0: "s"}.get(unit, "us"))


def _of_numbers(
    name: str, values: pd.Series, found: Sequence[Any], known: Mask, kind: Kind | None, first: bool
) -> Column | None:
    """A column of numbers of any type; None where they are labels."""
    dtype = values.dtype
    exact = bool(found) and all(isinstance(cell, Decimal) for cell in found)
    plain = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype)
    if not (
        plain
        or exact
        or (found and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in found))
    ):
        return None
    integers = pd.api.types.is_integer_dtype(dtype) or (bool(found) and all(isinstance(cell, int) for cell in found))
    numbers = np.full(len(known), np.nan)
    try:
        numbers[known] = np.array(found, float)
    except OverflowError as error:
        raise InputError(
            f"The column {name!r} holds a number beyond those of double precision. Correct it or make it missing."
        ) from error
    if np.isinf(numbers).any():
        raise InputError(f"The column {name!r} holds an infinite value. Correct it or make it missing (NaN).")
    beyond = bool(
        (np.abs(numbers[known]) > EXACT).any()
    )  # where floating-point numbers are whole without being counts or codes
    whole = integers or (not beyond and bool(found and (numbers[known] % 1 == 0).all()))
    if kind is None and whole and (_CODE_NAME.search(name) or beyond):
        return None
    places = -min((cell.as_tuple().exponent for cell in found), default=0) if exact else 0

    def decimal(value: float) -> Decimal:
        return Decimal(f"{value:.{places}f}")

    write = decimal if exact else int if integers else _rounded(found)
    if kind in (None, "date"):
        dates = dates_in_numbers(name, numbers[known], write, lambda text: number_of(text, Form()))
        if dates is not None or kind == "date":
            return dates and _dated(name, known, dates, values.tolist())
    return _numeric(name, numbers, known, whole, write, kind, first)


def _rounded(found: Sequence[float]) -> Callable[[float], float]:
    """Numbers with as many decimals as those of the column, where these are few: it was written with so many."""
    places = max((len(repr(float(cell)).partition(".")[2]) for cell in found), default=MOST_PLACES + 1)
    return float if places > MOST_PLACES else lambda value: round(value, places)


def _numeric(
    name: str, values: Array, known: Mask, whole: bool, write: Callable[[float], Any], kind: Kind | None, first: bool
) -> Column:
    distinct = np.unique(values[known])
    if kind is None:
        named = known.all() or _NEVER_FILLED.search(name) is not None
        why = identifies(name, values[known], first=first and bool(known.all())) if named and whole else ""
        if why:
            return Column(name, "id", known, np.empty((len(values), 0)), write=write, why=why)
        kind = "empty" if distinct.size == 0 else "constant" if distinct.size == 1 else "integer" if whole else "number"
    width = 1 if kind in MODELLED else 0
    few = kind == "integer" and 0 < distinct.size <= min(MOST_BOUNDED, known.sum() / _PER_LEVEL)
    bounds = (float(distinct[0]), float(distinct[-1])) if few else None
    return Column(name, kind, known, np.where(known, values, np.nan)[:, None][:, :width], (), write, bounds=bounds)


def identifies(name: str, values: Array, *, first: bool) -> str:
    """Why known numbers name their rows and say nothing else of them, by name and, in the first column, by counting; empty where they do not.

    Example:
        >>> identifies("id", np.array([7.0, 3.0]), first=False), identifies("", np.array([7.0, 8.0]), first=True)
        ('whole numbers, all different', 'it counts the rows')
        >>> identifies("age", np.array([7.0, 8.0]), first=False), identifies("id", np.array([7.0, 7.0]), first=True)
        ('', '')
    """
    if len(values) < 2 or bool((values % 1 != 0).any()) or len(np.unique(values)) < len(values):
        return ""
    if first and bool((np.diff(values) == 1).all()):
        return "it counts the rows"
    return "whole numbers, all different" if _ID_NAME.search(name) else ""


def _of_levels(name: str, cells: Sequence[Any], kind: Kind | None, order: Sequence[Any] | None = None) -> Column:
    """A column of labels: boolean, category, levels in an order that is given or found, identifier or free text."""
    known = np.array([cell is not None for cell in cells], bool)
    if any(cell is not None and not isinstance(cell, Hashable) for cell in cells):
        kind, cells = "text", [None if cell is None else repr(cell) for cell in cells]
    cells = _spelt_alike(cells)
    counts = Counter(cell for cell in cells if cell is not None)
    lowered = {str(level).strip().lower() for level in counts}
    why = ""
    if kind is None:
        if not counts:
            kind = "empty"
        elif len(counts) == 1:
            kind = "constant"
        elif why := several_units([str(level) for level in counts]):
            kind = "text"
        elif any(lowered == pair for pair in _BOOLEANS) and len(counts) == 2:
            kind = "boolean"
        elif len(counts) == sum(counts.values()):
            kind, why = ("id" if known.all() else "text"), "all different"
        elif len(counts) <= MOST_LEVELS and _PER_LEVEL * len(counts) <= known.sum():
            kind, order = "category", in_order([str(level) for level in counts])
        else:
            kind, why = "text", f"{len(counts)} different values"
    if kind == "ordered" and order is None:
        order = in_order([str(level) for level in counts])
        if order is None:
            raise UsageError(
                f"The column {name!r} cannot be read as ordered: its levels neither begin with numbers nor are those of a well-known scale. A frame's "
                "column may be an ordered categorical."
            )
    if order is not None and len(order) > 2:
        return _in_order(name, cells, known, order)
    if kind in ("number", "integer", "date"):
        example = next((cell for cell in cells if cell is not None), None)
        raise UsageError(f"The column {name!r} cannot be read as {kind}: it holds {example!r}.")
    levels = tuple(sorted(counts, key=lambda level: (str(level).strip().lower() in _TRUE, str(level))))
    if kind == "boolean" and len(levels) > 2:
        raise UsageError(f"The column {name!r} cannot be read as boolean: it has {len(levels)} different values.")
    place = {level: index for index, level in enumerate(levels)}
    codes = np.array([np.nan if cell is None else place[cell] for cell in cells], float)
    return Column(name, kind, known, _coded(codes, kind, len(levels)), levels, lambda code: levels[int(code)], why)


def _in_order(name: str, cells: Sequence[Any], known: Mask, order: Sequence[Any]) -> Column:
    """A column of levels in this order, numbers inside."""
    place = {_spelling(str(level)): float(number) for number, level in enumerate(order)}
    codes = np.array([np.nan if cell is None else place[_spelling(str(cell))] for cell in cells])
    written = {place[_spelling(str(cell))]: cell for cell in cells if cell is not None}
    last = float(len(order) - 1)

    def write(code: float) -> Any:
        return written[min(max(round(code), 0), last)]

    shown = [repr(str(level)) for level in order]
    shown = shown if len(shown) < 6 else [*shown[:2], "…", shown[-1]]
    return Column(
        name,
        "ordered",
        known,
        codes[:, None],
        (),
        write,
        ", ".join(shown),
        lambda text: place.get(_spelling(text), np.nan),
    )


def _word(cell: Any) -> Any:
    return cell.strip().lower() if isinstance(cell, str) else cell


def _spelling(cell: Any) -> Any:
    """What words have in common that differ in capitals and blanks alone."""
    return cell.strip().casefold() if isinstance(cell, str) and len(cell) > 1 else cell


def _spelt_alike(cells: Sequence[Any]) -> Sequence[Any]:
    """Words that differ in capitals and blanks alone, all as most are written."""
    spellings: dict[str, Counter[str]] = {}
    for cell in cells:
        if isinstance(cell, str):
            spellings.setdefault(_spelling(cell), Counter())[cell] += 1
    other = {cell: spelt.most_common(1)[0][0] for spelt in spellings.values() if len(spelt) > 1 for cell in spelt}
    return [other.get(cell, cell) if isinstance(cell, str) else cell for cell in cells] if other else cells


def _coded(codes: Array, kind: Kind, levels: int) -> Array:
    """The numbers of levels: one column for each level of a category, one of 0 and 1 for a boolean, none for what passes through."""
    if kind == "category":
        return np.where(np.isnan(codes)[:, None], np.nan, codes[:, None] == np.arange(levels))
    return codes[:, None][:, : int(kind == "boolean")]

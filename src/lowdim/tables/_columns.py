"""Columns of any kind as numbers, and back: what a column is, which numbers stand for it, and how a filled cell is written.

The kind is found from values and name. Numbers, whole numbers, dates (as days) and booleans become one column of numbers; a category becomes
one column per level, 1 where it is the level. Identifiers, free text and empty columns pass through.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lowdim.errors import InputError, UsageError
from lowdim.tables._text import Form

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Kind = Literal["number", "integer", "boolean", "category", "date", "constant", "id", "text", "empty"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MODELLED: frozenset[Kind] = frozenset({"number", "integer", "boolean", "category", "date"})

MISSING = frozenset({"", "na", "n/a", "n.a.", "nan", "null", "none", "?", "#n/a", "#na", "<na>", "nat", "-", ".", "--"})
"""In any case. In columns of text, where a dash or "none" may be a value, only `MISSING_TEXT`."""
MISSING_TEXT = frozenset({"", "na", "n/a", "nan", "null", "?", "#n/a", "<na>", "nat"})
MOST_LEVELS = 30
_PER_LEVEL = 2  # known cells per level, on average, that a category has at least
_BOOLEANS = ({"true", "false"}, {"yes", "no"}, {"t", "f"}, {"y", "n"})
_TRUE = {"true", "yes", "t", "y"}
_ID_NAME = re.compile(r"(?i)(^|[_\s])(id|idx|index|key|uuid|guid|row|nr|no)$|[a-z]Id$|^unnamed: \d+$|^$")
_DATES = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%SZ", "%Y/%m/%d",
    "%d.%m.%Y", "%d.%m.%Y %H:%M", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M", "%d-%m-%Y", "%d %b %Y", "%d-%b-%Y", "%Y%m%d",
)  # fmt: skip
_DAY = 86_400.0
_MOST_DECIMALS = 15


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: Of the column.
        kind: What it is.
        known: ``(rows,)``, whether a cell holds a value.
        numbers: ``(rows, width)``, NaN where it does not; width 0 for what passes through, the number of levels for a category.
        levels: Of a category or a boolean (false first), as they stand in the table.
        write: A filled cell from a number (the number of the level where there are levels).
        why: What decided the kind, where it is not plain.
    """

    name: str
    kind: Kind
    known: Mask
    numbers: Array
    levels: tuple[Any, ...] = ()
    write: Callable[[float], Any] = float
    why: str = ""

    @property
    def modelled(self) -> bool:
        """Whether it enters the model."""
        return self.numbers.shape[1] > 0

    def decode(self, numbers: Array) -> tuple[Array, Array]:
        """What completed numbers ``(rows, width)`` mean: a number per row (of the level, where there are levels), and the probability of
        the level (1 elsewhere)."""
        if self.kind == "category":
            shares = np.maximum(numbers, 1e-9)
            shares = shares / shares.sum(1, keepdims=True)
            return shares.argmax(1).astype(float), shares.max(1)
        values = numbers[:, 0]
        if self.kind == "boolean":
            share = np.clip(values, 0, 1)
            return (share >= 0.5).astype(float), np.maximum(share, 1 - share)
        return (np.round(values) if self.kind == "integer" else values), np.ones(len(values))


def column_like(column: Column, values: pd.Series) -> Column:
    """Other cells of a column that is known: with its kind and levels. A level that it does not have counts as unknown in the numbers."""
    if not column.levels:
        kind = "text" if column.kind in ("constant", "id", "empty") else column.kind
        return column_of_values(column.name, values, kind=kind)
    known = values.notna().to_numpy()
    place = {level: index for index, level in enumerate(column.levels)}
    codes = np.array(
        [
            place.get(cell, np.nan) if there else np.nan
            for cell, there in zip(values.astype(object), known, strict=True)
        ],
        float,
    )
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
    marked = {text.lower() for text in missing}
    known = np.array([cell.lower() not in MISSING and cell.lower() not in marked for cell in stripped], bool)
    numbers = [form.number(cell) if there else np.nan for cell, there in zip(stripped, known, strict=True)]
    if kind not in ("category", "text", "id", "boolean", "date") and known.any() and None not in numbers:
        values = np.array(numbers, float)
        if np.isinf(values).any():
            raise InputError(
                f"The column {name!r} holds an infinite value. Correct it, or name it as missing with `missing`."
            )
        texts = [cell for cell, there in zip(stripped, known, strict=True) if there]
        whole = all(re.fullmatch(r"[+-]?[\d,. '\u00a0\u202f]+", text) and _decimals(text, form) == 0 for text in texts)
        return _numeric(name, values, known, whole, _number_writer(texts, form), kind, first)
    known = np.array([cell.lower() not in MISSING_TEXT and cell.lower() not in marked for cell in stripped], bool)
    texts = [cell for cell, there in zip(stripped, known, strict=True) if there]
    if kind in (None, "date") and texts:
        date = _date_of_texts(name, stripped, texts, known)
        if date is not None:
            return date
    return _of_levels(name, [cell if there else None for cell, there in zip(stripped, known, strict=True)], kind)


def column_of_values(name: str, values: pd.Series, *, kind: Kind | None = None, first: bool = False) -> Column:
    """A column of a frame, whose type says most of what it is."""
    known = values.notna().to_numpy()
    if isinstance(values.dtype, pd.CategoricalDtype):
        levels = [cell if there else None for cell, there in zip(values.astype(object), known, strict=True)]
        return _of_levels(name, levels, kind or "category")
    if pd.api.types.is_bool_dtype(values.dtype):
        return _of_levels(
            name, [bool(v) if there else None for v, there in zip(values, known, strict=True)], kind or "boolean"
        )
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        zone = getattr(values.dtype, "tz", None)
        days = np.full(len(values), np.nan)
        days[known] = [stamp.timestamp() / _DAY for stamp in values[known]]
        # dates without a time of day are filled with dates without one
        whole_days = all(stamp == stamp.normalize() for stamp in values[known])

        def write(day: float) -> Any:
            stamp = pd.Timestamp(round(day * _DAY, 6), unit="s", tz=zone)
            return stamp.round("D") if whole_days else stamp

        return Column(name, "date", known, days[:, None], write=write)
    numeric = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_complex_dtype(values.dtype)
    if numeric and kind not in ("category", "boolean", "date", "text", "id"):
        numbers = np.where(known, values.to_numpy(dtype=float, na_value=np.nan), np.nan)
        if np.isinf(numbers).any():
            raise InputError(f"The column {name!r} holds an infinite value. Correct it or make it missing (NaN).")
        whole = pd.api.types.is_integer_dtype(values.dtype)
        return _numeric(name, numbers, known, whole, int if whole else float, kind, first)
    cells = [cell if there else None for cell, there in zip(values.astype(object), known, strict=True)]
    if all(isinstance(cell, bool | np.bool_) for cell in cells if cell is not None) and known.any():
        return _of_levels(name, cells, kind or "boolean")
    return _of_levels(name, cells, kind)


def _numeric(
    name: str, values: Array, known: Mask, whole: bool, write: Callable[[float], Any], kind: Kind | None, first: bool
) -> Column:
    distinct = np.unique(values[known])
    if kind is None:
        every = known.all() and distinct.size == values.size > 1 and whole
        counting = first and every and bool((np.diff(values) == 1).all())
        if every and (_ID_NAME.search(name) or counting):
            why = "whole numbers, all different" if _ID_NAME.search(name) else "it counts the rows"
            return Column(name, "id", known, np.empty((len(values), 0)), write=write, why=why)
        kind = "empty" if distinct.size == 0 else "constant" if distinct.size == 1 else "integer" if whole else "number"
    width = 1 if kind in MODELLED else 0
    return Column(name, kind, known, np.where(known, values, np.nan)[:, None][:, :width], (), write)


def _of_levels(name: str, cells: Sequence[Any], kind: Kind | None) -> Column:
    """A column of labels: boolean, category, identifier or free text."""
    known = np.array([cell is not None for cell in cells], bool)
    counts = Counter(cell for cell in cells if cell is not None)
    lowered = {str(level).strip().lower() for level in counts}
    why = ""
    if kind is None:
        if not counts:
            kind = "empty"
        elif len(counts) == 1:
            kind = "constant"
        elif any(lowered == pair for pair in _BOOLEANS) and len(counts) == 2:
            kind = "boolean"
        elif len(counts) == sum(counts.values()):
            kind, why = ("id" if known.all() else "text"), "all different"
        elif len(counts) <= MOST_LEVELS and _PER_LEVEL * len(counts) <= known.sum():
            kind = "category"
        else:
            kind, why = "text", f"{len(counts)} different values"
    if kind in ("number", "integer", "date"):
        example = next((cell for cell in cells if cell is not None), None)
        raise UsageError(f"The column {name!r} cannot be read as {kind}: it holds {example!r}.")
    levels = tuple(sorted(counts, key=lambda level: (str(level).strip().lower() in _TRUE, str(level))))
    if kind == "boolean" and len(levels) > 2:
        raise UsageError(f"The column {name!r} cannot be read as boolean: it has {len(levels)} different values.")
    place = {level: index for index, level in enumerate(levels)}
    codes = np.array([np.nan if cell is None else place[cell] for cell in cells], float)
    return Column(name, kind, known, _coded(codes, kind, len(levels)), levels, lambda code: levels[int(code)], why)


def _coded(codes: Array, kind: Kind, levels: int) -> Array:
    """The numbers of levels: one column for each level of a category, one of 0 and 1 for a boolean, none for what passes through."""
    if kind == "category":
        return np.where(np.isnan(codes)[:, None], np.nan, codes[:, None] == np.arange(levels))
    return codes[:, None][:, : int(kind == "boolean")]


def _date_of_texts(name: str, cells: Sequence[str], texts: Sequence[str], known: Mask) -> Column | None:
    fitting = [form for form in _DATES if _is_date(texts[0], form) and all(_is_date(text, form) for text in texts[1:])]
    if not fitting or (fitting[0] == "%Y%m%d"):
        return None
    form = fitting[0]
    days = np.full(len(cells), np.nan)
    days[known] = [datetime.strptime(text, form).replace(tzinfo=UTC).timestamp() / _DAY for text in texts]
    unit = _DAY if "%H" not in form else 60.0 if "%S" not in form else 1.0

    def write(day: float) -> str:
        return datetime.fromtimestamp(round(day * _DAY / unit) * unit, UTC).strftime(form)

    why = f"read as {form}, {fitting[1]} fits as well" if len(fitting) > 1 else ""
    if len(set(texts)) == 1:
        return Column(name, "constant", known, np.empty((len(cells), 0)), (texts[0],), lambda _: texts[0])
    return Column(name, "date", known, days[:, None], (), write, why)


def _is_date(text: str, form: str) -> bool:
    try:
        datetime.strptime(text, form)
    except ValueError:
        return False
    return True


def _decimals(text: str, form: Form) -> int:
    _, point, digits = text.partition(form.decimal)
    return len(digits) if point and digits.isdigit() else 0


def _number_writer(texts: Sequence[str], form: Form) -> Callable[[float], str]:
    """Numbers with the decimals that the column has, its decimal sign, and its thousands where it groups them."""
    decimals = min(max((_decimals(text, form) for text in texts), default=0), _MOST_DECIMALS)
    exponent = any("e" in text.lower() for text in texts)
    grouped = form.thousands and any(form.thousands in text for text in texts)

    def write(value: float) -> str:
        if exponent:
            return repr(value).replace(".", form.decimal)
        text = f"{value:,.{decimals}f}" if grouped else f"{value:.{decimals}f}"
        text = "0" + text[2:] if text.startswith("-0") and float(text.replace(",", "")) == 0 else text
        return text.translate({ord(","): form.thousands, ord("."): form.decimal})

    return write

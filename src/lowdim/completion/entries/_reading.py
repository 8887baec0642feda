"""Incomplete matrices in files: triplets with ids, and tables with empty cells. Errors name the line."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import load_npz

from lowdim._memory import bytes_of_text, require_memory
from lowdim._numbers import capped
from lowdim._reading import read_arrays, reading
from lowdim.completion.entries._entries import Entries
from lowdim.errors import InputError, UsageError, did_you_mean, require
from lowdim.tables import Source, Table, marks_of, read_file, without_marks
from lowdim.tables._scales import scale_of
from lowdim.tables._table import SENTINELS
from lowdim.tables._wide import MOST_LEVELS, Wide

MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}
DELIMITERS = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a bar"}
ROW_NAMES = (
    "row",
    "rows",
    "user",
    "userid",
    "user_id",
    "uid",
    "reviewerid",
    "reviewer_id",
    "customer_id",
    "customerid",
    "customer",
    "client",
    "reviewer",
    "rater",
    "username",
    "user_name",
)
COLUMN_NAMES = (
    "col", "cols", "column", "item", "itemid", "item_id", "iid", "movie", "movieid", "movie_id", "product", "productid", "product_id",
    "asin", "book_id", "bookid", "isbn", "artistid", "artist_id", "song_id", "business_id", "film", "artist", "song", "track", "book", "columns",
)  # fmt: skip
VALUE_NAMES = ("value", "values", "rating", "ratings", "score", "stars", "overall")
FIRST_TIME, LAST_TIME = 1e8, 2e10
"""Of ratings, in seconds since 1970."""
RATING_SUFFIXES = {".base", ".data", ".test", ".dat"}
"""Of files of ratings without a header: user, item, rating, and perhaps a time."""
Texts = NDArray[np.str_]
SAMPLE = 30_000  # cells of a text file from which the memory for all of it is told
_WHOLE = 2.0**53
_IN_FULL = re.compile(r"\d+\.0+")
LONGEST = 1_000
"""Characters of an id: an array of ids has room for the longest in every place."""


@dataclass(frozen=True)
class Triplets:
    """Entries with ids of rows and columns, in the order of their indices.

    Attributes:
        entries: What is known.
        row_ids: Of rows.
        column_ids: Of columns.
        names: Of the columns of the file with the ids of rows, of columns, and the values.
        asked: The pairs of ids whose value is missing, or that are a test.
        truth: Of a test: its values.
        unused: Other columns of the file.
        write: A value as the file has it, where that is more than a number.
        wide: The table that they come from, where it has a column for each column.
        notes: What was found and is not plain: one line each.
    """

    entries: Entries
    row_ids: Texts
    column_ids: Texts
    names: tuple[str, str, str]
    asked: tuple[Texts, Texts] | None = None
    truth: NDArray[np.float64] | None = None
    unused: tuple[str, ...] = ()
    write: Callable[[float], str] | None = None
    wide: Wide | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableFile:
    """A table in a file that can be written back, and the entries of the columns that enter the model."""

    source: Source
    table: Table
    entries: Entries


def read_triplets(
    path: Path,
    row: str | None,
    col: str | None,
    value: str | None,
    *,
    delimiter: str | None = None,
    missing: Sequence[str] = (),
) -> Triplets:
    """Read one entry per line (CSV, TSV), row (Parquet) or element (NPZ).

    The names of the columns are those of the ids of rows, of columns, and of the values; by default one of `ROW_NAMES` and so on.
    Values that are one of the texts in `missing` (``NAME=TEXT``: in one column) are not known. Arrays ``train_rows`` and so on of an NPZ are the
    entries, and ``test_rows`` and so on are asked for.

    Raises:
        InputError: With the line where something is wrong.
    """
    columns, lines = _columns(path, delimiter)
    if path.suffix == ".npz" and not (row or col or value or _are_triplets(list(columns))):
        if "format" in columns:  # as SciPy keeps a sparse matrix
            with reading(path, "a sparse matrix"):
                own = load_npz(path).tocoo()
            columns = {"row": own.row, "column": own.col, "value": own.data}
        train, test = (_behind(prefix, columns) for prefix in ("train_", "test_"))
        if _are_triplets(list(train)):
            read = _triplets(train, None, path, None, None, None, None, missing)
            return _with_test(read, test, path, missing)
    return _triplets(columns, lines, path, row, col, value, None, missing)


def _with_test(read: Triplets, test: dict[str, Any], path: Path, missing: Sequence[str]) -> Triplets:
    """The same, with entries that are asked for, and measured where their values are there and they are none of the known ones."""
    row, col, value = read.names
    if row not in test or col not in test:
        return read
    if value not in test:
        return replace(read, asked=(_ids(test[row], row, path, None), _ids(test[col], col, path, None)))
    told = _triplets(test, None, path, *read.names, None, missing)
    rows, cols, values = told.row_ids[told.entries.rows], told.column_ids[told.entries.cols], told.entries.values
    row_places, col_places = pd.Index(read.row_ids).get_indexer(rows), pd.Index(read.column_ids).get_indexer(cols)
    width = len(read.column_ids)
    known = np.isin(row_places * width + col_places, read.entries.rows * np.int64(width) + read.entries.cols)
    fresh = (row_places < 0) | (col_places < 0) | ~known
    notes = read.notes
    if not fresh.all():
        notes += (f"{(~fresh).sum():,} of {fresh.size:,} test entries are among the known ones, and measure nothing",)
    if not fresh.any():
        return replace(read, notes=notes)
    return replace(read, asked=(rows[fresh], cols[fresh]), truth=values[fresh], notes=notes)


def _behind(prefix: str, columns: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): cells for name, cells in columns.items() if name.startswith(prefix)}


def _triplets(
    columns: dict[str, Any],
    lines: Sequence[int] | None,
    path: Path,
    row: str | None,
    col: str | None,
    value: str | None,
    number: Callable[[str], float | None] | None,
    missing: Sequence[str],
    *,
    by_place: bool = False,
) -> Triplets:
    by_place |= path.suffix in RATING_SUFFIXES
    if by_place and len(columns) > 2 and not (row or col or value) and not _are_triplets(list(columns)):
        row, col, value = list(columns)[:3]
    names = (
        _named(columns, row, ROW_NAMES, "row", path),
        _named(columns, col, COLUMN_NAMES, "col", path),
        _named(columns, value, VALUE_NAMES, "value", path),
    )
    rows, cols = (_ids(columns[name], name, path, lines) for name in names[:2])
    cells, asked = columns[names[2]], None
    if not len(rows) == len(cols) == len(cells):
        sizes = ", ".join(f"{name!r} {len(columns[name]):,}" for name in names)
        raise InputError(f"{path}: {sizes}: these must be as many ids of rows, ids of columns, and values.")
    if missing:
        marks = marks_of(names[2], list(columns), missing)
        cells = without_marks(pd.DataFrame({names[2]: cells}), marks, usual=False).iloc[:, 0].tolist()
    known = np.array([not _is_missing(cell) for cell in cells]) if isinstance(cells, list) else np.zeros(0, bool)
    if known.any() and not known.all():
        asked = rows[~known], cols[~known]
        rows, cols, cells = rows[known], cols[known], [cell for cell, there in zip(cells, known, strict=True) if there]
        lines = None if lines is None else [line for line, there in zip(lines, known, strict=True) if there]
    write = None
    if isinstance(cells, list):
        cells, write = _of_scale(cells, number)
    values = _numbers(cells, names[2], path, lines)
    (row_ids, row_places), (column_ids, col_places) = (np.unique(ids, return_inverse=True) for ids in (rows, cols))
    _refuse_conflicts(row_places, col_places, values, rows, cols, path, lines)
    shape = len(row_ids), len(column_ids)
    entries = Entries.from_triplets(row_places, col_places, values, shape)
    unused = tuple(name for name in columns if name not in names)
    notes = _doubtful(values, names[2])
    return Triplets(entries, row_ids, column_ids, names, asked, unused=unused, write=write, notes=notes)


def _doubtful(values: NDArray[np.float64], name: str) -> tuple[str, ...]:
    """A line on a rating that may stand for none: -1 or the like beside positive ones, 99 far above them, 0 where it is twice as frequent as the next."""
    levels, counts = np.unique(values, return_counts=True)
    if not 2 < levels.size <= MOST_LEVELS + 2:
        return ()
    found: list[float] = []
    if levels[0] in (-1, *SENTINELS) and levels[1] >= 0:
        found.append(float(levels[0]))
    elif levels[0] == 0 and counts[0] >= 2 * counts[1]:
        found.append(0.0)
    if levels[-1] in SENTINELS and levels[-1] - levels[-2] > 2 * np.ptp(levels[1:-1]):
        found.append(float(levels[-1]))
    others = [level for level in levels if level not in found]
    return tuple(
        f"{level:g} in {name!r} stands in {counts[levels == level][0]:,} entries, beside ratings from {others[0]:g} to {others[-1]:g}; where it "
        f"means that one did not rate, `na` {level:g} says so"
        for level in found
    )


def _of_scale(
    cells: list[Any], number: Callable[[str], float | None] | None
) -> tuple[list[Any], Callable[[float], str] | None]:
    """Cells as numbers where they are, or where all are ratings of one form, whose writer comes with them."""
    read_one = number or (lambda text: float(text) if _is_number(text) else None)
    if cells and isinstance(cells[0], str) and read_one(cells[0]) is None:
        scale = scale_of([str(cell) for cell in cells])
        return (cells, None) if scale is None else (list(scale.values), scale.write)
    if number is None:
        return cells, None
    read = [number(cell) if isinstance(cell, str) else None for cell in cells]
    return [cell if known is None else known for cell, known in zip(cells, read, strict=True)], None


def read_pairs(path: Path, row: str, col: str, *, delimiter: str | None = None) -> tuple[Texts, Texts]:
    """The pairs of ids to predict, from a file with the columns that the triplets had."""
    columns, lines = _columns(path, delimiter)
    names = _named(columns, row, (), "row", path), _named(columns, col, (), "col", path)
    first, second = (_ids(columns[name], name, path, lines) for name in names)
    return first, second


def read_known(path: Path, name: str) -> pd.DataFrame:
    """What a file says about ids: a frame with the ids first (the column of this name, else the first), and numbers beside them."""
    source = read_file(path)
    ids = name if name in source.names else source.names[0]
    table = source.table(passed=(ids,))
    frame = pd.DataFrame(table.matrix, columns=table.names)
    own = source.cells.iloc[:, source.names.index(ids)].astype(str).str.strip()
    frame.insert(0, ids, own.to_numpy(), allow_duplicates=True)
    return frame


def read_table(source: Source, **options: Any) -> TableFile:
    """The table in a file.

    Raises:
        InputError: If no column can be completed, or none of its cells is known.
    """
    table = source.table(**options)
    return TableFile(source, table, Entries.from_dense(table.matrix))


def triplets_of(wide: Wide) -> Triplets:
    """The ratings in a wide table."""
    entries = Entries.from_dense(wide.numbers)
    rows, cols = wide.ids[entries.rows], wide.names[entries.cols]
    (row_ids, row_places), (column_ids, col_places) = (np.unique(ids, return_inverse=True) for ids in (rows, cols))
    shape = len(row_ids), len(column_ids)
    entries = Entries.from_triplets(row_places, col_places, entries.values, shape)
    first = wide.source.names[0]
    names = (first if 0 not in wide.places and first else "row", "column", "value")
    return Triplets(entries, row_ids, column_ids, names, wide=wide)


def triplets_in(
    source: Source, row: str | None, col: str | None, value: str | None, missing: Sequence[str] = ()
) -> Triplets:
    """Entries with ids from the columns of a file that has been read; arguments as for `read_triplets`."""
    columns = {name: source.cells.iloc[:, place].tolist() for place, name in enumerate(source.names)}
    found = [source.line(row) for row in range(len(source.cells))]
    lines = [line for line in found if line is not None] or None
    by_place = not source.has_header
    return _triplets(columns, lines, Path(source.name), row, col, value, source.number, missing, by_place=by_place)


def is_ratings(source: Source) -> bool:
    """Whether a file that has been read holds triplets: by the names of its columns, or, where it has none, by its name or its values."""
    if _are_triplets(source.names):
        return True
    if source.has_header or len(source.names) not in (3, 4):
        return False
    return Path(source.name).suffix in RATING_SUFFIXES or _have_ratings(source)


def _have_ratings(source: Source) -> bool:
    """Whether these are users, items, ratings of a few levels and perhaps Unix times, with nothing missing, and so nothing to fill in a table."""
    cells = source.cells
    pairs = cells.iloc[:, :2]
    again = all(cells.iloc[:, place].duplicated().any() for place in (0, 1))
    if pairs.duplicated().any() or not again or not 1 < cells.iloc[:, 2].nunique() <= MOST_LEVELS:
        return False
    if any(_is_missing(cell) for place in range(cells.shape[1]) for cell in cells.iloc[:, place]):
        return False
    ids = [source.number(cell) for place in (0, 1) for cell in cells.iloc[:, place]]
    ratings = [source.number(cell) for cell in cells.iloc[:, 2].unique()]
    times = [source.number(cell) for cell in cells.iloc[:, 3]] if cells.shape[1] == 4 else []
    return (
        all(one is None or one.is_integer() for one in ids)
        and all(one is not None and (2 * one).is_integer() for one in ratings)
        and all(one is not None and FIRST_TIME <= one <= LAST_TIME for one in times)
    )


def other_columns_with_holes(source: Source) -> list[str]:
    """Columns beside those of triplets in which something is missing: what completing the triplets would not fill."""
    wanted = {*ROW_NAMES, *COLUMN_NAMES, *VALUE_NAMES}
    return [
        name
        for place, name in enumerate(source.names)
        if _plain(name) not in wanted and any(_is_missing(cell) for cell in source.cells.iloc[:, place])
    ]


def _are_triplets(names: Sequence[str]) -> bool:
    lowered = {_plain(name) for name in names}
    return all(lowered & set(options) for options in (ROW_NAMES, COLUMN_NAMES, VALUE_NAMES))


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def has_triplets(path: Path, *, delimiter: str | None = None) -> bool:
    """Whether the names of the columns are those of triplets."""
    if path.suffix == ".npz":
        return True
    return _are_triplets(_header(path, delimiter))


def _columns(path: Path, delimiter: str | None) -> tuple[dict[str, Any], Sequence[int] | None]:
    """Columns by name, and the line in the file of each row where it has lines."""
    if path.suffix == ".npz":
        return read_arrays(path, None, remedy="Save plain arrays with numpy.savez.")[0], None
    if path.suffix == ".parquet":
        table = _parquet(path, "read_table")
        return {name: table.column(name).to_pylist() for name in table.column_names}, None
    header, rows, lines, sample = [], [], [], 0
    for line, fields in _text_rows(path, delimiter):
        if not header:
            header, sample = fields, -(-SAMPLE // len(fields))
            continue
        if len(fields) != len(header):
            raise InputError(f"{path}, line {line}: {len(fields)} fields, but the header has {len(header)}.")
        rows.append(fields)
        lines.append(line)
        if len(rows) == sample:
            _require_memory(path, rows)
    if not rows:
        raise InputError(f"{path} has a header but no rows.")
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)), lines


def _require_memory(path: Path, rows: Sequence[Sequence[str]]) -> None:
    fields = len(rows[0])
    length = sum(len(field.encode()) + 1 for row in rows for field in row) / len(rows)
    lines = round(path.stat().st_size / length)
    advice = "Use a part of it, or give arrays to DeepMatrixCompletion in Python."
    require_memory(bytes_of_text(lines, fields, length), f"Reading {path}, about {lines:,} lines,", advice)


def _header(path: Path, delimiter: str | None) -> list[str]:
    if path.suffix == ".parquet":
        return _parquet(path, "read_schema").names
    return next(_text_rows(path, delimiter))[1]


def _parquet(path: Path, reader: str) -> Any:
    with reading(path, "Parquet"):
        return getattr(require("pyarrow.parquet", "A Parquet file"), reader)(path)


def _text_rows(path: Path, delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """Lines with their numbers, the header first and checked."""
    delimiter = delimiter or ("\t" if path.suffix in {".tsv", ".tab"} else ",")
    header: list[str] = []
    line = 0
    with reading(path, "a text table"):
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, delimiter=delimiter, strict=True)
                for fields in reader:
                    line = reader.line_num
                    if not fields:
                        continue
                    if not header:
                        header = [name.strip() for name in fields]
                        _check_header(header, delimiter, path)
                        yield line, header
                    else:
                        yield line, fields
                if not header:
                    raise InputError(f"{path} is empty.")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
        except csv.Error as error:
            raise InputError(f"{path}, line {line + 1}: {error}.") from error


def _check_header(header: list[str], delimiter: str, path: Path) -> None:
    if len(header) == 1:
        others = [other for other in DELIMITERS if other != delimiter and other in header[0]]
        if others:
            raise InputError(
                f"{path}, line 1: one column when split at {DELIMITERS.get(delimiter, repr(delimiter))}; it looks as if "
                f"{DELIMITERS[others[0]]} separates the columns. Pass `delimiter` {others[0]!r}."
            )
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise InputError(f"{path}, line 1: the column {sorted(repeated)[0]!r} comes twice. Give each its own name.")


def _named(columns: dict[str, Any], name: str | None, defaults: Sequence[str], option: str, path: Path) -> str:
    if name is None:
        default = next((column for column in columns if _plain(column) in defaults), None)
        if default is not None:
            return default
        raise InputError(
            f"{path} has no column named {' or '.join(defaults[:4])} …; say which with `{option}`. There are: {capped(columns)}."
        )
    if name not in columns:
        raise InputError(f"{path} has no column {name!r}. {did_you_mean(name, columns)}")
    return name


def _ids(cells: Any, name: str, path: Path, lines: Sequence[int] | None) -> Texts:
    if not isinstance(cells, np.ndarray):
        long = next((place for place, cell in enumerate(cells) if isinstance(cell, str) and len(cell) > LONGEST), None)
        if long is not None:
            raise InputError(
                f"{_where(path, lines, long)}: the id in column {name!r} has {len(cells[long]):,} characters; at most {LONGEST:,} are read."
            )
        zero = next((place for place, cell in enumerate(cells) if isinstance(cell, str) and "\0" in cell), None)
        if zero is not None:  # at the end of a text, NumPy would drop it
            raise InputError(f"{_where(path, lines, zero)}: the id in column {name!r} holds a zero byte.")
    array = np.asarray(cells)
    if array.ndim != 1:
        raise InputError(f"{path}: {name} must be one-dimensional, but has shape {array.shape}.")
    if array.dtype.kind not in "iu" and pd.isna(pd.Series(cells, dtype=object)).any():
        raise InputError(f"{path}: {name} has an empty id.")
    if array.dtype.kind == "f" and bool((np.abs(array) < _WHOLE).all()) and not bool((array % 1).any()):
        array = array.astype(np.int64)
    texts = np.char.strip(array.astype(str))
    if texts.size and all(map(_IN_FULL.fullmatch, texts.tolist())):  # as a frame with holes writes whole numbers
        texts = np.char.partition(texts, ".")[:, 0]
    empty = texts == ""
    if empty.any():
        raise InputError(f"{_where(path, lines, int(np.argmax(empty)))}: the id in column {name!r} is empty.")
    return texts


def _numbers(cells: Any, name: str, path: Path, lines: Sequence[int] | None) -> NDArray[np.float64]:
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiub":
        return np.asarray(cells, np.float64)
    numbers = np.empty(len(cells))
    for place, cell in enumerate(cells):
        if _is_missing(cell):
            raise InputError(
                f"{_where(path, lines, place)}: the value in column {name!r} is missing. Leave out entries that are not known."
            )
        if not _is_number(cell):
            odd = _odd_one(list(cells), place)
            raise InputError(
                f"{_where(path, lines, odd)}: {cells[odd]!r} in column {name!r} is not a number. Ratings are numbers, or all of one form: 3/5, "
                "4 stars, ★★★☆☆. `na` names a text that stands for a missing one, `value` the column with the ratings."
            )
        numbers[place] = float(cell)
        if np.isinf(numbers[place]):
            raise InputError(f"{_where(path, lines, place)}: the value in column {name!r} is infinite.")
    return numbers


def _odd_one(cells: Sequence[Any], place: int) -> int:
    """The first cell without the form of that at a place, if this is a rating; else the place."""
    first = str(cells[place])
    if scale_of([first]) is None:
        return place
    return next((one for one, cell in enumerate(cells) if scale_of([first, str(cell)]) is None), place)


def _is_missing(cell: Any) -> bool:
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING
    return cell is None or cell is pd.NA or (isinstance(cell, float) and cell != cell)


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def _where(path: Path, lines: Sequence[int] | None, place: int) -> str:
    return f"{path}, row {place}" if lines is None else f"{path}, line {lines[place]}"


def _refuse_conflicts(
    rows: Any, cols: Any, values: Any, row_texts: Texts, column_texts: Texts, path: Path, lines: Sequence[int] | None
) -> None:
    order = np.lexsort((cols, rows))
    same = (np.diff(rows[order]) == 0) & (np.diff(cols[order]) == 0)
    conflicts = np.flatnonzero(same & (np.diff(values[order]) != 0))
    if conflicts.size:
        first, second = sorted((int(order[conflicts[0]]), int(order[conflicts[0] + 1])))
        raise InputError(
            f"{_where(path, lines, second)}: {str(row_texts[second])!r}, {str(column_texts[second])!r} has the value {values[second]}, but "
            f"{values[first]} in {_where(path, lines, first).rsplit(', ', 1)[-1]} ({conflicts.size} such). Keep one of them."
        )


def delimiter_of(text: str | None) -> str | None:
    """The character that an option means: itself, or ``tab`` and ``\\t``."""
    if text is None or len(text) == 1:
        return text
    if text in {"tab", "\\t"}:
        return "\t"
    raise UsageError(f"`delimiter` takes one character or tab, not {text!r}.")

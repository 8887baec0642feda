"""Table files in every usual form: read, and written back in the same form with nothing but the holes changed."""

import bz2
import csv
import gzip
import io
import lzma
import stat
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lowdim._numbers import listed
from lowdim._reading import said
from lowdim.errors import InputError, UsageError, did_you_mean, require
from lowdim.tables._below import FEW, other_table
from lowdim.tables._columns import Kind
from lowdim.tables._frames import plain, to_pandas, with_filled, without_marks
from lowdim.tables._table import Filled, Table, table_of_frame, table_of_texts
from lowdim.tables._text import Form, TextTable, read_text

_READERS = {
    ".dta": "read_stata", ".sav": "read_spss", ".sas7bdat": "read_sas", ".feather": "read_feather", ".arrow": "read_feather", ".orc": "read_orc",
    ".xls": "read_excel", ".xlsb": "read_excel", ".ods": "read_excel", ".pkl": "read_pickle", ".pickle": "read_pickle", ".h5": "read_hdf",
}  # fmt: skip
"""What reads kinds of files that are not read here."""


class Packing(NamedTuple):
    """A way to compress a file: how it begins, its suffix, how it is opened and packed."""

    mark: bytes
    suffix: str
    opened: Callable[[io.BytesIO], Any]
    pack: Callable[[bytes], bytes]


_PACKINGS = {
    "gzip": Packing(b"\x1f\x8b", ".gz", gzip.open, lambda data: gzip.compress(data, mtime=0)),
    "bzip2": Packing(b"BZh", ".bz2", bz2.open, bz2.compress),
    "xz": Packing(b"\xfd7zXZ", ".xz", lzma.open, lzma.compress),
}
_ZIP = b"PK\x03\x04"
MOST_BYTES = 8_000_000_000
"""Of a decompressed file: a small archive can hold a large text."""


@dataclass(frozen=True)
class TextSource:
    """A text table, perhaps compressed."""

    text: TextTable
    name: str
    suffix: str
    packing: str = ""
    member: str = ""

    @property
    def names(self) -> Sequence[str]:
        """Of all columns."""
        return self.text.names

    @property
    def cells(self) -> pd.DataFrame:
        """``rows x columns``."""
        return self.text.cells

    @property
    def has_header(self) -> bool:
        """Whether the columns are named in the file."""
        return self.text.form.header

    def number(self, cell: str) -> float | None:
        """The number that a cell holds, or None."""
        return self.text.form.number(cell)

    @property
    def form(self) -> str:
        """What is not usual about it, for one line of output."""
        return ", ".join(part for part in (self.text.form.describe(), self.packing) if part)

    def table(
        self,
        *,
        kinds: Mapping[str, Kind] | None = None,
        passed: Sequence[str] = (),
        only: Sequence[str] | None = None,
        missing: Sequence[str] = (),
        sentinels: bool = True,
        time: str | None = None,
        entity: str | None = None,
    ) -> Table:
        """Its columns; arguments as for `table_of_texts`."""
        return table_of_texts(
            self.text.cells, self.text.names, self.text.form,
            kinds=kinds, passed=passed, only=only, missing=missing, sentinels=sentinels, time=time, entity=entity,
        )  # fmt: skip

    def written(self, filled: Mapping[tuple[int, int], Filled]) -> bytes:
        """The file with its holes filled."""
        data = self.text.with_cells({place: str(cell.value) for place, cell in filled.items()})
        if self.packing in _PACKINGS:
            return _PACKINGS[self.packing].pack(data)
        if self.packing == "zip":
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(zipfile.ZipInfo(self.member), data, zipfile.ZIP_DEFLATED)
            return packed.getvalue()
        return data

    def line(self, row: int) -> int | None:
        """Where a row stands in the file, from 1."""
        return self.text.places[row][0].line

    def beside(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """Other rows in the form of the file: its separator, decimal sign and encoding."""
        form = self.text.form
        if form.json or len(form.separator) > 1 or form.separator == " ":
            return _as_csv(rows)
        return form.mark + _as_csv(rows, form.separator, form.decimal, form.encoding)


@dataclass(frozen=True)
class FrameSource:
    """A table of typed columns: Parquet or a sheet of Excel, which has a `sheet`'s name, a `corner` (the row and column of its header), the
    names of the `others` in the file that hold something, and the row `below` it (0 without one) from which another table follows."""

    frame: pd.DataFrame
    name: str
    suffix: str
    data: bytes
    sheet: str = ""
    corner: tuple[int, int] = (1, 1)
    others: tuple[str, ...] = ()
    below: int = 0
    has_header = True

    @property
    def names(self) -> Sequence[str]:
        """Of all columns."""
        return [str(name) for name in self.frame.columns]

    @property
    def cells(self) -> pd.DataFrame:
        """``rows x columns``."""
        return self.frame

    def number(self, cell: str) -> float | None:
        """The number that a cell holds, or None."""
        return Form().number(cell)

    @property
    def form(self) -> str:
        """What is not usual about it, for one line of output."""
        below = f"; another table from row {self.below} on is left as it is" if self.below else ""
        others = f"; others are {listed(map(repr, self.others))}, `sheet` names one" if self.others else ""
        return f"the sheet {self.sheet!r} of an Excel file{others}{below}" if self.sheet else "Parquet"

    def table(
        self,
        *,
        kinds: Mapping[str, Kind] | None = None,
        passed: Sequence[str] = (),
        only: Sequence[str] | None = None,
        missing: Sequence[str] = (),
        sentinels: bool = True,
        time: str | None = None,
        entity: str | None = None,
    ) -> Table:
        """Its columns; arguments as for `table_of_texts`."""
        del sentinels  # a typed file has a way of its own to say that a value is missing
        return table_of_frame(
            without_marks(self.frame, missing), kinds=kinds, passed=passed, only=only, time=time, entity=entity
        )

    def written(self, filled: Mapping[tuple[int, int], Filled]) -> bytes:
        """The file with its holes filled."""
        return _with_sheet(self, filled) if self.sheet else _with_parquet(self.data, filled)

    def line(self, row: int) -> int | None:
        """Where a row stands in the sheet, from 1; None in Parquet."""
        return self.corner[0] + 1 + row if self.sheet else None

    def beside(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """Other rows as a CSV file."""
        return _as_csv(rows)


@dataclass(frozen=True)
class GivenSource:
    """A pandas or polars frame, or an array of numbers, that was given as it is."""

    given: Any
    has_header = True
    suffix = ".csv"
    form = ""

    @property
    def name(self) -> str:
        """What it is, for messages."""
        if isinstance(self.given, np.ndarray):
            return "array"
        return "pandas frame" if isinstance(self.given, pd.DataFrame) else "polars frame"

    @property
    def cells(self) -> pd.DataFrame:
        """``rows x columns``."""
        return to_pandas(self.given)

    @property
    def names(self) -> Sequence[str]:
        """Of all columns."""
        return [str(name) for name in self.cells.columns]

    def number(self, cell: str) -> float | None:
        """The number that a cell holds, or None."""
        return Form().number(cell)

    def table(self, *, missing: Sequence[str] = (), sentinels: bool = True, **options: Any) -> Table:
        """Its columns; arguments as for `table_of_frame`."""
        del sentinels  # as in a typed file
        frame = without_marks(self.cells, missing, usual=False) if missing else self.cells
        if isinstance(self.given, np.ndarray):  # whose numbers are never names, and need not stay whole
            options["kinds"] = dict.fromkeys(self.names, "number") | dict(options.get("kinds") or {})
        return table_of_frame(frame, **options)

    def filled(self, filled: Mapping[tuple[int, int], Filled]) -> Any:
        """The frame with its holes filled."""
        return with_filled(self.given, filled)

    def written(self, filled: Mapping[tuple[int, int], Filled]) -> bytes:
        """The same as a CSV file."""
        return to_pandas(self.filled(filled)).to_csv(index=False).encode()

    def line(self, row: int) -> int | None:
        """A frame has no lines."""
        return None

    def beside(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """Other rows as a CSV file."""
        return _as_csv(rows)


Source = TextSource | FrameSource | GivenSource
"""A table that can be written back."""


def _as_csv(rows: Sequence[Sequence[Any]], separator: str = ",", decimal: str = ".", encoding: str = "utf-8") -> bytes:
    """Rows of texts, numbers and None as a text table; what the encoding lacks is written as `\\N{...}`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, lineterminator="\n")
    for row in rows:
        writer.writerow(
            [
                repr(cell).replace(".", decimal) if isinstance(cell, float) else "" if cell is None else cell
                for cell in row
            ]
        )
    return buffer.getvalue().encode(encoding, "namereplace")


def read_file(
    path: Path | str,
    *,
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    labels: bool = False,
    sheet: str | None = None,
) -> Source:
    """Read a table: text with any separator (also compressed by gzip or in a zip of one file), Parquet, Excel; ``"-"`` is standard input.

    Args:
        path: The file; a pipe is read to its end.
        separator: Of a text file, if it is not to be found; so are the others.
        decimal: ``"."`` or ``","``.
        encoding: As Python names it.
        header: Whether the first line names the columns.
        labels: Whether the table holds texts with labels, as of `read_text`.
        sheet: Of an Excel file; by default the first that holds a table of more than one column.

    Raises:
        InputError: If it cannot be read, with the reason.
    """
    name = "standard input" if str(path) == "-" else str(path)
    with said(Path(path), "a table", name=name, remedy="It may be damaged."):
        data = _bytes(path)
        if not data:
            raise InputError(f"{name} is empty.")
        if sheet is not None and not _is_excel(data):
            raise UsageError(f"`sheet` names one of an Excel file (.xlsx), and {name} is none.", argument="sheet")
        if data[:4] == b"PAR1":
            return FrameSource(_parquet(data), name, ".parquet", data)
        member = ""
        packing = next((kind for kind, one in _PACKINGS.items() if data.startswith(one.mark)), "")
        if packing:
            data = _limited(_PACKINGS[packing].opened(io.BytesIO(data)), name)
        elif _is_excel(data):
            return _sheet(data, name, sheet)
        elif data[:4] == _ZIP:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                packing, member = "zip", _only_member(archive, name)
                with archive.open(member) as file:
                    data = _limited(file, name)
        reader = _READERS.get(Path(name).suffix.lower())
        if reader and b"\0" in data[:1000]:
            raise InputError(
                f"{name} is of a kind that is not read. In Python, pandas.{reader}({name!r}).to_parquet('table.parquet') writes one that is."
            )
        text = read_text(
            data, name, separator=separator, decimal=decimal, encoding=encoding, header=header, labels=labels
        )
    return TextSource(text, name, _suffix(path, packing), packing, member)


def _bytes(path: Path | str) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read()
    path = Path(path)
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise InputError(f"{path} is neither a file nor a pipe.")
    return path.read_bytes()


def _limited(file: Any, name: str) -> bytes:
    data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise InputError(f"{name} holds more than {MOST_BYTES:,} bytes when decompressed.")
    return data


def _only_member(archive: zipfile.ZipFile, name: str) -> str:
    members = [
        member for member in archive.namelist() if not member.endswith("/") and not member.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        raise InputError(
            f"{name} holds {len(members)} files; an archive of one table is needed. Unpack it and name the file."
        )
    return members[0]


def _suffix(path: Path | str, packing: str) -> str:
    """Of the file that is written: as the input's, and a sensible one for standard input and pipes."""
    suffixes = Path(path).suffixes if str(path) != "-" else []
    known = "".join(suffixes[-2:] if packing in _PACKINGS else suffixes[-1:])
    return known or {"zip": ".zip"}.get(packing, f".csv{_PACKINGS[packing].suffix}" if packing else ".csv")


def _parquet(data: bytes) -> pd.DataFrame:
    parquet = require("pyarrow.parquet", "A Parquet file")
    return parquet.read_table(io.BytesIO(data)).to_pandas(integer_object_nulls=False, types_mapper=_nullable().get)


def _nullable() -> dict[Any, Any]:
    """pandas' own types for whole numbers and booleans that may be missing."""
    arrow = require("pyarrow", "A Parquet file")
    sizes = (8, 16, 32, 64)
    whole = {getattr(arrow, f"int{size}")(): getattr(pd, f"Int{size}Dtype")() for size in sizes}
    whole |= {getattr(arrow, f"uint{size}")(): getattr(pd, f"UInt{size}Dtype")() for size in sizes}
    return whole | {arrow.bool_(): pd.BooleanDtype()}


def _with_parquet(data: bytes, filled: Mapping[tuple[int, int], Filled]) -> bytes:
    arrow, parquet = require("pyarrow", "A Parquet file"), require("pyarrow.parquet", "A Parquet file")
    table = parquet.read_table(io.BytesIO(data))
    for place in sorted({column for _, column in filled}):
        field, cells = table.schema.field(place), table.column(place).to_pylist()
        for (row, column), cell in filled.items():
            if column == place:
                cells[row] = cell.value
        if arrow.types.is_dictionary(field.type):
            levels = table.column(place).combine_chunks().dictionary
            codes = {level: code for code, level in enumerate(levels.to_pylist())}
            indices = arrow.array([codes.get(cell) for cell in cells], field.type.index_type)
            array = arrow.DictionaryArray.from_arrays(indices, levels, ordered=field.type.ordered)
        else:
            array = arrow.array(cells, type=field.type)
        table = table.set_column(place, field, array)
    written = io.BytesIO()
    parquet.write_table(table, written)
    return written.getvalue()


def _is_excel(data: bytes) -> bool:
    if data[:4] != _ZIP:
        return False
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return "xl/workbook.xml" in archive.namelist()


def _sheet(data: bytes, name: str, wanted: str | None) -> FrameSource:
    """The sheet of this name, or the first that holds a table: a line of names, perhaps below a title, and rows; of several columns, where
    one has several."""
    openpyxl = require("openpyxl", "An Excel file")
    values, formulas = (openpyxl.load_workbook(io.BytesIO(data), data_only=only) for only in (True, False))
    titles = [sheet.title for sheet in values.worksheets]
    if wanted is not None and wanted not in titles:
        raise UsageError(f"{name} has no sheet {wanted!r}. {did_you_mean(wanted, titles)}", argument="sheet")
    found: list[tuple[str, list[list[Any]], tuple[int, int], int]] = []
    for sheet in values.worksheets:
        rows = [list(row) for row in sheet.iter_rows(min_row=1, min_col=1, values_only=True)]
        for row, line in zip(
            rows, formulas[sheet.title].iter_rows(min_row=1, min_col=1, values_only=True), strict=True
        ):
            # a formula that was never computed is no hole
            row[:] = [formula if value is None else value for value, formula in zip(row, line, strict=True)]
        corner = _corner(rows)
        if corner is not None:
            width = max(place + 1 for row in rows for place, cell in enumerate(row) if cell is not None)
            found.append((sheet.title, rows, corner, width))
    chosen = [one for one in found if one[0] == wanted or (wanted is None and one[3] - one[2][1] > 1)]
    chosen = chosen or (found if wanted is None else [])
    if not chosen:
        which = "no sheet with" if wanted is None else f"a sheet {wanted!r} without"
        raise InputError(f"{name} has {which} a line of names and rows below it.")
    title, rows, (top, left), width = chosen[0]
    texts = [["" if cell is None else str(cell).strip() for cell in row[left:]] for row in rows[top:]]
    gaps = [row for row in range(2, len(texts)) if any(texts[row]) and not any(texts[row - 1])]
    other = other_table(texts, gaps)
    if other is not None and other <= FEW < len(texts) - other:
        top, texts, gaps = top + other, texts[other:], [gap - other for gap in gaps if gap > other + 1]
        other = other_table(texts, gaps)
    rows = rows[: None if other is None else top + other]
    last = max(place for place, row in enumerate(rows) if any(cell is not None for cell in row))
    width = (
        width if other is None else max(place + 1 for row in rows for place, cell in enumerate(row) if cell is not None)
    )
    header, top = _names_of_sheet([row[left:width] for row in rows], top)
    repeated = [column for column in header if header.count(column) > 1]
    if repeated:
        raise InputError(
            f"{name}, sheet {title!r}: the column {repeated[0]!r} comes twice. Give each a name of its own."
        )
    names = rows[top][left:width]  # where they come again, no row
    own = ([None] * len(names) if row[left:width] == names else row[left:width] for row in rows[top + 1 : last + 1])
    frame = pd.DataFrame(list(own), columns=header, dtype=object)
    others = tuple(one[0] for one in found if one[0] != title)
    frame = frame.infer_objects().convert_dtypes()
    below = 0 if other is None else len(rows) + 1
    return FrameSource(frame, name, ".xlsx", data, title, (top + 1, left + 1), others, below)


def _names_of_sheet(rows: Sequence[Sequence[Any]], top: int) -> tuple[list[str], int]:
    """The names of the columns, and their line; where some are equal, with the groups of columns in the line above."""
    header = [f"column {place + 1}" if cell is None else str(cell) for place, cell in enumerate(rows[top])]
    if len(set(header)) == len(header):
        return header, top
    for line in (top, top + 1):
        if line < 1 or line + 1 >= len(rows) or not all(isinstance(cell, str) for cell in rows[line][1:]):
            continue
        group, names = "", list[str]()
        for above, cell in zip(rows[line - 1], rows[line], strict=True):
            group = str(above) if above not in (None, "") else group
            names.append(f"{group} {cell or ''}".strip() or "column 1")
        if len(set(names)) == len(names):
            return names, line
    return header, top


def _corner(rows: Sequence[Sequence[Any]]) -> tuple[int, int] | None:
    """The row and column, from 0, where the names of the columns begin: in the first line that is about as wide as the table."""
    counts = [sum(cell is not None for cell in row) for row in rows]
    widest = max(counts, default=0)
    top = next((place for place, count in enumerate(counts) if 2 * count > widest and count > (widest > 1)), None)
    if top is None or not any(counts[top + 1 :]):
        return None
    return top, min(place for row in rows[top:] for place, cell in enumerate(row) if cell is not None)


def _with_sheet(source: FrameSource, filled: Mapping[tuple[int, int], Filled]) -> bytes:
    workbook = require("openpyxl", "An Excel file").load_workbook(io.BytesIO(source.data))
    sheet, (top, left) = workbook[source.sheet], source.corner
    for (row, column), cell in filled.items():
        value = plain(cell.value)
        sheet.cell(top + 1 + row, left + column).value = value
    written = io.BytesIO()
    workbook.save(written)
    return written.getvalue()

"""Table files in every usual form: read, and written back in the same form with nothing but the holes changed."""

import gzip
import io
import stat
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lowdim._reading import said
from lowdim.errors import InputError, require
from lowdim.tables._columns import Kind
from lowdim.tables._table import Filled, Table, table_of_frame, table_of_texts
from lowdim.tables._text import Form, TextTable, read_text

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
        if self.packing == "gzip":
            return gzip.compress(data, mtime=0)
        if self.packing == "zip":
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(zipfile.ZipInfo(self.member), data, zipfile.ZIP_DEFLATED)
            return packed.getvalue()
        return data


@dataclass(frozen=True)
class FrameSource:
    """A table of typed columns: Parquet or a sheet of Excel."""

    frame: pd.DataFrame
    name: str
    suffix: str
    data: bytes
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
        return "Parquet" if self.suffix == ".parquet" else "the first sheet of an Excel file"

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
        frame = self.frame.replace(list(missing), None) if missing else self.frame
        return table_of_frame(frame, kinds=kinds, passed=passed, only=only, time=time, entity=entity)

    def written(self, filled: Mapping[tuple[int, int], Filled]) -> bytes:
        """The file with its holes filled."""
        return (_with_parquet if self.suffix == ".parquet" else _with_sheet)(self.data, filled)


Source = TextSource | FrameSource
"""A table file that can be written back."""


def read_file(
    path: Path | str,
    *,
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    labels: bool = False,
) -> Source:
    """Read a table: text with any separator (also compressed by gzip or in a zip of one file), Parquet, Excel; ``"-"`` is standard input.

    Args:
        path: The file; a pipe is read to its end.
        separator: Of a text file, if it is not to be found; so are the others.
        decimal: ``"."`` or ``","``.
        encoding: As Python names it.
        header: Whether the first line names the columns.
        labels: Whether the table holds texts with labels, as of `read_text`.

    Raises:
        InputError: If it cannot be read, with the reason.
    """
    name = "standard input" if str(path) == "-" else str(path)
    with said(Path(path), "a table", name=name, remedy="It may be damaged."):
        data = _bytes(path)
        if not data:
            raise InputError(f"{name} is empty.")
        if data[:4] == b"PAR1":
            return FrameSource(_parquet(data), name, ".parquet", data)
        packing, member = "", ""
        if data[:2] == b"\x1f\x8b":
            packing, data = "gzip", _limited(gzip.GzipFile(fileobj=io.BytesIO(data)), name)
        elif data[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if "xl/workbook.xml" in archive.namelist():
                    return FrameSource(_sheet(data, name), name, ".xlsx", data)
                packing, member = "zip", _only_member(archive, name)
                with archive.open(member) as file:
                    data = _limited(file, name)
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
    known = "".join(suffixes[-2:] if packing == "gzip" else suffixes[-1:])
    return known or {"gzip": ".csv.gz", "zip": ".zip"}.get(packing, ".csv")


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
        inner = field.type.value_type if arrow.types.is_dictionary(field.type) else field.type
        array = arrow.array(cells, type=inner)
        table = table.set_column(
            place, field, array.dictionary_encode().cast(field.type) if inner != field.type else array
        )
    written = io.BytesIO()
    parquet.write_table(table, written)
    return written.getvalue()


def _sheet(data: bytes, name: str) -> pd.DataFrame:
    require("openpyxl", "An Excel file")
    frame = pd.read_excel(io.BytesIO(data), engine="openpyxl", dtype=object).infer_objects().convert_dtypes()
    if frame.empty:
        raise InputError(f"{name} has no rows on its first sheet.")
    return frame


def _with_sheet(data: bytes, filled: Mapping[tuple[int, int], Filled]) -> bytes:
    workbook = require("openpyxl", "An Excel file").load_workbook(io.BytesIO(data))
    sheet = workbook.worksheets[0]
    for (row, column), cell in filled.items():
        value = cell.value.to_pydatetime() if isinstance(cell.value, pd.Timestamp) else cell.value
        sheet.cell(sheet.min_row + 1 + row, sheet.min_column + column).value = value
    written = io.BytesIO()
    workbook.save(written)
    return written.getvalue()

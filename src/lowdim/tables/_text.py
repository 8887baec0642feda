"""Text tables in the form in which they arrive, and back in the same form.

What is not said is found: encoding, separator, decimal sign, header. pandas parses; beside that, every cell's place in the text is kept,
so that a filled table is the file's own text with nothing but its holes replaced.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from lowdim._memory import bytes_of_table, require_memory
from lowdim.errors import InputError

SEPARATORS = {"\t": "tab", ";": "semicolon", "|": "bar", ",": "comma", " ": "blanks"}
"""In the order in which they are tried: a comma may stand in numbers, and blanks in text."""
LOOKED_AT = 200
"""Lines from which the separator is told."""
_COMMENT = "#"
_GROUPED = re.compile(r"[+-]?\d{1,3}([,. '\u00a0\u202f])\d{3}(?:\1\d{3})*(?:[.,]\d+)?")
_WITH_COMMA, _WITH_POINT = re.compile(r"[+-]?\d+,\d+"), re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")
_BYTE_ORDER = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


@dataclass(frozen=True)
class Form:
    """How a text table is written.

    Attributes:
        encoding: As Python names it.
        mark: The byte order mark.
        separator: One character; a blank stands for any run of blanks.
        decimal: ``"."`` or ``","``.
        thousands: The sign between groups of three digits, or an empty text.
        header: Whether the first line names the columns.
        comments: Lines left out at the top.
    """

    encoding: str = "utf-8"
    mark: bytes = b""
    separator: str = ","
    decimal: str = "."
    thousands: str = ""
    header: bool = True
    comments: int = 0

    def describe(self) -> str:
        """What is not usual, for one line of output; empty for a plain CSV file."""
        words = (
            [f"separated by {SEPARATORS.get(self.separator, repr(self.separator))}"] if self.separator != "," else []
        )
        words += ["a decimal comma"] if self.decimal == "," else []
        words += [f"{self.thousands!r} between thousands"] if self.thousands else []
        words += [] if self.header else ["no header"]
        words += (
            [f"{self.comments} comment lines"] if self.comments > 1 else ["a comment line"] if self.comments else []
        )
        words += [self.encoding.upper()] if self.encoding != "utf-8" else []
        return ", ".join(words)

    def number(self, cell: str) -> float | None:
        """The number that a cell holds, or None."""
        text = cell.strip()
        if self.thousands and _GROUPED.fullmatch(text):
            text = text.replace(self.thousands, "")
        if self.decimal == ",":
            text = text.replace(",", ".") if "." not in text else ""
        if "_" in text:
            return None
        try:
            return float(text)
        except ValueError:
            return None


@dataclass(frozen=True)
class Cell:
    """Where a cell stands in the text (quotes included), and on which line."""

    start: int
    end: int
    line: int


@dataclass(frozen=True)
class TextTable:
    """A text table with the place of every cell.

    Attributes:
        text: All of it.
        form: How it is written.
        names: Of the columns.
        cells: ``rows x columns`` of text.
        places: The same of their places.
    """

    text: str
    form: Form
    names: tuple[str, ...]
    cells: pd.DataFrame
    places: Sequence[Sequence[Cell]]

    def with_cells(self, new: Mapping[tuple[int, int], str]) -> bytes:
        """The file with some cells replaced, by (row, column); everything else keeps its bytes."""
        pieces: list[str] = []
        at = 0
        for (row, column), value in sorted(new.items()):
            place = self.places[row][column]
            quoted = self.text[place.start : place.end].startswith('"') or self.form.separator in value
            pieces += [self.text[at : place.start], f'"{value}"' if quoted else value]
            at = place.end
        return self.form.mark + "".join([*pieces, self.text[at:]]).encode(self.form.encoding)


def read_text(
    data: bytes,
    name: str,
    *,
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    labels: bool = False,
) -> TextTable:
    """Read a text table.

    With `labels` the table holds texts with labels: then blanks separate nothing, no line is a comment, and where quotation marks
    are not closed, as in some files separated by tabs, they are text.

    Raises:
        InputError: If it is no table, with the line.
    """
    form, text = _decoded(data, name, encoding)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{name} is empty.")
    separator = separator or _separator(lines[:LOOKED_AT], labels=labels)
    cells = len(lines) * (1 + max(line.count(separator) for line in lines[:LOOKED_AT]))
    advice = "Use a part of it, or give arrays in Python."
    require_memory(bytes_of_table(cells, len(text)), f"Reading {name}, {len(lines):,} lines,", advice)
    quoted = not (labels and separator == "\t" and _is_literal(text))
    records = _records(text, separator, name, quoted=quoted)
    comments = 0
    while not labels and len(records) > comments + 1 and _is_comment(text, records[comments], records[comments + 1]):
        comments += 1
    records = records[comments:]
    width = len(records[0])
    for record in records:
        if len(record) != width:
            raise InputError(
                f"{name}, line {record[0].line}: {len(record)} fields, but line {records[0][0].line} has {width}. "
                f"Columns are taken to be separated by {SEPARATORS.get(separator, repr(separator))}; `delimiter` says otherwise."
            )
    form = replace(form, separator=separator, comments=comments)
    frame = _parsed(text[records[0][0].start :], separator, name, quoted=quoted)
    if frame.shape != (len(records), width):
        raise InputError(f"{name} can be read in two ways. Say how its columns are separated with `delimiter`.")
    texts: list[list[str]] = frame.to_numpy().tolist()
    form = replace(form, **_number_signs(texts[:LOOKED_AT], separator, decimal))
    named = _has_header(texts, form) if header is None else header
    form = replace(form, header=named)
    names = [cell.strip() for cell in texts[0]] if named else [f"column {place + 1}" for place in range(width)]
    if len(texts) == int(named):
        raise InputError(f"{name} has a header but no rows.")
    _check_names(names, name, records[0][0].line)
    first = int(named)
    return TextTable(text, form, tuple(names), frame.iloc[first:].reset_index(drop=True), records[first:])


def _decoded(data: bytes, name: str, encoding: str | None) -> tuple[Form, str]:
    for mark, found in _BYTE_ORDER:
        if data.startswith(mark) and encoding is None:
            try:
                return Form(found, mark), data.removeprefix(mark).decode(found)
            except UnicodeDecodeError as error:
                raise InputError(f"{name} begins like {found} but is not: {error}.") from error
    # bytes 80 to 9f are letters and signs in Windows' encoding, and nothing in Latin-1
    for tried in [encoding] if encoding else ["utf-8", "cp1252", "latin-1"]:
        try:
            text = data.decode(tried)
        except LookupError as error:
            raise InputError(f"There is no encoding {tried!r}.") from error
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            raise InputError(
                f"{name} holds zero bytes: it is not a text table, or its encoding must be said with `encoding`."
            )
        return Form(tried), text
    raise InputError(f"{name} is not text in {encoding}.")


def _is_literal(text: str) -> bool:
    """Whether quotation marks are a part of the texts of a table separated by tabs: where taking them as quotes makes no table."""
    try:
        return len({len(record) for record in _records(text, "\t", "")}) > 1
    except InputError:
        return True


def _separator(lines: Sequence[str], *, labels: bool) -> str:
    """The separator that gives every line the same number of fields, more than one."""
    best, most = ",", 0.0
    sample = "\n".join(lines)
    for separator in SEPARATORS:
        if labels and separator == " ":
            continue
        try:
            records = _records(sample, separator, "", quoted=not (labels and separator == "\t" and _is_literal(sample)))
        except InputError:
            continue
        sizes = Counter(len(record) for record in records if not _text(sample, record).lstrip().startswith(_COMMENT))
        if not sizes:
            continue
        size, count = sizes.most_common(1)[0]
        share = count / sum(sizes.values())
        if size > 1 and share > most:
            best, most = separator, share
    return best


def _records(text: str, separator: str, name: str, *, quoted: bool = True) -> list[list[Cell]]:
    """The places of all cells, line by line; blank lines are left out."""
    blanks = separator == " "
    sign = "[ \t]+" if blanks else re.escape(separator)
    inner = " \t" if blanks else re.escape(separator)
    cells = rf'"(?:[^"]|"")*"|[^"{inner}\r\n][^{inner}\r\n]*|' if quoted else rf"[^{inner}\r\n]*"
    pattern = re.compile(rf"({cells})({sign}(?=[^\r\n])|{sign}|\r\n|\n|\r|\Z)")
    records: list[list[Cell]] = []
    record: list[Cell] = []
    position, line = 0, 1
    while position < len(text):
        if blanks and not record:
            while position < len(text) and text[position] in " \t":
                position += 1
        match = pattern.match(text, position)
        if match is None:
            raise InputError(
                f"{name}, line {line}: text follows a closing quotation mark, or a quotation mark is never closed."
            )
        cell, end = match.span(1), match.group(2)
        trailing = blanks and end[:1] in (" ", "\t") and (match.end() == len(text) or text[match.end()] in "\r\n")
        record.append(Cell(cell[0], cell[1], line))
        line += text.count("\n", *cell)
        position = match.end()
        if trailing:
            position += len(re.compile(r"\r\n|\n|\r|").match(text, position).group())  # pyright: ignore[reportOptionalMemberAccess]
        if trailing or end in ("\r\n", "\n", "\r", ""):
            if len(record) > 1 or record[0].start < record[0].end:
                records.append(record)
            record = []
            line += 1
        elif position == len(text):  # the last line ends with a separator
            record.append(Cell(position, position, line))
    if record:
        records.append(record)
    return records


def _text(text: str, record: Sequence[Cell]) -> str:
    return text[record[0].start : record[-1].end]


def _is_comment(text: str, record: Sequence[Cell], following: Sequence[Cell]) -> bool:
    """A line of ``#`` with another number of fields than the next; otherwise it is a header."""
    return _text(text, record).startswith(_COMMENT) and len(record) != len(following)


def _number_signs(texts: Sequence[Sequence[str]], separator: str, decimal: str | None) -> dict[str, str]:
    cells = [cell.strip() for row in texts for cell in row]
    grouped = [match.group(1) for cell in cells if (match := _GROUPED.fullmatch(cell))]
    commas = [cell for cell in cells if _WITH_COMMA.fullmatch(cell)]
    points = any(_WITH_POINT.fullmatch(cell) for cell in cells)
    both = [cell for cell in cells if re.fullmatch(r"[+-]?[\d.,]+", cell) and "," in cell and "." in cell]
    if decimal is None:
        in_both = {"," if cell.rfind(",") > cell.rfind(".") else "." for cell in both}
        # "1,200" in a file separated by commas is grouped; separated by something else, the comma is a decimal one
        only_grouped = separator == "," and all(_GROUPED.fullmatch(cell) for cell in commas)
        decimal = "," if in_both == {","} or (commas and not points and not both and not only_grouped) else "."
    signs = {sign for sign in grouped if sign != decimal and sign != separator.strip(",")}
    signs = {sign for sign in signs if sign != "." or any(sign in cell for cell in both)}
    return {"decimal": decimal, "thousands": next(iter(signs)) if len(signs) == 1 else ""}


def _has_header(texts: Sequence[Sequence[str]], form: Form) -> bool:
    """No header where the first line holds numbers and nothing that is neither a number nor empty."""
    first = [cell for cell in texts[0] if cell.strip()]
    return not first or any(form.number(cell) is None for cell in first)


def _check_names(names: Sequence[str], name: str, line: int) -> None:
    repeated = [column for column, count in Counter(names).items() if count > 1 and column]
    if repeated:
        raise InputError(
            f"{name}, line {line}: the column {repeated[0]!r} comes twice. Give each a name of its own, "
            "or say `header=False` if that line holds values."
        )


def _parsed(text: str, separator: str, name: str, *, quoted: bool = True) -> pd.DataFrame:
    """The cells as text, empty ones too."""
    sign = r"\s+" if separator == " " else separator
    try:
        quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        return pd.read_csv(
            io.StringIO(text, newline=""), sep=sign, header=None, dtype=str, na_filter=False, quoting=quoting
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{name} cannot be read as a table: {error}") from error

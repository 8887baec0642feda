"""Text tables in the form in which they arrive, and back in the same form.

What is not said is found: encoding, separator, decimal sign, header, lines that are no rows. Every cell's place in the text is kept, so
that a filled table is the file's own text with nothing but its holes replaced.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pandas as pd

from lowdim._memory import bytes_of_table, require_memory
from lowdim.errors import InputError
from lowdim.tables._below import FEW, are_figures, other_table
from lowdim.tables._json import looks_like_json, read_records, written
from lowdim.tables._places import Cell

SEPARATORS = {"\t": "tab", ";": "semicolon", "|": "bar", ",": "comma", " ": "blanks"}
"""In the order in which they are tried: a comma may stand in numbers, and blanks in text."""
RARE_SEPARATORS = ("::", "^", "~")
"""Tried where none of the others makes a table, if they give every line the same number of fields."""
LOOKED_AT = 200
"""Lines from which the separator is told."""
_COMMENT = "#"
_REMARK = re.compile(r"##|#\s")
"""How a comment begins among the rows, where a cell may be #N/A or #1."""
_GROUPED = re.compile(
    r"[+-]?\d{1,3}([,. '\u2019\u00a0\u2009\u202f])(?:\d{3}(?:\1\d{3})*|(?:\d{2}\1)+\d{3})(?:[.,]\d+)?"
)
GROUP_SIGNS = " '\u2019\u00a0\u2009\u202f"
"""Between thousands; nothing else in a number."""
_GROUP_SIGN = re.compile(rf"(?<=\d)[{GROUP_SIGNS}](?=\d{{3}}(?!\d))")
_WITH_COMMA, _WITH_POINT = re.compile(r"[+-]?\d+,\d+"), re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")
_AROUND = re.compile(
    r"^\s*[^\d\s+\-.,]{0,5}\s*(?=[+\-.,]?\d)|(?<=\d)\s*(/|[a-z ]{2,8})\s*\d{1,3}\D*$|(?<=\d)\s*[^\W\d_]+\.\s*[^\d.,]{0,4}$|[^\d.,]{0,16}$"
)  # a currency; out of 5, a unit
_BYTE_ORDER = (
    (b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe\x00\x00", "utf-32-le"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"),
)  # fmt: skip
_NOTE = re.compile(r"\"?[^\W\d_][^\W_]*: ")
"""How a note behind the rows begins: a word and a colon."""
_YEAR = re.compile(r"(19|20)\d\d")
_NAMED_SEPARATOR = re.compile(r"sep=(.)(\r\n|\n|\r)")  # the first line, for Excel
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Form:
    """How a text table is written.

    Attributes:
        encoding: As Python names it.
        mark: The byte order mark.
        separator: One or two characters; a blank stands for any run of blanks.
        decimal: ``"."`` or ``","``.
        thousands: The usual sign between groups of three digits (in India, of two before the last three), or an empty text; `GROUP_SIGNS` are read, too.
        header: Whether the first line names the columns.
        left_out: Numbers of the lines that are no rows: comments, titles, notes.
        below: Number of the line with the names of another table, which stays as it is; 0 where there is none.
        short: Number of lines that end before the last column; what they lack is empty.
        json: Whether these are records in JSON.
        day_first: Whether 1/2/2023 is in February: where another column says so, or decimals have a comma.
    """

    encoding: str = "utf-8"
    mark: bytes = b""
    separator: str = ","
    decimal: str = "."
    thousands: str = ""
    header: bool = True
    left_out: tuple[int, ...] = ()
    below: int = 0
    short: int = 0
    json: bool = False
    day_first: bool = False

    def describe(self) -> str:
        """What is not usual, for one line of output; empty for a plain CSV file."""
        words = (
            [f"separated by {SEPARATORS.get(self.separator, repr(self.separator))}"] if self.separator != "," else []
        )
        words += ["a decimal comma"] if self.decimal == "," else []
        words += [f"{self.thousands!r} between thousands"] if self.thousands else []
        words += [] if self.header else ["no header"]
        lines = ", ".join(map(str, self.left_out[:5])) + (", \u2026" if len(self.left_out) > 5 else "")
        words += [f"line{'s' * (len(self.left_out) > 1)} {lines} left out"] if self.left_out else []
        words += [f"another table from line {self.below} on, left as it is"] if self.below else []
        words += [f"{self.short} lines that end early"] if self.short else []
        words += ["JSON"] if self.json else []
        words += [self.encoding.upper()] if self.encoding != "utf-8" else []
        return ", ".join(words)

    def number(self, cell: str) -> float | None:
        """The number that a cell holds, or None."""
        text = cell.strip().replace(MINUS, "-")
        grouped = _GROUPED.fullmatch(text)
        if grouped and grouped[1] in self.thousands + GROUP_SIGNS:
            text = text.replace(grouped[1], "")
        if self.decimal == ",":
            text = text.replace(",", ".") if "." not in text else ""
        if "_" in text:
            return None
        try:
            return float(text)
        except ValueError:
            return None


@dataclass(frozen=True)
class TextTable:
    """A text table with the place of every cell.

    Attributes:
        text: All of it.
        form: How it is written.
        names: Of the columns.
        cells: ``rows x columns`` of text.
        places: The same of their places.
        strings: Columns whose cells are strings of JSON.
    """

    text: str
    form: Form
    names: tuple[str, ...]
    cells: pd.DataFrame
    places: Sequence[Sequence[Cell]]
    strings: frozenset[int] = frozenset()

    def with_cells(self, new: Mapping[tuple[int, int], str]) -> bytes:
        """The file with some cells replaced, by (row, column); everything else keeps its bytes."""
        pieces: list[str] = []
        at, line, before = 0, 0, 0
        for (row, column), value in sorted(
            new.items(), key=lambda item: (*self.places[item[0][0]][item[0][1]], item[0][1])
        ):
            place = self.places[row][column]
            before = before if place.line == line else 0
            pieces += [self.text[at : place.start], self._written(row, column, value, before)]
            at, line, before = place.end, place.line, place.lacking
        return self.form.mark + "".join([*pieces, self.text[at:]]).encode(self.form.encoding)

    def _written(self, row: int, column: int, value: str, before: int) -> str:
        """A new cell as it stands in the text, behind so many of the separators that its line lacks."""
        place = self.places[row][column]
        if self.form.json:
            empty = self.text[: place.start].rstrip().endswith("{") and not before
            return written(value, self.names[column], place, string=column in self.strings, first=empty)
        hole = self.text[place.start : place.end]
        quoted = hole.startswith('"') or self.form.separator in value or ('"' in value and self._quotes(column))
        value = value.replace('"', '""') if quoted else value
        blank = (
            " " if hole.startswith(" ") and self.form.separator != " " else ""
        )  # as behind the separator of known cells
        after = " " if hole.startswith("  ") or (hole.strip() and hole.endswith(" ")) else ""
        shown = blank + (f'"{value}"' if quoted else value) + (after if blank else "")
        return self.form.separator * max(place.lacking - before, 0) + shown

    def _quotes(self, column: int) -> bool:
        """Whether cells of a column have quotation marks around them."""
        return any(self.text.startswith('"', row[column].start) for row in self.places)


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
    if not labels and looks_like_json(text):
        names, texts, places, strings = read_records(text, name)
        form = replace(form, json=True, separator=",")
        return TextTable(text, form, tuple(names), pd.DataFrame(texts, dtype=str), places, strings)
    named = None if labels else _NAMED_SEPARATOR.match(text)
    begin = named.end() if named else 0
    lines = [line for line in text[begin:].splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{name} is empty.")
    if separator is None:
        separator = str(named.group(1)) if named else _separator(lines[:LOOKED_AT], labels=labels)
    cells = len(lines) * (1 + max(line.count(separator) for line in lines[:LOOKED_AT]))
    advice = "Use a part of it, or give arrays in Python."
    require_memory(bytes_of_table(cells, len(text)), f"Reading {name}, {len(lines):,} lines,", advice)
    quoted = not (labels and separator == "\t" and _is_literal(text))
    records = _records(text, separator, name, quoted=quoted, begin=begin)
    form = replace(form, separator=separator)
    groups: list[str] = []
    if not labels:
        records, left_out, groups, below = _rows(text, _with_row_names(text, records))
        records, short = _of_one_width(text, records, separator)
        form = replace(form, left_out=(*range(1, 1 + bool(named)), *left_out), short=short, below=below)
    width = len(records[0])
    for record in records:
        if len(record) != width:
            raise InputError(
                f"{name}, line {record[0].line}: {len(record)} fields, but line {records[0][0].line} has {width}. "
                f"Columns are taken to be separated by {SEPARATORS.get(separator, repr(separator))}; `delimiter` says otherwise."
            )
    texts = [[_unquoted(text[cell.start : cell.end], quoted=quoted) for cell in record] for record in records]
    form = replace(form, **_number_signs(texts[:LOOKED_AT], separator, decimal))
    remedy = ", or say `header=False` if that line holds values" if header is None else ""
    header = _has_header(texts, form) if header is None else header
    form = replace(form, header=header)
    named = texts[0] if header else [""] * width
    if any(count > 1 for cell, count in Counter(named).items() if cell):
        named = [f"{group} {cell}".strip() for group, cell in zip(groups or [""] * width, named, strict=True)]
    names = [cell.strip() or f"column {place + 1}" * (place > 0 or not header) for place, cell in enumerate(named)]
    first = int(header)
    if header and not labels and _names_units(texts, form):
        first, form = 2, replace(form, left_out=(*form.left_out, records[1][0].line))
    if header and not labels and width > 1 and any(map(_is_word, texts[0])):
        again = [place for place, cells in enumerate(texts) if place >= first and cells in texts[:first]]
        form = replace(form, left_out=(*form.left_out, *(records[place][0].line for place in again)))
        kept = [place for place in range(len(texts)) if place not in again] if again else range(len(texts))
        texts, records = [texts[place] for place in kept], [records[place] for place in kept]
    if len(texts) == first:
        raise InputError(f"{name} has a header but no rows.")
    _check_names(names, name, records[0][0].line, remedy)
    return TextTable(text, form, tuple(names), pd.DataFrame(texts[first:], dtype=str), records[first:])


def _unquoted(cell: str, *, quoted: bool) -> str:
    return cell[1:-1].replace('""', '"') if quoted and cell.startswith('"') else cell


def _with_row_names(text: str, records: list[list[Cell]]) -> list[list[Cell]]:
    """The records; where the header, as R writes it, lacks a name for the first column, with an empty one there."""
    header, *rows = records
    if not rows or any(len(record) != len(header) + 1 for record in rows):
        return records
    if not all(map(_is_word, _texts(text, header))) or not any(_texts(text, record)[-1] for record in rows):
        return records
    start, line = header[0].start, header[0].line
    return [[Cell(start, start, line), *header], *rows]


def _rows(text: str, records: list[list[Cell]]) -> tuple[list[list[Cell]], list[int], list[str], int]:
    """The header and the rows; the lines of what else there is: titles above them, comments, notes; the groups of columns; and the line from
    which another table follows, or 0."""
    width = Counter(map(len, records)).most_common(1)[0][0]
    marked = 0
    while marked < len(records) - 1 and _text(text, records[marked]).startswith(_COMMENT):
        marked += 1
    # one line of # with as many fields as the next is a header; so is the last of several if it stands above numbers
    if marked and len(records[marked - 1]) == len(records[marked]):
        numbers = any(_WITH_POINT.fullmatch(cell) or cell.isdigit() for cell in _texts(text, records[marked]))
        marked -= marked == 1 or numbers
    others = records[marked:]
    while len(others) > 1 and width > 1 and len(others[0]) == 1:
        others = others[1:]
    groups: list[str] = []
    if width > 2 and len(others) > 2:
        others = others[_titles(text, others, width) :]
        if len(others) > 2 and _is_line_of_groups(text, others):
            for name in _texts(text, others[0]):
                groups.append(name or (groups[-1] if groups else ""))
            others = others[1:]
    top = len(records) - len(others)
    last = len(others)
    while last > 2 and len(others[last - 1]) < width and _NOTE.match(_text(text, others[last - 1])):
        last -= 1
    gaps = [place for place, pair in enumerate(pairwise(others), 1) if place > 1 and _are_apart(text, *pair)]
    figures = are_figures([_texts(text, record) for record in others[:LOOKED_AT]])
    asked = gaps or (figures and any(text[record[0].start : record[0].end][:1].isalpha() for record in others[2:]))
    other = other_table([_texts(text, record) for record in others], gaps) if asked else None
    if other is not None and other <= FEW < len(others) - other:  # what stands above is no table
        kept, left, groups, below = _rows(text, others[other:])
        return (
            kept,
            [record[0].line for record in records if record[0].line < others[other][0].line] + left,
            groups,
            below,
        )
    below = 0 if other is None else others[other][0].line
    last = last if other is None else min(last, other)
    kept = [
        others[0],
        *(record for record in others[1:last] if not _is_remark(_text(text, record), len(record), width)),
    ]
    lines = {record[0].line for record in kept}
    left = [record[0].line for place, record in enumerate(records) if place < top or record[0].line not in lines]
    return kept, [line for line in left if line < below or not below], groups, below


def _are_apart(text: str, before: Sequence[Cell], record: Sequence[Cell]) -> bool:
    """Whether empty lines stand between two records, or the first is one itself."""
    step = record[0].line - before[-1].line
    if step > 1 and step > 1 + text.count("\n", before[-1].start, before[-1].end):
        return True
    return before[0].start == before[0].end and all(cell.start == cell.end for cell in before)


def _is_remark(line: str, fields: int, width: int) -> bool:
    """Whether a line among rows of this width is a comment or a note."""
    if line.startswith(_COMMENT) and (fields != width or _REMARK.match(line)):
        return True
    return fields == 1 and width > 2 and (_is_word(line) or not any(sign.isalnum() for sign in line))


def _titles(text: str, records: Sequence[Sequence[Cell]], width: int) -> int:
    """How many lines stand above the names: each is shorter than the rows or has nothing but a text in its first cell, and the names stand
    above numbers."""
    for place, record in enumerate(records[:LOOKED_AT]):
        cells = _texts(text, record)
        if len(cells) == width and any(cells[1:]):
            named = _are_names(cells, [_texts(text, row) for row in records[place + 1 : place + LOOKED_AT]])
            return place if named or (place == 1 and all(map(_is_word, cells))) else 0
        if not cells[0]:
            return 0
    return 0


def _are_names(cells: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether these name columns: different words, or years, of which at most one is missing, and words above numbers."""
    names = [cell for cell in cells if cell]
    if len(names) < len(cells) - 1 or len(set(names)) < len(names):
        return False
    if not all(_is_word(name) or _YEAR.fullmatch(name) for name in names):
        return False
    return _stand_above_numbers(cells, below)


def _stand_above_numbers(cells: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether a cell stands above numbers alone, or mostly."""
    columns = [[row[place] for row in below if len(row) > place and row[place]] for place in range(len(cells))]
    return any(
        cell and column and sum(not _is_word(one) for one in column) > len(column) / 2
        for cell, column in zip(cells, columns, strict=True)
    )


def _is_line_of_groups(text: str, records: Sequence[Sequence[Cell]]) -> bool:
    """Whether the first line groups the columns, as cells that were joined leave it: it lacks names that the next has, or tells apart those
    that the next has several times; and these stand above numbers."""
    first, second, third = (_texts(text, record) for record in records[:3])
    if not (len(first) == len(second) == len(third)) or not all(map(_is_word, second[1:])) or not any(first):
        return False
    if not _stand_above_numbers(second, [_texts(text, record) for record in records[2:LOOKED_AT]]):
        return False
    if len(set(second)) < len(second):
        return all(_is_word(name) or _YEAR.fullmatch(name) for name in first if name) and first[1:] != second[1:]
    return _is_word(second[0]) and not all(first[1:]) and all(map(_is_word, filter(None, first)))


def _is_word(cell: str) -> bool:
    return any(sign.isalpha() for sign in cell)


def _of_one_width(text: str, records: list[list[Cell]], separator: str) -> tuple[list[list[Cell]], int]:
    """The records as wide as the first: without empty cells behind it, and with empty ones where a line ends early; how many did."""
    width, short = len(records[0]), 0
    sizes = Counter(map(len, records))
    if len(sizes) == 1 or separator == " ":
        return records, 0
    usual, _ = sizes.most_common(1)[0]
    for place, record in enumerate(records):
        if len(record) > width and not any(_texts(text, record)[width:]):
            records[place] = record[:width]
        elif 1 < len(record) < width or (len(record) == 1 < width and usual in (1, width)):
            end, line = record[-1].end, record[-1].line
            lacking = (Cell(end, end, line, count) for count in range(1, width - len(record) + 1))
            records[place] = [*record, *lacking]
            short += 1
    return records, short


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
    if most == 0 and not labels and len(lines) > 2:
        return next(
            (
                rare
                for rare in RARE_SEPARATORS
                if len({line.count(rare) for line in lines} - {0}) == 1 and rare in lines[0]
            ),
            best,
        )
    return best


def _records(text: str, separator: str, name: str, *, quoted: bool = True, begin: int = 0) -> list[list[Cell]]:
    """The places of all cells, line by line; blank lines are left out."""
    blanks = separator == " "
    sign = "[ \t]+" if blanks else re.escape(separator)
    inner = " \t" if blanks else re.escape(separator)
    plain = rf"[^{inner}\r\n]" if len(separator) == 1 else rf"(?:(?!{sign})[^\r\n])"
    cells = rf'"(?:[^"]|"")*"|(?!"){plain}+|' if quoted else rf"{plain}*"
    pattern = re.compile(rf"({cells})({sign}(?=[^\r\n])|{sign}|\r\n|\n|\r|\Z)")
    records: list[list[Cell]] = []
    record: list[Cell] = []
    position, line = begin, 1 + bool(begin)
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


def _texts(text: str, record: Sequence[Cell]) -> list[str]:
    """The cells of a line, without quotation marks and blanks around them."""
    return [text[cell.start : cell.end].strip().strip('"').strip() for cell in record]


def form_of_cells(columns: Sequence[Sequence[str]]) -> Form:
    """How numbers are written in columns that come from no file."""
    return replace(Form(), **_number_signs([column[:LOOKED_AT] for column in columns], ",", None))


def _number_signs(texts: Sequence[Sequence[str]], separator: str, decimal: str | None) -> dict[str, str]:
    cells = [_AROUND.sub("", cell) for row in texts for cell in row]
    grouped = [match.group(1) for cell in cells if (match := _GROUPED.fullmatch(cell))]
    cells = [_GROUP_SIGN.sub("", cell) for cell in cells]
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
    return {"decimal": decimal, "thousands": min(signs, key=lambda sign: (sign in GROUP_SIGNS, sign), default="")}


def _has_header(texts: Sequence[Sequence[str]], form: Form) -> bool:
    """No header where the first line holds numbers and nothing that is neither a number nor empty; but years that no other line holds.

    Nor where a word of it comes again below it, and a number stands above numbers.
    """
    first = [cell for cell in texts[0] if cell.strip()]
    years = all(_YEAR.fullmatch(cell) for cell in first) and len(set(first)) == len(first) > 1
    if years and not any(_YEAR.fullmatch(cell) for row in texts[1:LOOKED_AT] for cell in row):
        return True
    columns = list(zip(*texts[:LOOKED_AT], strict=True))
    numbers = [column for column in columns if form.number(column[0]) is not None]
    if numbers and any(column[0] in column[1:] for column in columns if _is_word(column[0])):
        return any(form.number(cell) is None for column in numbers for cell in column[1:] if cell.strip())
    return not first or any(form.number(cell) is None for cell in first)


def _names_units(texts: Sequence[Sequence[str]], form: Form) -> bool:
    """Whether the line below the header holds words above numbers alone, at least two where other columns hold texts."""
    if len(texts) < 4:
        return False
    columns = [[cell for row in texts[2:LOOKED_AT] if (cell := row[place].strip())] for place in range(len(texts[1]))]
    above = [
        cell.strip()
        for cell, column in zip(texts[1], columns, strict=True)
        if column and sum(form.number(cell) is not None for cell in column) > len(column) / 2
    ]
    words = all(_is_word(cell) and form.number(cell) is None for cell in above)
    again = any(cell.strip() in column for cell, column in zip(texts[1], columns, strict=True) if cell.strip())
    return words and not again and len(above) >= min(2, len(columns))


def _check_names(names: Sequence[str], name: str, line: int, remedy: str) -> None:
    repeated = [column for column, count in Counter(names).items() if count > 1 and column]
    if repeated:
        raise InputError(
            f"{name}, line {line}: the column {repeated[0]!r} comes twice. Give each a name of its own{remedy}."
        )

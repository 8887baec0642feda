"""Tables in JSON: a list of records, or one record on each line, with the place of every value."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from lowdim.errors import InputError
from lowdim.tables._places import Cell

_DECODER = json.JSONDecoder()


class Records(NamedTuple):
    """Names of all columns, and of each record the texts and places of its values; which columns hold JSON's own strings."""

    names: list[str]
    texts: list[list[str]]
    places: list[list[Cell]]
    strings: frozenset[int]


def looks_like_json(text: str) -> bool:
    """Whether a text begins as a record, or as a list of them."""
    start = text.lstrip()[:200]
    return start.startswith("{") or (start.startswith("[") and start[1:].lstrip().startswith("{"))


def read_records(text: str, name: str) -> Records:
    """Read records of the same or of different keys; what a record lacks is missing.

    Raises:
        InputError: If the text is no list of records, with the line.
    """
    try:
        records = list(_objects(text))
    except (ValueError, IndexError) as error:
        at = getattr(error, "pos", len(text))
        raise InputError(
            f"{name}, line {text.count(chr(10), 0, at) + 1}: not a list of JSON records, nor one record on each line. "
            "Write it in one of these forms, or as CSV."
        ) from error
    if len(records) == 1 and all(isinstance(value, list | dict) for value, _, _ in records[0][0].values()):
        raise InputError(
            f"{name} has one record that holds whole columns. A record for each row is read: in pandas, "
            "frame.to_json('table.json', orient='records') writes them."
        )
    names = list(dict.fromkeys(key for members, _ in records for key in members))
    texts: list[list[str]] = []
    places: list[list[Cell]] = []
    strings: set[int] = set()
    for members, end in records:
        line = text.count("\n", 0, end) + 1
        row: list[str] = []
        where: list[Cell] = []
        for column, key in enumerate(names):
            value, start, stop = members.get(key, (None, end, end))
            strings |= {column} if isinstance(value, str) and value else set()
            row.append("" if value is None else value if isinstance(value, str) else text[start:stop])
            where.append(Cell(start, stop, line, int(key not in members)))
        texts.append(row)
        places.append(where)
    return Records(names, texts, places, frozenset(strings))


def written(value: str, name: str, cell: Cell, *, string: bool, first: bool) -> str:
    """A value as it stands in its record; where the record lacks the key, with it."""
    value = json.dumps(value, ensure_ascii=False) if string else value
    return f"{'' if first else ', '}{json.dumps(name, ensure_ascii=False)}: {value}" if cell.lacking else value


def _objects(text: str) -> Iterator[tuple[dict[str, tuple[Any, int, int]], int]]:
    """Of each record its values with their places, and the place behind the last."""
    at = _next(text, 0)
    listed = text[at : at + 1] == "["
    at = _next(text, at + listed)
    while at < len(text) and text[at] != "]":
        members: dict[str, tuple[Any, int, int]] = {}
        if text[at] != "{":
            raise json.JSONDecodeError("no record", text, at)
        at = end = _next(text, at + 1)
        while text[at] != "}":
            key, at = _DECODER.raw_decode(text, at)
            at = _next(text, at)
            if not isinstance(key, str) or text[at] != ":":
                raise json.JSONDecodeError("no key", text, at)
            start = _next(text, at + 1)
            value, end = _DECODER.raw_decode(text, start)
            members[key] = value, start, end
            at = _next(text, end)
            at = _next(text, at + 1) if text[at] == "," else at
        yield members, end
        at = _next(text, at + 1)
        at = _next(text, at + 1) if text[at : at + 1] == "," else at


def _next(text: str, at: int) -> int:
    """The place of the next sign that is no blank."""
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at

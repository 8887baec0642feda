"""Another table below the first, in one file or sheet."""

import re
from collections.abc import Sequence

from lowdim.tables._marks import MISSING

_FIGURE = re.compile(r"\W*\d")
_TITLES = 2  # lines between a gap and the names of the other table
_LOOKED_AT = 50
FEW = 4  # lines, names among them, up to which those above a larger table are none


def other_table(rows: Sequence[Sequence[str]], gaps: Sequence[int]) -> int | None:
    """The place of the first row that belongs to another table, or None.

    Args:
        rows: Cells of all rows; the first holds the names of the table.
        gaps: Places of the rows behind a gap, in order.

    Example:
        >>> other_table([["x", "y"], ["1", "2"], ["", ""], ["Prices", ""], ["item", "price"], ["a", "3"]], [3])
        3
        >>> other_table([["x", "y"], ["1", "a"], ["", ""], ["", "b"], ["4", "a"]], [3]) is None
        True
    """
    words = [place for place, row in enumerate(rows) if place > 1 and row[0][:1].isalpha()] if are_figures(rows) else []
    for first in sorted({*gaps, *words}):
        end = next((gap for gap in gaps if gap > first), len(rows))
        for place in range(first, min(first + _TITLES + 1, end - 1)):
            if rows[place] != rows[0] and _is_header(
                rows[place], rows[1:first][-_LOOKED_AT:], rows[place + 1 : end][:_LOOKED_AT]
            ):
                return first
            if sum(map(bool, rows[place])) > 1:
                break
    return None


def are_figures(rows: Sequence[Sequence[str]]) -> bool:
    """Whether most cells of every column below the names begin with a digit, so that a row of words is none of theirs."""
    rows = rows[1:_LOOKED_AT]
    return all(_figures(rows, place) for place in range(max(map(len, rows), default=0)))


def _is_header(cells: Sequence[str], above: Sequence[Sequence[str]], below: Sequence[Sequence[str]]) -> bool:
    """Whether words that stand nowhere else stand above figures and all else below, and in a row unlike those above."""
    named = [place for place, cell in enumerate(cells) if cell]
    words = {cells[place] for place in named}
    if len(words) < len(named) or any(word.lower() in MISSING or _FIGURE.match(word) for word in words):
        return False
    if any(words.intersection(row) for row in (*above, *below)):
        return False
    if any(cell and place not in named for row in below for place, cell in enumerate(row)):
        return False
    figures = [place for place in named if _figures(below, place)]
    unlike = any(_figures(above, place) for place in range(max(map(len, above), default=0)))
    return bool(figures) and (unlike or any(len(row) > place and row[place] for row in above for place in figures))


def _figures(rows: Sequence[Sequence[str]], place: int) -> bool:
    """Whether most cells of a column begin with a digit."""
    column = [row[place] for row in rows if len(row) > place and row[place]]
    return 2 * sum(_FIGURE.match(cell) is not None for cell in column) > len(column)

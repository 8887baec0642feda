"""Where a cell stands in a text."""

from typing import NamedTuple


class Cell(NamedTuple):
    """Where a cell stands in the text (quotes included), and on which line.

    Of a cell that is not there because its line ends early, `lacking` separators come before it.
    """

    start: int
    end: int
    line: int
    lacking: int = 0

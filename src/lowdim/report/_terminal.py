"""A table in the terminal: names are never broken, and what does not fit is left out and named."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from textwrap import wrap

from lowdim._names import short_names
from lowdim._numbers import number
from lowdim.figures import Table

_GAP = 2


def to_terminal(table: Table, width: int | None = None) -> str:
    """The table as lines of text.

    Names in the first column are cut to their last parts where they are paths; where they would still take more than half of the
    line, they go on in the next one between two words, or, where a word alone is too long, numbers stand for them and a list below
    says which is which. No word is broken anywhere. Columns that do not fit are left
    out, in the order of `Table.drop` and then from the right, and named below. So is the number of rows beyond `Table.most`.
    """
    more = 0 if table.most is None else max(len(table.rows) - table.most, 0)
    if more:
        table = replace(table, rows=table.rows[: table.most])
    width = width or shutil.get_terminal_size((160, 24)).columns
    columns = [str(column) for column in table.columns]
    cells = [[_plain(number(cell)) for cell in row] for row in table.rows]
    names = short_names([row[0] for row in cells])
    key: dict[str, str] = {}
    if max(map(len, names), default=0) > width // 2:
        if max(len(word) for name in names for word in name.split()) <= width // 2:
            names = ["\n".join(wrap(name, width // 2, break_on_hyphens=False)) for name in names]
        else:
            key = {name: f"[{place}]" for place, name in enumerate(dict.fromkeys(names), start=1)}
    cells = [[key.get(name, name), *row[1:]] for name, row in zip(names, cells, strict=True)]
    kept, left_out = _fitting(columns, cells, table.drop, width)
    text = _drawn(table, columns, cells, kept, width)
    text += f"and {more:,} more (in the page)\n" if more else ""
    text += "".join(f"{place} {name}\n" for name, place in key.items())
    if left_out:
        text += f"not shown for want of width: {'; '.join(left_out)}\n"
    return text


def _plain(text: str) -> str:
    """Text without characters that steer a terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _needed(columns: Sequence[str], cells: Sequence[Sequence[str]], index: int) -> int:
    """Characters of the longest word of a column; of the first, of the longest cell."""
    texts = [columns[index], *(row[index] for row in cells)]
    words = (
        [line for text in texts for line in text.split("\n")]
        if index == 0
        else [word for text in texts for word in text.split()]
    )
    return max(map(len, words), default=1)


def _fitting(
    columns: Sequence[str], cells: Sequence[Sequence[str]], drop: Sequence[str], width: int
) -> tuple[list[int], list[str]]:
    """Places of the columns that fit, and names of those that do not."""
    kept = list(range(len(columns)))
    needed = [_needed(columns, cells, index) + _GAP for index in kept]
    order = [columns.index(name) for name in drop if name in columns]
    order += [index for index in reversed(kept) if index not in order]
    left_out: list[int] = []
    for index in order:
        if sum(needed[place] for place in kept) - _GAP <= width or len(kept) <= 2:
            break
        kept.remove(index)
        left_out.append(index)
    return kept, [columns[index] for index in sorted(left_out)]


def _drawn(
    table: Table, columns: Sequence[str], cells: Sequence[Sequence[str]], kept: Sequence[int], width: int
) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text

    numeric = [all(not isinstance(row[index], str) for row in table.rows) for index in range(len(columns))]
    drawn = Drawn(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    needed = {index: _needed(columns, cells, index) for index in kept}
    least = sum(needed.values()) + _GAP * (len(kept) - 1)
    spare = max(width - least, 0)
    for index in kept:
        more = min(
            spare,
            max(len(columns[index]), *(len(line) for row in cells for line in row[index].split("\n")), 0)
            - needed[index],
        )
        spare -= more
        drawn.add_column(
            Text(columns[index]),
            justify="right" if numeric[index] and index else "left",
            width=needed[index] + more,  # Rich would cut a column to widen another
            no_wrap=index == 0,
            overflow="ignore" if index == 0 else "fold",
        )
    for row in cells:
        drawn.add_row(*(Text(row[index]) for index in kept))
    console = Console(width=max(width, least), color_system=None, force_terminal=False)
    with console.capture() as captured:
        if table.title:
            console.print(Text(table.title), soft_wrap=True)
        console.print(drawn)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"

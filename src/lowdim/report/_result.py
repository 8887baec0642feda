"""What a command gives: the answer, the numbers, the figures and the page, in Python as in the terminal."""

import html
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowdim._files import write_atomic
from lowdim._warnings import merged
from lowdim.errors import UsageError
from lowdim.figures import Figure, Table
from lowdim.report._page import Page, to_html
from lowdim.report._svg import to_canvas, to_svg
from lowdim.report._terminal import to_terminal
from lowdim.report.answers import headline

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Canvas


@dataclass(frozen=True, repr=False)
class Result(Mapping[str, Any]):
    """The result of a command. ``result["layers"]`` is what its JSON holds under that name.

    Attributes:
        command: Its name.
        data: Everything that the JSON of the command holds.
        page: What ``report.html`` shows; its first figure is that of `plot`, its first table that of `to_frame`.
        value: The object of the library behind it (a `Profile`, a `Ranking`, a fine-tuned network, …), whose attributes are
            attributes of this result, too; None where a finished run was read from its folder.
        folder: The run folder; None where none was asked for.
        remarks: Sentences below the tables in the terminal.
        tables: What the terminal shows; default the tables of the page's first section.
        exit_code: Of the command: 0, or 4 where a statement does not hold.

    Example:
        >>> from lowdim import measure
        >>> found = measure("digits", "digits", limit=60)
        >>> found["data"][0]["samples"], [layer for layer in found.to_frame()["layer"]][:2]
        (60, ['blocks.0', 'blocks.1'])
    """

    command: str
    data: Mapping[str, Any]
    page: Page
    value: Any = None
    folder: Path | None = None
    remarks: Sequence[str] = ()
    tables: Sequence[Table] | None = None
    exit_code: int = field(default=0)

    @property
    def headline(self) -> str:
        """The answer in one sentence."""
        return headline(self.command, self.data)

    @property
    def figures(self) -> list[Figure]:
        """Descriptions of all figures of the page, in its order."""
        return [figure for section in self.page.sections for figure in section.figures]

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or self.value is None:
            raise AttributeError(f"the result of {self.command} has no attribute {name!r}")
        return getattr(self.value, name)

    def plot(self, name: str | None = None) -> "Canvas":
        """The page's figure, drawn by Matplotlib.

        Args:
            name: Which, see `figures`; default the first.

        Returns:
            A figure that a notebook shows and that `Figure.savefig` writes.

        Raises:
            UsageError: If there is none of that name.
        """
        known = {figure.name: figure for figure in self.figures}
        if not known or (name is not None and name not in known):
            raise UsageError(
                f"There is no figure {name or ''!r}; there are {', '.join(known) or 'none'}.", argument="name"
            )
        return to_canvas(known[name] if name else self.figures[0])

    def to_frame(self) -> "pd.DataFrame":
        """The main table of the page as a pandas frame.

        Raises:
            UsageError: If the page has no table.
        """
        import pandas as pd

        table = next((table for section in self.page.sections for table in section.tables), None)
        if table is None:
            raise UsageError(f"The page of {self.command} has no table; its numbers are in `data`.")
        return pd.DataFrame([list(row) for row in table.rows], columns=pd.Index(list(table.columns)))

    def save_page(self, path: str | Path) -> Path:
        """Writes the page as one HTML file that loads nothing from elsewhere.

        Args:
            path: Of the file; what is there is replaced.

        Returns:
            The path.
        """
        write_atomic(Path(path), to_html(self.page))
        return Path(path)

    def _tables(self) -> Sequence[Table]:
        if self.tables is not None:
            return self.tables
        return [table for section in self.page.sections[:1] for table in section.tables]

    def __str__(self) -> str:
        """What the terminal shows: the answer, the tables, remarks, warnings, what to do next."""
        parts = [_wrapped(self.headline), *(to_terminal(table) for table in self._tables())]
        parts += ["".join(map(_wrapped, self.remarks))] if self.remarks else []
        for card in self.page.cards:
            parts.append(f"{_wrapped(f'{card.title}: {card.number}')}{_wrapped(card.sentence)}    {card.command}\n")
        parts += (
            ["\n".join(f"{text}\n    {line}" for text, line in self.page.next_steps) + "\n"]
            if self.page.next_steps
            else []
        )
        return "\n".join(parts)

    def __repr__(self) -> str:
        """At most ten lines: the answer, the first warnings, where the rest is."""
        warnings = [f"warning: {text}" for text in merged(self.data.get("warnings", []))]
        lines = [self.headline, *warnings[:3], *([f"… {len(warnings) - 3} more warnings"] if len(warnings) > 3 else [])]
        lines += [f"page: {self.folder / 'report.html'}"] if self.folder else []
        return "\n".join([*lines, "(print it for the tables; .plot(), .to_frame(), .save_page(path), .data)"])

    def _repr_html_(self) -> str:
        figure = self.figures[0] if self.figures else None
        drawing = to_svg(figure) if figure is not None else ""
        drawing = drawing[drawing.find("<svg") :].replace("<svg ", '<svg style="max-width: 100%; height: auto" ', 1)
        return (
            '<div style="border-left: 6px solid #0b5394; padding: .4em 1em; font-weight: 600">'
            f"{html.escape(self.headline)}</div>{drawing}"
        )


def _wrapped(sentence: str) -> str:
    """A sentence on lines of the terminal's width, at most 100 characters, broken between words."""
    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    kept = sentence.replace(" % interval", "\N{NO-BREAK SPACE}%\N{NO-BREAK SPACE}interval").replace(
        " %", "\N{NO-BREAK SPACE}%"
    )
    kept = re.sub(r"(?<=\d) - (?=\d)", "\N{NO-BREAK SPACE}-\N{NO-BREAK SPACE}", kept)
    lines = textwrap.fill(kept, width, break_long_words=False, break_on_hyphens=False)
    return lines.replace("\N{NO-BREAK SPACE}", " ") + "\n"

"""One HTML page from sections: offline, for keyboard and screen reader, light and dark, on paper."""

import base64
import functools
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, Template

from lowdim._files import RunFolder, plain
from lowdim._names import short_names
from lowdim._numbers import number
from lowdim._pictures import array_image
from lowdim._verdicts import Verdict
from lowdim._warnings import WORDING, merged
from lowdim.figures import Figure, Images, Lines, Panels, Table
from lowdim.report._interactive import plotly_script, to_plotly
from lowdim.report._svg import ON_DARK, PALETTE, printable, to_svg
from lowdim.report._tables import to_csv
from lowdim.report._terms import Terms


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id: Anchor and prefix of its files; letters, digits and dashes.
        title: Heading.
        why: What is shown and how to read it, one paragraph each.
        figures: Drawn in this order; the first of the first section stands right below the answer.
        tables: Shown after the figures.
        verdicts: Numbers against thresholds.
        settings: What the numbers depend on.
        command: The command that makes this section again.
        source: Where the mathematics comes from.
        notes: Warnings and remarks.
        seconds: How long it took.
        failure: Why there is no result.
        group: Heading above a run of sections.
        terms: What its terms mean, beside those that every page explains.
        folded: Whether all of it is behind its title.
    """

    id: str
    title: str
    why: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    verdicts: Sequence[Verdict] = ()
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    command: str = ""
    source: str = ""
    notes: Sequence[str] = ()
    seconds: float | None = None
    failure: str = ""
    group: str = ""
    terms: Mapping[str, str] = field(default_factory=dict[str, str])
    folded: bool = False


@dataclass(frozen=True)
class Card:
    """One thing at a glance: a sentence, a number, a figure, a command for other data."""

    title: str
    sentence: str
    number: str
    figure: Figure | None
    command: str


@dataclass(frozen=True)
class Page:
    """The answer, then sections.

    Attributes:
        title: What it is about.
        lead: The answer, in a sentence.
        sections: In their order.
        overview: Whether a table of all verdicts follows them.
        next_steps: What to do now: a sentence and a command each.
        cards: Side by side below the answer, instead of the first figure.
        command: The command that made the page; empty where it was made from Python.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    overview: bool = False
    next_steps: Sequence[tuple[str, str]] = ()
    cards: Sequence[Card] = ()
    command: str = ""


@dataclass
class Drawn:
    """What was drawn for a page that grows: given again with the same figures, none is drawn or written once more."""

    figures: dict[int, tuple[Figure, dict[str, Any]]] = field(default_factory=dict[int, tuple[Figure, dict[str, Any]]])
    """By identity, which nothing else can have while the figure is kept beside."""
    written: dict[str, str] = field(default_factory=dict[str, str])

    def draw(self, page: Page) -> None:
        """Draws what the page shows, so that composing it is short."""
        for section in page.sections:
            for figure in section.figures:
                self.figure(figure)

    def figure(self, figure: Figure) -> dict[str, Any]:
        """What the page's template takes."""
        if id(figure) not in self.figures:
            self.figures[id(figure)] = figure, _figure(figure)
        return self.figures[id(figure)][1]


def write_report(folder: RunFolder, page: Page, drawn: Drawn | None = None) -> list[str]:
    """Writes ``report.html``, and each figure as SVG and its numbers as CSV, into the run folder.

    Returns:
        Paths of the figures and tables, relative to the folder.
    """
    paths: list[str] = []
    drawn = drawn or Drawn()

    def keep(path: str, text: str) -> None:
        if drawn.written.get(path) != text:
            folder.write(path, text)
            drawn.written[path] = text
        paths.append(path)

    folder.write("report.html", to_html(page, keep, drawn))
    return paths


def to_html(page: Page, keep: Callable[[str, str], None] = lambda path, text: None, drawn: Drawn | None = None) -> str:
    """The page as one HTML file that loads nothing."""
    terms, parts, told = Terms(), list[dict[str, Any]](), WORDING.get()
    drawn = drawn or Drawn()
    for section in page.sections:
        figures = [_named(section, figure, drawn, keep) for figure in section.figures]
        tables = [_table(section, table, keep) for table in section.tables]
        explained = terms.new(_words(section), section.terms)
        notes, why = [told(note) for note in merged(section.notes)], [told(text) for text in section.why]
        shown = {"figures": figures, "tables": tables, "terms": explained, "notes": notes, "why": why}
        parts.append({"section": section, **shown})
    cards = [(card, {} if card.figure is None else drawn.figure(card.figure)) for card in page.cards]
    interactive = any(figure["plotly"] for part in parts for figure in part["figures"])
    made = _template().render(
        page=page,
        # A percent sign stays with its number.
        lead=told(page.lead).replace(" %", "\N{NO-BREAK SPACE}%").split(". ", 1),
        parts=parts,
        cards=cards,
        plotly=plotly_script() if interactive else "",
        on_dark=json.dumps(dict(zip(PALETTE, ON_DARK, strict=True))),
        version=version("lowdim"),
        day=date.today().isoformat(),
    )
    return printable(made)


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "setting": _setting, "bound": "{:g}".format}
    return environment.get_template("page.html.j2")


def _words(section: Section) -> Iterator[str]:
    """The texts of a section in which terms may stand."""
    yield section.title
    for figure in section.figures:
        yield from (figure.title, figure.caption)
        for panel in figure.panels if isinstance(figure, Panels) else [figure]:
            if isinstance(panel, Lines):
                yield from (panel.title, panel.x_label, panel.y_label, *(series.name for series in panel.series))
                yield from panel.x_ticks or ()
    for table in section.tables:
        yield from (table.title, table.caption, *table.columns, *(str(row[0]) for row in table.rows))


def _setting(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False) if isinstance(value, list | tuple | dict) else number(value)


def _named(section: Section, figure: Figure, drawn: Drawn, keep: Callable[[str, str], None]) -> dict[str, Any]:
    name, parts = f"{section.id}-{figure.name}", drawn.figure(figure)
    keep(f"figures/{name}.svg", parts["text"])
    keep(f"figures/{name}.csv", parts["numbers"])
    return {**parts, "id": name, "file": f"{name}.csv"}


def _figure(figure: Figure) -> dict[str, Any]:
    svg, numbers = to_svg(figure), to_csv(figure)
    images = figure.images if isinstance(figure, Images) else []
    drawn = [] if isinstance(figure, Images) else to_plotly(figure)
    return {
        "figure": figure,
        "text": svg,
        "numbers": numbers,
        "svg": _data_uri("image/svg+xml", svg.encode()),
        "pictures": [(caption, _picture(pixels)) for caption, pixels in images],
        "csv": _data_uri("text/csv", _bytes(numbers)),
        # Inside a script element only "<" could end it.
        "plotly": [
            (panel.title, json.dumps(plain(part), allow_nan=False).replace("<", "\\u003c"))
            for panel, part in zip(figure.panels if isinstance(figure, Panels) else [figure], drawn, strict=False)
        ],
    }


def _table(section: Section, table: Table, keep: Callable[[str, str], None]) -> dict[str, Any]:
    name, text = f"{section.id}-{table.name}.csv", to_csv(table)
    keep(f"figures/{name}", text)
    firsts = [str(row[0]) for row in table.rows]
    return {
        "table": table,
        "csv": _data_uri("text/csv", _bytes(text)),
        "file": name,
        "short": dict(zip(firsts, short_names(firsts), strict=True)),
    }


def _picture(pixels: np.ndarray) -> dict[str, Any]:
    """A picture as a data URI, in the smaller of PNG and JPEG, with its width."""
    image = array_image(pixels)
    forms: dict[str, bytes] = {}
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 85})):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        forms[kind] = buffer.getvalue()
    kind = min(forms, key=lambda one: len(forms[one]))
    return {"uri": _data_uri(f"image/{kind}", forms[kind]), "width": image.width}


def _bytes(text: str) -> bytes:
    return text.encode(errors="backslashreplace")


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"

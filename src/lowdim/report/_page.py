"""One HTML page from sections: offline, for keyboard and screen reader, light and dark, on paper."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from lowdim._files import RunFolder, plain
from lowdim._verdicts import Verdict
from lowdim.figures import Figure, Images, Panels, Table
from lowdim.report._interactive import plotly_script, to_plotly
from lowdim.report._svg import to_svg
from lowdim.report._tables import to_csv


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id: Anchor and prefix of its files; letters, digits and dashes.
        title: Heading.
        why: What is shown and how to read it, one paragraph each.
        figures: Drawn in this order.
        tables: Shown after the figures.
        verdicts: Numbers against thresholds.
        settings: What the numbers depend on.
        command: The command that makes this section again.
        source: Where the mathematics comes from.
        notes: Warnings and remarks.
        seconds: How long it took.
        failure: Why there is no result.
        group: Heading above a run of sections.
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


@dataclass(frozen=True)
class Page:
    """A title, a sentence, sections; with `overview` a table of all verdicts stands first."""

    title: str
    lead: str
    sections: Sequence[Section]
    overview: bool = False
    next_steps: Sequence[tuple[str, str]] = ()


def write_report(folder: RunFolder, page: Page) -> list[str]:
    """Writes ``report.html``, and each figure as SVG and its numbers as CSV, into the run folder.

    Returns:
        Paths of the figures and tables, relative to the folder.
    """
    written: list[str] = []
    sections: list[dict[str, Any]] = []
    for section in page.sections:
        figures = [_figure(folder, section, figure, written) for figure in section.figures]
        tables = [_table(folder, section, table, written) for table in section.tables]
        sections.append({"section": section, "figures": figures, "tables": tables})
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": format_number, "setting": _setting, "bound": "{:g}".format}
    interactive = any(figure["plotly"] for part in sections for figure in part["figures"])
    folder.write(
        "report.html",
        environment.get_template("page.html.j2").render(
            page=page, parts=sections, plotly=plotly_script() if interactive else ""
        ),
    )
    return written


def format_number(value: Any) -> str:
    """A number for people; anything else as text.

    Example:
        >>> format_number(0.000123456), format_number(True), format_number(None)
        ('0.000123', 'yes', '-')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _setting(value: Any) -> str:
    return (
        json.dumps(plain(value), ensure_ascii=False) if isinstance(value, list | tuple | dict) else format_number(value)
    )


def _figure(folder: RunFolder, section: Section, figure: Figure, written: list[str]) -> dict[str, Any]:
    stem = f"figures/{section.id}-{figure.name}"
    svg, numbers = to_svg(figure), to_csv(figure)
    for suffix, text in ((".svg", svg), (".csv", numbers)):
        folder.write(stem + suffix, text)
        written.append(stem + suffix)
    drawn = [] if isinstance(figure, Images) else to_plotly(figure)
    return {
        "figure": figure,
        "id": f"{section.id}-{figure.name}",
        "svg": _data_uri("image/svg+xml", svg),
        "csv": _data_uri("text/csv", numbers),
        "file": f"{section.id}-{figure.name}.csv",
        # Inside a script element only "<" could end it.
        "plotly": [
            (panel.title, json.dumps(plain(part), allow_nan=False).replace("<", "\\u003c"))
            for panel, part in zip(figure.panels if isinstance(figure, Panels) else [figure], drawn, strict=False)
        ],
    }


def _table(folder: RunFolder, section: Section, table: Table, written: list[str]) -> dict[str, Any]:
    name, text = f"{section.id}-{table.name}.csv", to_csv(table)
    folder.write(f"figures/{name}", text)
    written.append(f"figures/{name}")
    return {"table": table, "csv": _data_uri("text/csv", text), "file": name}


def _data_uri(kind: str, text: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode(errors='backslashreplace')).decode()}"

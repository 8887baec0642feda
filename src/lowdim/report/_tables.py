"""The numbers behind figures and tables, as CSV."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lowdim.figures import Figure, Images, Lines, Matrix, Panels, Surface, Table


def to_csv(item: Figure | Table) -> str:
    """The data of a figure in long form, or the rows of a table; for images their captions and sizes. Names are `inert`."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(map(inert, line) for line in _lines(item))
    return buffer.getvalue()


def inert(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: a name that begins like one gets an apostrophe in front.

    Example:
        >>> inert("=1+1"), inert("-cat"), inert("-1.5"), inert(-1.5), inert("cat")
        ("'=1+1", "'-cat", '-1.5', -1.5, 'cat')
    """
    if not isinstance(cell, str) or not cell.lstrip().startswith(("=", "+", "-", "@")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def _lines(item: Figure | Table) -> Iterator[Sequence[Any]]:
    if isinstance(item, Table):
        yield item.columns
        yield from item.rows
    elif isinstance(item, Images):
        yield ["caption", "height", "width"]
        yield from ([caption, *image.shape[:2]] for caption, image in item.images)
    elif isinstance(item, Matrix):
        yield [item.y_label, item.x_label, "count"]
        yield from ([item.rows[i], item.columns[j], int(count)] for (i, j), count in np.ndenumerate(item.counts))
    else:
        panels = list(item.panels) if isinstance(item, Panels) else [item]
        solid = isinstance(panels[0], Surface)
        yield ["panel", "x", "y", "z"] if solid else ["panel", "series", "x", "y", "low", "high", "label"]
        for panel in panels:
            yield from _points(panel) if isinstance(panel, Surface) else _rows(panel)


def _points(surface: Surface) -> Iterator[list[Any]]:
    z = np.asarray(surface.z)
    for i, y in enumerate(np.asarray(surface.y).tolist()):
        for j, x in enumerate(np.asarray(surface.x).tolist()):
            yield [surface.title, x, y, float(z[i, j])]


def _rows(lines: Lines) -> Iterator[list[Any]]:
    for series in lines.series:
        count = len(series.y)
        low = [""] * count if series.low is None else series.low
        high = [""] * count if series.high is None else series.high
        labels = [""] * count if series.labels is None else series.labels
        for x, y, below, above, label in zip(series.x, series.y, low, high, labels, strict=True):
            if lines.x_ticks is not None and not label and float(x).is_integer() and 0 <= int(x) < len(lines.x_ticks):
                label = lines.x_ticks[int(x)]
            yield [lines.title, series.name, x, y, below, above, label]

"""The numbers behind figures and tables, as CSV."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from lowdim.figures import Figure, Images, Lines, Panels, Surface, Table


def to_csv(item: Figure | Table) -> str:
    """The data of a figure in long form, or the rows of a table; for images their captions and sizes."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if isinstance(item, Table):
        writer.writerow(item.columns)
        writer.writerows(item.rows)
        return buffer.getvalue()
    if isinstance(item, Images):
        writer.writerow(["caption", "height", "width"])
        writer.writerows([caption, *image.shape[:2]] for caption, image in item.images)
        return buffer.getvalue()
    panels = list(item.panels) if isinstance(item, Panels) else [item]
    solid = isinstance(panels[0], Surface)
    writer.writerow(["panel", "x", "y", "z"] if solid else ["panel", "series", "x", "y", "low", "high", "label"])
    for panel in panels:
        writer.writerows(_points(panel) if isinstance(panel, Surface) else _rows(panel))
    return buffer.getvalue()


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

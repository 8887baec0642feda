"""Figures as Plotly descriptions (plain dictionaries; the page brings the library that draws them)."""

import base64
import functools
import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lowdim.figures import Lines, Matrix, Panels, Series, Surface
from lowdim.report._places import label_sides, log_ticks
from lowdim.report._svg import BAR, across_height, colour_of, half_of_rows, legend_names, shares_of_rows

_DASH = {"dashed": "dash", "dotted": "dot"}
_SIZE: dict[str, Any] = {"margin": {"l": 60, "r": 12, "t": 12, "b": 40}, "height": 380}


@functools.cache
def plotly_script() -> str:
    """The library itself, from the installed package, as gzip in base64: nothing is loaded over the network."""
    import plotly

    script = (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(script, 6, mtime=0)).decode()


def to_plotly(figure: Lines | Surface | Matrix | Panels) -> list[dict[str, Any]]:
    """Traces and layout of each panel, to be drawn side by side."""
    panels = figure.panels if isinstance(figure, Panels) else [figure]
    drawn = [_panel(panel) for panel in panels]
    if isinstance(figure, Panels):
        for panel, part in zip(panels, drawn, strict=True):
            part["layout"]["title"] = {"text": _text(panel.title), "font": {"size": 14}, "x": 0, "xanchor": "left"}
            part["layout"]["margin"] = part["layout"]["margin"] | {"t": 40}
    return drawn


def _panel(panel: Lines | Surface | Matrix) -> dict[str, Any]:
    if isinstance(panel, Surface):
        return _surface(panel)
    return _matrix(panel) if isinstance(panel, Matrix) else _lines(panel)


def _text(text: str) -> str:
    """Plotly reads a few tags in text; names must stay text."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_FEW = 8
"""Steps of a whole number, each of which has a mark: of more, Plotly leaves out some by itself."""
_LONGEST = 16
"""Letters of a name at the axis of a matrix: longer ones would leave no room for it on a telephone."""


def _tick(name: str) -> str:
    """A name as it stands at an axis where many do."""
    return _text(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…")


def _numbers(values: Any) -> list[Any]:
    """For drawing six digits are enough, and half the bytes; the CSV has them all."""
    return [_short(value) if isinstance(value, float) else value for value in np.asarray(values).tolist()]


def _short(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _lines(lines: Lines) -> dict[str, Any]:
    traces = [_trace(lines, series, colour_of(series, index)) for index, series in enumerate(lines.series)]
    for trace, series, name in zip(traces, lines.series, legend_names(lines.series), strict=True):
        if name != series.name:
            trace |= {"name": _text(name)} if name else {"showlegend": False}
    x: dict[str, Any] = {
        "title": {"text": _text(lines.x_label)},
        "type": "log" if lines.log_x else "-",
        "automargin": True,
    }
    if lines.x_ticks is not None:
        x |= {"tickvals": list(range(len(lines.x_ticks))), "ticktext": [_text(tick) for tick in lines.x_ticks]}
        x["ticklabeloverflow"] = "allow"
    elif lines.counted is not None and lines.counted < _FEW and not lines.log_x:
        x["dtick"] = 1
    y: dict[str, Any] = {"title": {"text": _text(lines.y_label)}, "exponentformat": "power", "automargin": True}
    if lines.log_y:
        y |= {"type": "log", **_log_marks([series.y for series in lines.series])}
    if lines.log_x:
        x |= {"exponentformat": "power", **_log_marks([series.x for series in lines.series])}
    layout = _SIZE | {"xaxis": x, "yaxis": y, "showlegend": len(lines.series) > 1}
    return {"data": traces, "layout": _across(lines, traces, layout) if lines.across else layout}


def _across(lines: Lines, traces: list[dict[str, Any]], layout: dict[str, Any]) -> dict[str, Any]:
    """Turns the drawing: values run to the right, rows down the page, each below its name."""
    names, half = list(lines.x_ticks or ()), half_of_rows(lines)
    for trace in traces:
        trace["x"], trace["y"] = trace["y"], trace["x"]
        if "error_y" in trace:
            trace["error_x"] = trace.pop("error_y")
        if trace["type"] == "bar":
            trace["orientation"] = "h"
        trace.setdefault("hovertext", [_text(names[int(row)]) for row in trace["y"]])
    rows = {"range": [len(names) - 0.6, -0.8], "tickvals": list(range(len(names))), "showticklabels": False}
    above = [
        {
            "text": _text(name), "x": 0, "xref": "paper", "xanchor": "left", "y": row - half, "yanchor": "bottom", "yshift": 4 * (not half),
            "align": "left", "showarrow": False, "font": {"size": 12},
        }
        for row, name in enumerate(names)
    ]  # fmt: skip
    return layout | {
        "xaxis": {**layout["yaxis"], "title": {"text": _text(lines.y_label)}},
        "yaxis": {"title": {"text": _text(lines.x_label)}, **rows},
        "annotations": above,
        "margin": _SIZE["margin"] | {"l": 12},
        "height": max(220, round(100 * across_height(lines))),
    }


def _matrix(figure: Matrix) -> dict[str, Any]:
    names, rows = [_tick(name) for name in figure.columns], [_tick(name) for name in figure.rows]
    trace = {
        "type": "heatmap",
        "z": [_numbers(row) for row in shares_of_rows(figure)],
        "text": [[f"{count:,}" if count else "" for count in row] for row in figure.counts.tolist()],
        "texttemplate": "%{text}",
        "hovertemplate": "%{y} → %{x}: %{text}<extra></extra>",
        "colorscale": [[0, "#eef4fa"], [1, "#0b62a4"]],
        "zmin": 0,
        "zmax": 1,
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
    }
    # Every class has its tick: Plotly would drop what reaches over the edge.
    axis = {"automargin": True, "type": "linear", "ticklabeloverflow": "allow", "ticklabelstep": 1}
    layout = _SIZE | {
        "xaxis": {
            **axis,
            "title": {"text": _text(figure.x_label)},
            "tickvals": list(range(len(names))),
            "ticktext": names,
        },
        "yaxis": {
            **axis,
            "title": {"text": _text(figure.y_label)},
            "tickvals": list(range(len(rows))),
            "ticktext": rows,
            "autorange": "reversed",
        },
        "height": 160 + 28 * max(len(rows), 5),
    }
    return {"data": [trace], "layout": layout}


_LABELS = 6
"""Powers of ten that have room beside each other on a narrow screen."""


def _log_marks(values: Sequence[Any]) -> dict[str, Any]:
    """Marks of a logarithmic axis: powers of ten, or numbers where it spans too little for those."""
    numbers = np.concatenate([np.ravel(part).astype(float) for part in values] or [np.ones(0)])
    marks, known = log_ticks(numbers), numbers[np.isfinite(numbers) & (numbers > 0)]
    decades = math.log10(known.max() / known.min()) if len(known) else 0.0
    return (
        {"dtick": max(1, math.ceil(decades / _LABELS))}
        if marks is None
        else {"tickvals": marks, "ticktext": [f"{mark:g}" for mark in marks]}
    )


def _trace(lines: Lines, series: Series, colour: str) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": {"points": "markers", "line+points": "lines+markers"}.get(series.style, "lines"),
        "name": _text(series.name),
        "x": _numbers(series.x),
        "y": _numbers(series.y),
        "line": {"color": colour, "dash": _DASH.get(series.style, "solid")},
        "marker": {"color": colour, "size": 7},
    }
    if series.style == "bars":
        return {key: trace[key] for key in ("name", "x", "y")} | {
            "type": "bar", "orientation": "v", "width": BAR, "marker": {"color": colour}
        }  # fmt: skip
    if series.labels is not None:
        trace["text"] = [_text(label) for label in series.labels]
        if series.style == "points" and len(series.labels) <= 30:
            sides = label_sides(lines, series.x, series.y, series.labels)
            trace |= {"mode": "markers+text", "textposition": sides, "cliponaxis": False}
    if series.low is not None and series.high is not None:
        y, low, high = (np.asarray(values, dtype=float) for values in (series.y, series.low, series.high))
        sides = {"array": _numbers(high - y), "arrayminus": _numbers(y - low)}
        trace["error_y"] = {"type": "data", "symmetric": False, "thickness": 1, **sides}
    return trace


def _surface(surface: Surface) -> dict[str, Any]:
    trace = {
        "type": "surface",
        "x": _numbers(surface.x),
        "y": _numbers(surface.y),
        "z": [_numbers(row) for row in np.asarray(surface.z, dtype=float)],
        "colorscale": "Viridis",
        "showscale": False,
    }
    height = {
        "title": {"text": _text(surface.z_label)},
        "type": "log" if surface.log_z else "-",
        "exponentformat": "power",
    }
    scene = {
        "xaxis": {"title": {"text": _text(surface.x_label)}},
        "yaxis": {"title": {"text": _text(surface.y_label)}},
        "zaxis": height,
        "camera": {"eye": {"x": -1.6, "y": -1.75, "z": 0.9}, "center": {"x": 0, "y": 0, "z": -0.2}},
    }
    return {"data": [trace], "layout": _SIZE | {"scene": scene, "margin": {"l": 0, "r": 0, "t": 40, "b": 0}}}

"""Figures as Plotly descriptions (plain dictionaries; the page brings the library that draws them)."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from lowdim.figures import Lines, Panels, Surface
from lowdim.report._svg import PALETTE

_DASH = {"dashed": "dash", "dotted": "dot"}


def plotly_script() -> str:
    """The library itself, from the installed package: nothing is loaded over the network."""
    import plotly

    return (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text()


def to_plotly(figure: Lines | Surface | Panels) -> dict[str, Any]:
    """Traces and layout of a figure; several panels share one figure."""
    panels = list(figure.panels) if isinstance(figure, Panels) else [figure]
    columns = min(figure.columns, len(panels)) if isinstance(figure, Panels) else 1
    rows = math.ceil(len(panels) / columns)
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"margin": {"l": 10, "r": 10, "t": 46, "b": 10}, "height": 400 * rows, "annotations": []}
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        gap = 0.07 if columns > 1 else 0.0
        left, right = (column + gap) / columns, (column + 1 - gap / 2) / columns
        low, high = 1 - (row + 0.86) / rows, 1 - (row + 0.08) / rows
        place = {"x": [left, right], "y": [low, high]}
        if len(panels) > 1:
            layout["annotations"].append(
                {"text": _text(panel.title), "x": left, "y": high + 0.02 / rows, "xref": "paper", "yref": "paper"}
                | {"showarrow": False, "xanchor": "left", "yanchor": "bottom"}
            )
        number = "" if index == 0 else str(index + 1)
        if isinstance(panel, Surface):
            _surface(panel, number, place, traces, layout)
        else:
            _lines(panel, number, place, traces, layout, legend=index == 0)
    return {"data": traces, "layout": layout}


def _text(text: str) -> str:
    """Plotly reads a few tags in text; names must stay text."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _numbers(values: Any) -> list[Any]:
    return [
        None if isinstance(value, float) and not math.isfinite(value) else value
        for value in np.asarray(values).tolist()
    ]


def _lines(
    lines: Lines,
    number: str,
    place: dict[str, Any],
    traces: list[dict[str, Any]],
    layout: dict[str, Any],
    *,
    legend: bool,
) -> None:
    for index, series in enumerate(lines.series):
        colour = PALETTE[index % len(PALETTE)]
        points = series.style in ("points", "line+points")
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": {"points": "markers", "line+points": "lines+markers"}.get(series.style, "lines"),
            "name": _text(series.name),
            "legendgroup": series.name,
            "showlegend": legend and len(lines.series) > 1,
            "x": _numbers(series.x),
            "y": _numbers(series.y),
            "line": {"color": colour, "dash": _DASH.get(series.style, "solid")},
            "xaxis": f"x{number}",
            "yaxis": f"y{number}",
        }
        if points:
            trace["marker"] = {"color": colour, "size": 7}
        if series.labels is not None:
            trace["text"] = [_text(label) for label in series.labels]
        if series.low is not None and series.high is not None:
            y, low, high = (np.asarray(values, dtype=float) for values in (series.y, series.low, series.high))
            trace["error_y"] = {
                "type": "data",
                "symmetric": False,
                "array": _numbers(high - y),
                "arrayminus": _numbers(y - low),
                "thickness": 1,
            }
        traces.append(trace)
    layout[f"xaxis{number}"] = {
        "domain": place["x"],
        "anchor": f"y{number}",
        "title": {"text": _text(lines.x_label)},
        "type": "log" if lines.log_x else "-",
        "automargin": True,
    }
    if lines.x_ticks is not None:
        layout[f"xaxis{number}"] |= {
            "tickvals": list(range(len(lines.x_ticks))),
            "ticktext": [_text(tick) for tick in lines.x_ticks],
        }
    layout[f"yaxis{number}"] = {
        "domain": place["y"],
        "anchor": f"x{number}",
        "title": {"text": _text(lines.y_label)},
        "type": "log" if lines.log_y else "-",
        "exponentformat": "power",
        "automargin": True,
    }


def _surface(
    surface: Surface, number: str, place: dict[str, Any], traces: list[dict[str, Any]], layout: dict[str, Any]
) -> None:
    traces.append(
        {
            "type": "surface",
            "x": _numbers(surface.x),
            "y": _numbers(surface.y),
            "z": [_numbers(row) for row in np.asarray(surface.z, dtype=float)],
            "scene": f"scene{number}",
            "colorscale": "Viridis",
            "showscale": False,
        }
    )
    layout[f"scene{number}"] = {
        "domain": place,
        "xaxis": {"title": {"text": _text(surface.x_label)}},
        "yaxis": {"title": {"text": _text(surface.y_label)}},
        "zaxis": {
            "title": {"text": _text(surface.z_label)},
            "type": "log" if surface.log_z else "-",
            "exponentformat": "power",
        },
        "camera": {"eye": {"x": -1.4, "y": -1.5, "z": 0.8}},
    }

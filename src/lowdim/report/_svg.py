"""Figures as SVG, by Matplotlib: the same bytes for the same data."""

import contextlib
import io
import math
import re
import textwrap
import warnings
from collections.abc import Generator, Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as _Figure

from lowdim.figures import Figure, Images, Lines, Matrix, Panels, Series, Surface
from lowdim.report._places import label_sides, log_ticks

PALETTE = ("#0b62a4", "#c4500c", "#1b7a43", "#8a3fb0", "#a8324a", "#5f6b00", "#00748a", "#6b4a2b", "#444444", "#b0388f")
ON_DARK = ("#6cb2ee", "#f2905a", "#5fce8e", "#cf9bef", "#f08ca1", "#c3cf52", "#4fc4da", "#cfa781", "#b9bec4", "#f08fd4")
"""The same for dark paper."""
_STYLE = {"line": ("-", ""), "points": ("", "o"), "dashed": ("--", ""), "line+points": ("-", "o"), "dotted": (":", "")}
MOST_NAMES = 4
"""Curves of one colour and style that are named one by one."""
_SETTINGS: Any = {
    "svg.hashsalt": "lowdim",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "image.composite_image": False,  # every picture keeps its own pixels
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    # A name is text, never a formula: "$" in a class name must not start mathematics.
    "text.parse_math": False,
}


def _padded() -> np.errstate:
    """Matplotlib fills the polygons of a surface up with memory that nothing has written, and projects that, too."""
    return np.errstate(over="ignore", invalid="ignore")


class Canvas(_Figure):
    """A Matplotlib figure that a notebook shows whether or not its inline mode is on."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with _padded():
            self.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        return buffer.getvalue()


def colour_of(series: Series, index: int) -> str:
    """The colour of a series that stands at this place."""
    return PALETTE[(index if series.colour is None else series.colour) % len(PALETTE)]


def legend_names(series: Sequence[Series]) -> list[str]:
    """What the legend says of each curve, an empty text where nothing: many of one colour and style are one entry."""
    alike: dict[tuple[Any, str], list[int]] = {}
    for index, one in enumerate(series):
        alike.setdefault((index if one.colour is None else ("colour", one.colour), one.style), []).append(index)
    names = [one.name for one in series]
    for members in alike.values():
        if len(members) > MOST_NAMES:
            names[members[0]] = f"{series[members[0]].name} … {series[members[-1]].name}"
            for index in members[1:]:
                names[index] = ""
    return names


def to_svg(figure: Figure) -> str:
    """Draws a figure description.

    Returns:
        SVG text without dates or random identifiers.
    """
    with _style():
        buffer, canvas = io.StringIO(), _canvas(_printable(figure))
        canvas.savefig(
            buffer, format="svg", dpi=90, bbox_inches=_frame(canvas), metadata={"Date": None, "Creator": "lowdim"}
        )
    return buffer.getvalue()


def _frame(canvas: Canvas) -> Any:
    """Where a figure has ink. Matplotlib's own "tight" draws all of it once more to find out, which only solids need."""
    if any(axes.name == "3d" for axes in canvas.axes):
        return "tight"
    FigureCanvasSVG(canvas)  # whose letters have the sizes of the drawing
    canvas.dpi = 72
    if (layout := canvas.get_layout_engine()) is not None:
        canvas.set_layout_engine(None)
        if len(canvas.axes) > 1:
            layout.execute(canvas)
        else:  # the frame makes room for the names; there is no neighbour to keep away from
            canvas.subplots_adjust(left=0.1, right=0.99, bottom=0.12, top=0.93)
    return canvas.get_tightbbox().padded(matplotlib.rcParams["savefig.pad_inches"])


def to_canvas(figure: Figure) -> Canvas:
    """Draws a figure description as a Matplotlib figure."""
    with _style():
        return _canvas(_printable(figure))


@contextlib.contextmanager
def _style() -> Generator[None]:
    with matplotlib.rc_context(), warnings.catch_warnings(), _padded():
        # A matplotlibrc in the folder where one happens to stand, or anyone's own, changes nothing.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        # Letters stay letters in the SVG; that the measuring font lacks some of them only shifts the layout a little.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        # On a busy machine the place of a legend takes more than a second, which nobody needs to know.
        warnings.filterwarnings("ignore", "Creating legend with loc")
        yield


def printable(text: str) -> str:
    r"""A text as XML and HTML can hold it and a terminal is not steered by: control characters, but for tabs and ends of lines, replaced.

    Example:
        >>> printable("a\x1b[31m.png") == "a\N{REPLACEMENT CHARACTER}[31m.png"
        True
    """
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)


def _printable(value: Any) -> Any:
    """The description with control characters and broken letters of names replaced: XML has no place for them."""
    if isinstance(value, str):
        return printable(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _printable(getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, Sequence):
        return [_printable(item) for item in value]
    return value


def _canvas(figure: Figure) -> Canvas:
    if isinstance(figure, Images):
        return _images(figure)
    if isinstance(figure, Matrix):
        return _matrix(figure)
    panels = list(figure.panels) if isinstance(figure, Panels) else [figure]
    columns = min(figure.columns, len(panels)) if isinstance(figure, Panels) else 1
    rows = math.ceil(len(panels) / columns)
    wide = 6.8 if columns == 1 else 4.1
    high = max(across_height(panel) for panel in panels)
    canvas = Canvas(figsize=(wide * columns, high * rows), layout="constrained")
    for index, panel in enumerate(panels):
        solid = isinstance(panel, Surface)
        axes = canvas.add_subplot(rows, columns, index + 1, projection="3d" if solid else None)
        axes.set_title(panel.title, fontsize=10, loc="left")
        _surface(axes, panel) if solid else _lines(axes, panel)
    return canvas


BAR = 0.35
"""Thickness of a bar, of the distance between bars."""


def across_height(panel: Lines | Surface) -> float:
    """Inches of a panel: as many as its rows need, where names run down the page."""
    rows = len(panel.x_ticks or ()) if isinstance(panel, Lines) and panel.across else 0
    return 1.1 + 0.45 * rows + 0.25 * (len(panel.series) > 1) if rows and isinstance(panel, Lines) else 3.5


def half_of_rows(lines: Lines) -> float:
    """Half the height of what a row shows, of the distance between rows: names stand above it."""
    return BAR / 2 if any(series.style == "bars" for series in lines.series) else 0


def _lines(axes: Any, lines: Lines) -> None:
    names = legend_names(lines.series)
    for index, series in enumerate(lines.series):
        colour, name = colour_of(series, index), names[index] or "_nolegend_"
        x, y = _drawable(series.x), _drawable(series.y)
        shown = (y, x) if lines.across else (x, y)
        if series.style == "bars":
            (axes.barh if lines.across else axes.bar)(x, y, BAR, color=colour, label=name)
            continue
        line, marker = _STYLE[series.style]
        axes.plot(*shown, linestyle=line, marker=marker, markersize=4, linewidth=1.6, color=colour, label=name)
        if series.low is not None and series.high is not None:
            low, high = _drawable(series.low), _drawable(series.high)
            if series.style == "points":
                (axes.hlines if lines.across else axes.vlines)(x, low, high, color=colour, linewidth=1)
            else:
                axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        if series.labels is not None and series.style == "points" and len(series.labels) <= 30:
            sides = label_sides(lines, x, y, series.labels)
            for place, label, side in zip(zip(*shown, strict=True), series.labels, sides, strict=True):
                vertical, horizontal = side.split()
                at = (4 if horizontal == "right" else -4, {"top": 4, "bottom": -4, "middle": 0}[vertical])
                align = {"ha": {"right": "left", "left": "right"}[horizontal], "va": _FROM[vertical]}
                axes.annotate(label, place, textcoords="offset points", xytext=at, fontsize=7, **align)
    axes.set_xlabel(lines.y_label if lines.across else lines.x_label)
    axes.set_ylabel(lines.x_label if lines.across else lines.y_label)
    log_x = "log" if lines.log_x and _any_positive(series.x for series in lines.series) else "linear"
    log_y = "log" if lines.log_y and _any_positive(series.y for series in lines.series) else "linear"
    axes.set_xscale(log_y if lines.across else log_x)
    axes.set_yscale("linear" if lines.across else log_y)
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            # Matplotlib writes powers as formulas, and formulas are off (see _SETTINGS).
            axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: power(value)))
            axis.set_minor_formatter(ticker.NullFormatter())
            of_x = (axis is axes.xaxis) != lines.across
            marks = log_ticks(np.concatenate([_drawable(s.x if of_x else s.y) for s in lines.series]))
            if marks is not None:
                axis.set_major_locator(ticker.FixedLocator(marks))
                axis.set_minor_locator(ticker.NullLocator())
            low, high = axis.get_view_interval()
            if high < low * (1 + 1e-6):  # values that differ by rounding, whose logarithms do not
                axis.set_view_interval(low / 1.1, high * 1.1, ignore=True)
    if lines.across:
        _names_above_rows(axes, lines)
    elif lines.counted is not None and log_x == "linear" and lines.x_ticks is None:
        axes.xaxis.set_major_locator(ticker.MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    elif lines.x_ticks is not None:
        long = max(map(len, lines.x_ticks), default=0) > 4
        axes.set_xticks(
            range(len(lines.x_ticks)), lines.x_ticks, rotation=40 if long else 0, ha="right" if long else "center"
        )
    if len(lines.series) > 1 and lines.across:  # rows leave no room between them
        axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=3, fontsize=8)
    elif len(lines.series) > 1:
        axes.legend(fontsize=8)


def _drawable(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """The numbers, without those whose squares are none: Matplotlib finds no scale for them."""
    numbers = np.asarray(values, dtype=float)
    sizes = np.abs(numbers)
    return np.where(sizes < 1e150, np.where(sizes > 1e-150, numbers, 0), np.nan)


def _names_above_rows(axes: Any, lines: Lines) -> None:
    names, half = lines.x_ticks or (), half_of_rows(lines)
    axes.set_ylim(len(names) - 0.6, -0.8)
    axes.set_yticks([])
    for row, name in enumerate(names):
        at = {"xy": (0, row - half), "xycoords": axes.get_yaxis_transform()}
        axes.annotate(
            name, **at, xytext=(4, 1.5 if half else 4), textcoords="offset points", fontsize=8, annotation_clip=False
        )


def _matrix(figure: Matrix) -> Canvas:
    rows, columns = len(figure.rows), len(figure.columns)
    canvas = Canvas(figsize=(2.2 + 0.42 * columns, 1.8 + 0.42 * rows), layout="constrained")
    axes = canvas.add_subplot()
    axes.grid(visible=False)
    axes.imshow(shares_of_rows(figure), cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(figure.counts):
        if count:
            light = shares_of_rows(figure)[i, j] > 0.5
            axes.text(j, i, f"{count:,}", ha="center", va="center", fontsize=8, color="white" if light else "black")
    axes.set_xticks(range(columns), figure.columns, rotation=40, ha="right")
    axes.set_yticks(range(rows), figure.rows)
    axes.set_xlabel(figure.x_label)
    axes.set_ylabel(figure.y_label)
    return canvas


def shares_of_rows(figure: Matrix) -> np.ndarray:
    """Each count over the sum of its row; 0 in a row without counts."""
    counts = np.asarray(figure.counts, dtype=float)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


_FROM: dict[str, Any] = {"top": "bottom", "bottom": "top", "middle": "center"}
"""Which end of a name is near its point."""
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power(value: float) -> str:
    """A tick of a logarithmic axis.

    Example:
        >>> power(1e-12), power(100.0), power(0.2)
        ('10⁻¹²', '100', '0.2')
    """
    exponent = math.log10(value)
    whole = round(exponent)
    if abs(exponent - whole) > 1e-9 or -2 <= whole <= 3:
        return f"{value:g}"
    return f"10{str(whole).translate(_RAISED)}"


def _any_positive(values: Iterable[Sequence[float] | np.ndarray]) -> bool:
    return any(bool((_drawable(one) > 0).any()) for one in values)


def _surface(axes: Any, surface: Surface) -> None:
    z = np.asarray(surface.z, dtype=float)
    if surface.log_z:
        z = np.log10(np.where(z > 0, z, np.nan))
        axes.zaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"1e{value:g}"))
    x, y = np.meshgrid(surface.x, surface.y)
    # Thousands of polygons would weigh a megabyte; as an image inside the drawing they weigh a few kilobytes.
    axes.plot_surface(x, y, z, cmap="viridis", linewidth=0, antialiased=False, rcount=40, ccount=40, rasterized=True)
    axes.set_xlabel(surface.x_label, fontsize=8)
    axes.set_ylabel(surface.y_label, fontsize=8)
    axes.set_zlabel(surface.z_label, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.view_init(elev=24, azim=-130)


def _images(figure: Images) -> Canvas:
    """Pictures side by side with their captions above; in one coordinate system of inches, because one for each picture takes most of
    a page's time."""
    columns = min(len(figure.images), 6)
    captions = [textwrap.wrap(caption, 36) for caption, _ in figure.images]
    wide, above, side = 2.3, 0.12 + 0.14 * max(map(len, captions)), 2.1
    high = above + side + 0.1
    size = (wide * columns, high * math.ceil(len(captions) / columns))
    canvas = Canvas(figsize=size)
    axes = canvas.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(size[1], 0), autoscale_on=False)
    axes.set_axis_off()
    for index, (lines, (_, image)) in enumerate(zip(captions, figure.images, strict=True)):
        row, column = divmod(index, columns)
        middle, top = wide * (column + 0.5), high * row + above
        down, across = (side * length / max(image.shape[:2]) for length in image.shape[:2])
        axes.imshow(
            image,
            extent=(middle - across / 2, middle + across / 2, top + down, top),
            cmap="gray" if image.ndim == 2 else None,
            vmin=0,
            vmax=255,
            interpolation="nearest",
            aspect="auto",
        )
        axes.text(middle, top - 0.05, "\n".join(lines), fontsize=8, ha="center", va="bottom")
    return canvas

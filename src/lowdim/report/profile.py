"""A collapse profile as sections of the page."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from lowdim._numbers import percent
from lowdim.data import Dataset, Split, thumbnail
from lowdim.figures import Images, Lines, Panels, Series, Table
from lowdim.metrics import METRICS
from lowdim.report._page import Section
from lowdim.report.answers import best_layer

_WHY = (
    "NC1 is the scatter within classes relative to the spread of the class means; D is the same with plain traces. Both are 0 "
    "when every class has collapsed to a point, and in a well-trained network both fall from layer to layer. Read NC1 against "
    "its chance level (labels shuffled) and its held-out value (means from one half of the samples, scatter from the other).",
    "Values of data with different numbers of samples per class, or of layers of very different width, are not comparable.",
)
_SOURCE = (
    "Papyan, Han and Donoho 2020, doi:10.1073/pnas.2015509117; He and Su 2022, arXiv 2210.17020 (law of data separation); "
    "Wang et al. 2023, arXiv 2311.02960."
)


def profile_sections(result: Mapping[str, Any], dataset: Dataset | None = None) -> list[Section]:
    """Sections for the layers, the classes and the suspected labels of a measured network."""
    sections = [
        Section(
            id="layers",
            title="Layer by layer",
            why=_WHY,
            figures=[*layer_figures(result)],
            tables=[layer_table(result)],
            settings=result["config"],
            source=_SOURCE,
            terms={metric.title: metric.explanation for metric in METRICS if metric.title},
            notes=result["warnings"],
            seconds=result.get("seconds"),
        )
    ]
    if result["classes"]:
        sections.append(_trouble(result, dataset))
    if result["outliers"]:
        sections.append(_suspects(result, dataset))
    return sections


_CLASSES = (
    "At the last layer: the share of NC1 that a class makes, the class whose mean is nearest, the class-distance normalised "
    "variance to it, and how many of its samples are nearest to their own class mean.",
)


def layer_figures(result: Mapping[str, Any]) -> list[Panels | Lines]:
    """NC1 and D against depth for each pooling, accuracy of the nearest class mean, and the spectrum of the class means. That comes
    first from which the answer was taken."""
    judged = len(result["data"]) > 1
    result = _in_one_line(result)
    pools = list(dict.fromkeys(layer["pool"] for layer in result["layers"]))
    collapse = [_collapse(result, pool) for pool in pools]
    separation = [_separation(result, pool) for pool in pools]
    panels = Panels(
        "collapse",
        "NC1 and separation D against depth",
        [panel for pair in zip(collapse, separation, strict=True) for panel in pair],
        columns=2,
        caption="Dotted: chance level. Dashed: held-out NC1 on the left, the fitted straight line of log D on the right.",
    )
    accuracy = _accuracy(result, pools)
    return [*([accuracy, panels] if judged else [panels, accuracy]), _spectrum(result, pools[0])]


def _rows(result: Mapping[str, Any], split: str, pool: str) -> list[Mapping[str, Any]]:
    return [layer for layer in result["layers"] if layer["split"] == split and layer["pool"] == pool]


def _splits(result: Mapping[str, Any]) -> list[str]:
    return [entry["split"] for entry in result["data"]]


def _names(result: Mapping[str, Any], pool: str) -> list[str]:
    return [layer["name"] for layer in _rows(result, _splits(result)[0], pool)]


def _values(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    return np.array([np.nan if row[key] is None else row[key] for row in rows], dtype=float)


def _series(name: str, rows: Sequence[Mapping[str, Any]], key: str, style: Any, colour: int) -> Series:
    return Series(name, np.arange(len(rows)), _values(rows, key), style=style, colour=colour)


def _collapse(result: Mapping[str, Any], pool: str) -> Lines:
    series: list[Series] = []
    for colour, split in enumerate(_splits(result)):
        rows = _rows(result, split, pool)
        series += [
            _series(split, rows, "nc1", "line+points", colour),
            _series(f"{split}, held-out", rows, "nc1_heldout", "dashed", colour),
            _series(f"{split}, chance", rows, "nc1_chance", "dotted", colour),
        ]
    title = f"NC1 ({pool})"
    return Lines(f"nc1-{pool}", title, "layer", "NC1", series, log_y=True, x_ticks=_names(result, pool))


def _separation(result: Mapping[str, Any], pool: str) -> Lines:
    from lowdim.profiling import separation_law

    series: list[Series] = []
    said: list[str] = []
    for colour, split in enumerate(_splits(result)):
        rows = _rows(result, split, pool)
        series.append(_series(split, rows, "separation", "line+points", colour))
        law = separation_law([row["separation"] for row in rows])
        if law is not None:
            x = np.arange(len(rows))
            series.append(
                Series(f"{split}, fit", x, np.exp(law.intercept + law.slope * x), style="dashed", colour=colour)
            )
            said.append(f"{split} R² {law.r2:.3f}")
    title = f"D ({pool})" + (f": {', '.join(said)}" if said else "")
    return Lines(f"separation-{pool}", title, "layer", "D", series, log_y=True, x_ticks=_names(result, pool))


def _accuracy(result: Mapping[str, Any], pools: Sequence[str]) -> Lines:
    series = [
        _series(f"{split} ({pool})", _rows(result, split, pool), "ncc_accuracy", "line+points", place)
        for place, (pool, split) in enumerate(product(pools, _splits(result)))
    ]
    for place, pool in enumerate(pools):
        rows = _rows(result, _splits(result)[0], pool)
        if any(row.get("ncc_left_out") is not None for row in rows):
            name, colour = f"{_splits(result)[0]} ({pool}), left out", place * len(_splits(result))
            series.append(_series(name, rows, "ncc_left_out", "dashed" if len(rows) > 1 else "points", colour))
    largest, layers = result["data"][-1], range(len(_names(result, pools[0])))
    share = largest["per_class_max"] / largest["samples"]
    style = "dotted" if len(layers) > 1 else "points"
    series.append(Series("always the largest class", [*layers], [share] * len(layers), style=style))
    best = best_layer(result)
    if best is not None and best["ncc_accuracy"] is not None:
        row = _names(result, best["pool"]).index(best["name"])
        name = f"best: {best['name']}"
        series.append(
            Series(name, [row], [best["ncc_accuracy"]], style="points", labels=[percent(best["ncc_accuracy"])])
        )
    return Lines(
        "ncc",
        "How often the nearest class mean is the right one, layer by layer",
        "layer",
        "accuracy",
        series,
        x_ticks=_names(result, pools[0]),
        caption="Class means of the training split where it was measured; left out: each sample and its copies have no part in the mean of "
        "their class.",
    )


def _spectrum(result: Mapping[str, Any], pool: str) -> Lines:
    split = _splits(result)[0]
    rows = [row for row in _rows(result, split, pool) if row["spectrum"]]
    # At most ten curves can be told apart: first, last and evenly between.
    chosen = sorted({round(place) for place in np.linspace(0, len(rows) - 1, min(len(rows), 10))}) if rows else []
    series = [
        Series(rows[index]["name"], np.arange(1, len(rows[index]["spectrum"]) + 1), np.array(rows[index]["spectrum"]))
        for index in chosen
    ]
    return Lines(
        "spectrum",
        f"Spectrum of the class means ({split}, {pool})",
        "direction",
        "share of trace",
        series,
        log_y=True,
        caption="Eigenvalues of the between-class covariance over their sum; flat means equally far apart in all directions.",
    )


def layer_tables(result: Mapping[str, Any]) -> list[Table]:
    """The same as `layer_table`, one for each pooling and split, for the terminal."""
    result, tables = _in_one_line(result), list[Table]()
    for pool in dict.fromkeys(layer["pool"] for layer in result["layers"]):
        for entry in result["data"]:
            rows = [row for row in result["layers"] if row["pool"] == pool and row["split"] == entry["split"]]
            title = f"{entry['split']}: {entry['samples']} samples, {entry['classes']} classes, pooled by {pool}"
            metrics = [metric for metric in METRICS if metric.title]
            cells = [[row["name"], row["width"], *(row.get(metric.name) for metric in metrics)] for row in rows]
            tables.append(Table("layers", title, ["layer", "width", *(metric.title for metric in metrics)], cells))
    return tables


def _in_one_line(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where no pooling was asked for, all layers as of one, and what the network pools in another way says so in its name."""
    if result["config"].get("pool", True) is not None:
        return result
    first = result["layers"][0]["pool"]
    named = [
        layer
        | {"pool": first, "name": layer["name"] if layer["pool"] == first else f"{layer['name']} ({layer['pool']})"}
        for layer in result["layers"]
    ]
    return {**result, "layers": named}


def layer_table(result: Mapping[str, Any]) -> Table:
    """All layers, with what is needed to read NC1."""
    order = {pool: place for place, pool in enumerate(dict.fromkeys(layer["pool"] for layer in result["layers"]))}
    ordered = sorted(
        result["layers"], key=lambda layer: order[layer["pool"]]
    )  # stable: splits and layers keep their order
    columns = {"name": "layer", "split": "split", "pool": "pooling", "width": "width"}
    columns |= {metric.name: metric.title for metric in METRICS if metric.title}
    rows = [[layer.get(key) for key in columns] for layer in ordered]
    heads = ", ".join(
        f"{split}: NC3 {_short(head['nc3'])}, NC4 {_short(head['nc4'])}"
        for split, head in result["head_by_split"].items()
    )
    accuracy = ", ".join(f"{split} {value:.4f}" for split, value in result["accuracy"].items())
    caption = " ".join(
        part
        for part in (
            f"Accuracy of the network's own head: {accuracy}." if accuracy else "",
            f"Head: {heads}." if heads else "",
        )
        if part
    )
    return Table("layers", "Layers", list(columns.values()), rows, caption)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


_WORST, _OF_EACH = 3, 6
"""Classes that are shown, and samples of each."""


def _trouble(result: Mapping[str, Any], dataset: Dataset | None) -> Section:
    """The classes that are the hardest, with some of their samples, and some of the class that lies nearest."""
    split = _splits(result)[-1]
    worst = [row for row in result["classes"] if row["split"] == split][:_WORST]
    samples = None if dataset is None or dataset.kind == "features" else dataset[split]
    figures: list[Images] = []
    tables = [_classes(result)]
    if samples is not None and dataset is not None and dataset.kind == "image":
        for place, row in enumerate(worst):
            right = "" if row["ncc_accuracy"] is None else f"{percent(row['ncc_accuracy'])} right, "
            title = f"{', nearest '.join(_pair(row))}: {right}{percent(row['nc1_share'])} of NC1 ({split})"
            shown = [
                (name, thumbnail(samples, index)) for name in _pair(row) for index in _first(samples, dataset, name)
            ]
            figures.append(Images(f"trouble-{place + 1}", title, shown))
    elif samples is not None and dataset is not None:
        rows = [
            [name, "itself" if name == row["name"] else f"nearest to {row['name']}", samples.load(index)[:200]]
            for row in worst
            for name in _pair(row)
            for index in _first(samples, dataset, name)[:2]
        ]
        tables.insert(0, Table("trouble", f"Texts of these classes ({split})", ["class", "which", "text"], rows))
    title = "Which classes are the trouble"
    return Section(id="layers-classes", title=title, why=_CLASSES, figures=figures, tables=tables)


def _pair(row: Mapping[str, Any]) -> list[str]:
    """A class, and that whose mean lies nearest."""
    return [name for name in (row["name"], row["nearest_class"]) if name is not None]


def _first(samples: Split, dataset: Dataset, name: str) -> list[int]:
    """Positions of a few samples of a class."""
    return np.flatnonzero(samples.labels == dataset.classes.index(name))[:_OF_EACH].tolist()


def _classes(result: Mapping[str, Any]) -> Table:
    keys = ["name", "split", "samples", "nc1_share", "nearest_class", "cdnv", "ncc_accuracy"]
    columns = ["class", "split", "samples", "share of NC1", "nearest class", "CDNV to it", "NCC accuracy"]
    return Table(
        "classes", "Classes, hardest first", columns, [[row[key] for key in keys] for row in result["classes"]]
    )


def suspect_table(result: Mapping[str, Any]) -> Table:
    """Suspected labels, most suspicious first."""
    columns = {"item": "item", "split": "split", "class": "labelled", "nearest_class": "looks like"}
    values = {"probability": "probability of its label", "excess": "excess"}
    columns |= {key: name for key, name in values.items() if any(row[key] is not None for row in result["outliers"])}
    return Table(
        "suspects",
        "Suspected labels, most suspicious first",
        list(columns.values()),
        [[outlier[key] for key in columns] for outlier in result["outliers"]],
        "The probability is that of a probe that has not seen the sample. Excess, where there are too many samples for one: squared distance "
        "to the own class mean minus that to the nearest other, over the mean squared distance between class means; the means come from "
        "samples other than the one judged.",
    )


def _suspects(result: Mapping[str, Any], dataset: Dataset | None) -> Section:
    outliers = result["outliers"]
    figures: list[Images] = []
    if dataset is not None and dataset.kind == "image":
        images = [
            (
                f"{outlier['class']} → {outlier['nearest_class']}?",
                thumbnail(dataset[outlier["split"]], outlier["position"]),
            )
            for outlier in outliers[:48]
        ]
        figures = [
            Images("suspects", "Suspected labels", images, "Label → the class it looks like; most suspicious first.")
        ]
    table = suspect_table(result)
    why = ("Samples that look like another class than their own: wrong labels, or hard cases. Look at them.",)
    return Section(id="layers-suspects", title="Suspected labels", why=why, figures=figures, tables=[table])

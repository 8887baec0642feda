"""The profile of a network whose targets are numbers, as sections of the page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lowdim._numbers import listed, number
from lowdim.figures import Lines, Series, Table
from lowdim.report._page import Section

_COLUMNS = {
    "r2": ("R² held-out", "Of a ridge on the layer, on samples that it has not seen: 1 is all, below 0 worse than the mean."),
    "outside": ("outside", "Share of the features' variance beyond as many principal directions as the targets have (NRC1): 0 is full collapse."),
    "unexplained": ("unexplained", "Share of the targets' variance that is not linear in those directions: 0 is full collapse."),
    "target_rank": ("m", "How many directions that are: the rank of the targets."),
    "effective_rank": ("eff. rank", "Effective rank of the centred features."),
}  # fmt: skip
_WHY = (
    "How much of the numbers to be predicted is linear in a layer, judged on samples that the ridge has not seen: by cross-validation on "
    "the train split, and on the test split by a ridge fitted to the train split.",
    "Where a network trained with weight decay has collapsed, its features fill as many directions as there are outputs (outside is 0) and "
    "those hold the targets (unexplained is 0).",
)
_SOURCE = "Andriopoulos et al. 2024, arXiv 2409.04180; Rangamani and Unal 2026, arXiv 2603.23805."


def regression_sections(result: Mapping[str, Any]) -> list[Section]:
    """One section: the layers, the outputs at the best of them, and the last layer.

    Args:
        result: As `RegressionProfile.as_dict`, with the ``config`` of the run.
    """
    return [
        Section(
            id="layers",
            title="Layer by layer",
            why=_WHY,
            figures=[_figure(result, "r2"), _figure(result, "outside")],
            tables=_page_tables(result),
            settings=result["config"],
            source=_SOURCE,
            terms=dict(_COLUMNS.values()),
            notes=result["warnings"],
            seconds=result.get("seconds"),
        )
    ]


def _named(result: Mapping[str, Any], split: str) -> tuple[list[str], list[Mapping[str, Any]]]:
    """The layers of a split, and their names: with the pooling, where there are several."""
    rows = [layer for layer in result["layers"] if layer["split"] == split]
    several = len({layer["pool"] for layer in rows}) > 1
    return [f"{row['name']} ({row['pool']})" if several else row["name"] for row in rows], rows


def _figure(result: Mapping[str, Any], key: str) -> Lines:
    series: list[Series] = []
    names: Sequence[str] = ()
    for colour, entry in enumerate(result["data"]):
        names, rows = _named(result, entry["split"])
        values = np.array([np.nan if row[key] is None else row[key] for row in rows], dtype=float)
        low, high = None, None
        if key == "r2":
            ends = np.array([row["r2_interval"] or [np.nan] * 2 for row in rows], dtype=float)
            low, high = ends[:, 0], ends[:, 1]
        series.append(
            Series(entry["split"], np.arange(len(rows)), values, low, high, style="line+points", colour=colour)
        )
    title = "Held-out R² of a ridge on each layer" if key == "r2" else "Variance beyond as many directions as outputs"
    caption = "Band: 90 % interval under resampling of the samples." if key == "r2" else ""
    return Lines(key, title, "layer", _COLUMNS[key][0], series, x_ticks=names, caption=caption)


def _page_tables(result: Mapping[str, Any]) -> list[Table]:
    """`regression_tables`, those of the layers in one, with a column for the split."""
    tables = regression_tables(result)
    splits = [entry["split"] for entry in result["data"]]
    layers = [table for table in tables if table.name.startswith("layers-")]
    cells = [[name, split, *rest] for split, table in zip(splits, layers, strict=True) for name, *rest in table.rows]
    first, *others = layers[0].columns
    title = f"Layers, to predict {listed(result['outputs'])}"
    captions = [f"{split}: {table.caption}" for split, table in zip(splits, layers, strict=True) if table.caption]
    joined = Table("layers", title, [first, "split", *others], cells, " ".join(captions))
    return [joined, *(table for table in tables if table not in layers)]


def regression_tables(result: Mapping[str, Any]) -> list[Table]:
    """The layers of each split, and what is explained of each output where there are several.

    Args:
        result: The command's result.
    """
    tables: list[Table] = []
    for entry in result["data"]:
        names, rows = _named(result, entry["split"])
        head = result["head"].get(entry["split"])
        caption = (
            f"Last layer: it does not see {number(head['outside_rows'])} of the features' variance; distance from the root law "
            f"{number(head['root_law'])}."
            if head
            else ""
        )
        cells = [[name, row["width"], *(row[key] for key in _COLUMNS)] for name, row in zip(names, rows, strict=True)]
        columns = ["layer", "width", *(title for title, _ in _COLUMNS.values())]
        title = f"{entry['split']}: {entry['samples']} samples, to predict {listed(result['outputs'])}"
        tables.append(Table(f"layers-{entry['split']}", title, columns, cells, caption))
        if len(result["outputs"]) > 1:
            shares = [
                [name, *(row["r2_by_output"] or [None] * len(result["outputs"]))]
                for name, row in zip(names, rows, strict=True)
            ]
            title = f"{entry['split']}: held-out R² of each output"
            tables.append(Table(f"outputs-{entry['split']}", title, ["layer", *result["outputs"]], shares))
    return tables

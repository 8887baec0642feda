"""Fine-tuning results and advice as sections of the page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lowdim.data import Dataset, thumbnail
from lowdim.figures import Figure, Images, Lines, Series, Table
from lowdim.report._page import Section

_SOURCE = "Li et al. 2022, arXiv 2212.12206; Kumar et al. 2022, arXiv 2202.10054 (lp-ft)."


def evidence_table(evidence: Sequence[Mapping[str, Any]]) -> Table:
    """Cross-validated accuracy of every method that was looked at.

    Args:
        evidence: Rows of the result.
    """
    rows = [
        [
            entry["model"],
            entry["method"],
            entry["layer"] or "-",
            100 * entry["accuracy"],
            100 * entry["interval"][0],
            100 * entry["interval"][1],
            entry["seconds"],
        ]
        for entry in evidence
    ]
    return Table(
        "evidence",
        "Cross-validated on the training split",
        ["model", "method", "layer", "accuracy %", "90 % low", "90 % high", "seconds"],
        rows,
        caption="Accuracy on training samples by fits that had not seen them; Wilson interval with N / 2.5.",
    )


def evidence_figure(evidence: Sequence[Mapping[str, Any]]) -> Lines:
    """The same as points with intervals.

    Args:
        evidence: Rows of the result.
    """
    labels = [f"{entry['model'].rstrip('/').rsplit('/', 1)[-1]}: {entry['method']}" for entry in evidence]
    points = Series(
        "accuracy",
        list(range(len(evidence))),
        [100 * entry["accuracy"] for entry in evidence],
        [100 * entry["interval"][0] for entry in evidence],
        [100 * entry["interval"][1] for entry in evidence],
        style="points",
    )
    return Lines("accuracy", "Expected accuracy by method", "", "accuracy %", [points], x_ticks=labels)


def finetune_sections(result: Mapping[str, Any]) -> list[Section]:
    """Sections of a fine-tuning run: what was chosen and why, training, classes, updates.

    Args:
        result: The command's result.
    """
    accuracy, compressed = result["accuracy"], result["config"].get("compress_delta", False)
    watched = result["config"].get("watch", False)
    rows = [[key, value] for key, value in _facts(result, accuracy)]
    tables = [Table("summary", "Result", ["quantity", "value"], rows)]
    if result["evidence"]:
        tables.append(evidence_table(result["evidence"]))
    sections = [
        Section(
            id="result",
            title="Result",
            why=(
                "Everything was decided on the training split; the test split was "
                + ("measured after every epoch, for the curves." if watched else "measured at the end.")
                + (
                    " Whether the low-rank delta replaces the full one was decided on the test split too."
                    if compressed
                    else ""
                ),
            ),
            figures=[
                *([evidence_figure(result["evidence"])] if result["evidence"] else []),
                *_layers(result),
                *_training(result),
            ],
            tables=tables,
            notes=[*result["reasons"], *result["warnings"]],
            settings=result["config"],
            seconds=result["seconds"],
            source=_SOURCE,
        ),
        Section(id="classes", title="By class", tables=[_per_class(result)]),
    ]
    if result["update"]["matrices"]:
        sections.append(_updates(result))
    return sections


def _facts(result: Mapping[str, Any], accuracy: Mapping[str, Any]) -> list[tuple[str, Any]]:
    interval = accuracy["interval"]
    return [
        ("test accuracy %", None if accuracy["test"] is None else 100 * accuracy["test"]),
        ("90 % interval", None if interval is None else f"{100 * interval[0]:.1f} - {100 * interval[1]:.1f}"),
        ("balanced test accuracy %", None if accuracy["test"] is None else 100 * accuracy["balanced_test"]),
        ("train accuracy %", 100 * accuracy["train"]),
        ("NC1 of the last feature, train", result["nc1"]["train"]),
        ("NC1 of the last feature, test", result["nc1"]["test"]),
        ("trained parameters %", 100 * result["trained_share"]),
        ("bytes of the delta", result["delta"]["bytes"]),
        *(
            [("change of accuracy with the low-rank delta, points", 100 * result["delta"]["accuracy_change"])]
            if result["delta"].get("compressed")
            else []
        ),
        ("seconds per epoch", result["seconds_per_epoch"]),
        ("seconds for the stored prefix", result["cache"]["seconds"]),
    ]


def _layers(result: Mapping[str, Any]) -> list[Figure]:
    known = [entry for entry in result["layers"] if entry["nc1"] is not None]
    if not known:
        return []
    places = list(range(len(known)))
    series = [Series("NC1", places, [entry["nc1"] for entry in known], style="line+points")]
    if all(entry["nc1_chance"] is not None for entry in known):
        series.append(Series("by chance", places, [entry["nc1_chance"] for entry in known]))
    title = "NC1 of the training samples before tuning, layer by layer"
    names = [entry["name"] for entry in known]
    return [Lines("layers", title, "layer", "NC1", series, log_y=True, x_ticks=names)]


def _training(result: Mapping[str, Any]) -> list[Figure]:
    figures: list[Figure] = []
    for name, title, label, curves in (
        ("training", "Training loss", "loss", ("loss",)),
        ("watched-accuracy", "Accuracy during training", "accuracy", ("accuracy", "test_accuracy")),
        ("watched-nc1", "NC1 of the last feature, test samples", "NC1", ("test_nc1",)),
    ):
        series = [
            Series(f"{method}: {curve.replace('_', ' ')}", list(range(1, len(part[curve]) + 1)), part[curve])
            for method, part in result["history"].items()
            for curve in curves
            if part[curves[-1]] and None not in part[curves[-1]]
        ]
        if series:
            figures.append(Lines(name, title, "epoch", label, series))
    return figures


def _per_class(result: Mapping[str, Any]) -> Table:
    rows = [
        [entry["name"], entry["samples"], None if entry["accuracy"] is None else 100 * entry["accuracy"]]
        for entry in sorted(result["per_class"], key=lambda entry: (entry["accuracy"] is None, entry["accuracy"]))
    ]
    return Table("per-class", "Accuracy by class, worst first", ["class", "samples", "accuracy %"], rows)


def _updates(result: Mapping[str, Any]) -> Section:
    rows = [
        [
            u["name"],
            f"{u['rows']} x {u['columns']}",
            u["rank"],
            u["effective_rank"],
            u["relative_norm"],
            u["share"],
            u["chance"],
        ]
        for u in result["update"]["matrices"]
    ]
    columns = ["matrix", "size", "rank (99 %)", "effective rank", "relative norm", "share in 2K subspace", "by chance"]
    return Section(
        id="updates",
        title="How low-dimensional the update is",
        why=(
            "In deep linear networks gradient descent never leaves a subspace of 2K dimensions that the first gradient fixes. "
            "Here: how much of each matrix's change lies in the span of the first 2K singular vectors of its first gradient.",
        ),
        tables=[Table("updates", "Updates by matrix", columns, rows)],
        source="Yaras et al. 2023, arXiv 2306.01154 (law of parsimony).",
    )


def prediction_sections(result: Mapping[str, Any], shown: int) -> list[Section]:
    """Sections of a classification: how many of each class, how sure, and the first items.

    Args:
        result: The command's result.
        shown: How many items.
    """
    predictions = result["predictions"]
    names = list(dict.fromkeys(one["class"] for one in sorted(predictions, key=lambda one: one["class"])))
    counts = [sum(one["class"] == name for one in predictions) for name in names]
    sure = np.sort([one["probability"] for one in predictions])
    share = (np.arange(len(sure)) + 0.5) / max(len(sure), 1)
    columns, rows = (
        ["item", "class", "probability"],
        [[one[name] for name in ("item", "class", "probability")] for one in predictions[:shown]],
    )
    if any(one.get("unknown") for one in predictions):
        columns.append("unlike all")
        rows = [[*row, "unknown" if one["unknown"] else ""] for row, one in zip(rows, predictions[:shown], strict=True)]
    split = result["config"]["split"]
    which = f"all {len(predictions)} samples" if split == "all" else f"{split} split"
    title = f"{which} of {result['config']['data']}" + (
        f": the first {len(rows)}" if len(rows) < len(predictions) else ""
    )
    return [
        Section(
            id="predictions",
            title="Predictions",
            figures=[
                Lines(
                    "counts",
                    "Samples of each class",
                    "class",
                    "samples",
                    [Series("samples", list(range(len(names))), counts, style="points")],
                    x_ticks=names,
                ),
                Lines(
                    "sure",
                    "How sure the network is",
                    "probability of the class given",
                    "share of samples below",
                    [Series("share", sure, share)],
                ),
            ],
            tables=[
                Table(
                    "first",
                    title,
                    columns,
                    rows,
                )
            ],
            notes=result["warnings"],
            settings=result["config"],
            seconds=result["seconds"],
        )
    ]


def advice_sections(result: Mapping[str, Any], dataset: Dataset) -> list[Section]:
    """Sections of a recommendation: the evidence, the learning curve, and the trouble.

    Args:
        result: The command's result.
        dataset: For thumbnails of suspected labels.
    """
    recommended = result["recommendation"]
    sections = [
        Section(
            id="advice",
            title="What to do",
            why=(
                *(
                    [
                        "No network here does better than the baseline without a model: look for others. Of these, the best:"
                    ]
                    if result["baseline_wins"]
                    else []
                ),
                f"Use {recommended['model']} with {recommended['method']} {recommended['layer'] or ''}.",
                *result["reasons"],
            ),
            figures=[evidence_figure(result["evidence"])],
            tables=[evidence_table(result["evidence"])],
            command=recommended["command"],
            settings=result["config"],
            notes=result["warnings"],
            seconds=result["seconds"],
        )
    ]
    if result["learning_curve"]:
        sections.append(_curve(result))
    return [*sections, _classes(result), *([_suspects(result, dataset)] if result["outliers"] else [])]


def _classes(result: Mapping[str, Any]) -> Section:
    rows = [[e["name"], e["samples"], e["ncc_accuracy"], e["nearest_class"], e["nc1_share"]] for e in result["classes"]]
    columns = ["class", "samples", "nearest-mean accuracy", "nearest class", "share of NC1"]
    return Section(
        id="trouble", title="Which classes are the trouble", tables=[Table("classes", "Classes", columns, rows)]
    )


def _suspects(result: Mapping[str, Any], dataset: Dataset) -> Section:
    entries = result["outliers"]
    figures: list[Figure] = []
    if dataset.kind == "image":
        train = dataset["train"]
        pictures = [
            (f"{e['class']}, looks like {e['nearest_class']}", thumbnail(train, e["position"])) for e in entries
        ]
        figures.append(Images("suspects", "Suspected labels", pictures))
    rows = [[e["item"], e["class"], e["nearest_class"], e["probability"]] for e in entries]
    return Section(
        id="suspects",
        title="Suspected labels",
        why=(
            "Training samples whose label a probe that has not seen them finds least probable: wrong labels, or hard cases. Look at them.",
        ),
        figures=figures,
        tables=[
            Table("suspects", "Suspected labels", ["item", "labelled", "looks like", "probability of its label"], rows)
        ],
    )


def _curve(result: Mapping[str, Any]) -> Section:
    methods = list(dict.fromkeys(row["method"] for row in result["learning_curve"]))
    series: list[Series] = []
    for method in methods:
        rows = [row for row in result["learning_curve"] if row["method"] == method]
        series.append(
            Series(
                method,
                [row["shots"] for row in rows],
                [100 * row["accuracy"] for row in rows],
                [100 * row["interval"][0] for row in rows],
                [100 * row["interval"][1] for row in rows],
                style="line+points",
            )
        )
    return Section(
        id="labels",
        title="Would more labels help?",
        why=("Accuracy against labelled images per class, measured on training images that were left out.",),
        figures=[Lines("curve", "Learning curve", "images per class", "accuracy %", series)],
    )

"""Fine-tuning results and advice as sections of the page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lowdim._names import short_names
from lowdim._numbers import percent
from lowdim.data import Dataset, Split, thumbnail
from lowdim.figures import Figure, Images, Lines, Matrix, Series, Table
from lowdim.report._page import Section

_SOURCE = "Li et al. 2022, arXiv 2212.12206; Kumar et al. 2022, arXiv 2202.10054 (lp-ft)."


def evidence_table(evidence: Sequence[Mapping[str, Any]]) -> Table:
    """Cross-validated accuracy of every method that was looked at."""
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


def evidence_figure(evidence: Sequence[Mapping[str, Any]], chosen: Series | None = None) -> Lines:
    """The same as points with intervals."""
    models = dict.fromkeys(entry["model"] for entry in evidence)
    short = dict(zip(models, short_names(list(models)), strict=True))
    labels = [f"{short[entry['model']]}: " * (len(models) > 1) + _method(entry) for entry in evidence]
    points = Series(
        "cross-validated on the training split",
        list(range(len(evidence))),
        [100 * entry["accuracy"] for entry in evidence],
        [100 * entry["interval"][0] for entry in evidence],
        [100 * entry["interval"][1] for entry in evidence],
        style="points",
        colour=0,
    )
    return Lines(
        "accuracy",
        "Accuracy by method",
        "",
        "accuracy %",
        [points, *([chosen] if chosen is not None else [])],
        x_ticks=labels,
        caption="Lines: 90 % intervals.",
        across=True,
    )


def _method(entry: Mapping[str, Any]) -> str:
    return f"{entry['method']} of {entry['layer']}" if entry["layer"] else entry["method"]


def _on_test(result: Mapping[str, Any]) -> Series | None:
    """The accuracy of the tuned network on the test split, beside what was cross-validated for its method."""
    accuracy = result["accuracy"]
    place = next((i for i, entry in enumerate(result["evidence"]) if entry["method"] == result["method"]), None)
    if place is None or accuracy["test"] is None:
        return None
    low, high = accuracy["interval"]
    values = [100 * accuracy["test"]], [100 * low], [100 * high]
    return Series("chosen, tuned, on the test split", [place], *values, style="points", colour=1)


def _confusion(counts: Mapping[tuple[str, str], int], names: Sequence[str], split: str) -> list[Matrix]:
    """Which class was taken for which; of many classes, those with most mistakes, and no figure where there are none."""
    wrong: Counter[str] = Counter()
    for (label, given), count in counts.items():
        wrong.update({name: count for name in {label, given} if label != given})
    part = len(names) > CONFUSED
    if part:
        most = {name for name, _ in wrong.most_common(CONFUSED)}
        names = [name for name in names if name in most]
    if not names:
        return []
    table = np.array([[counts.get((label, given), 0) for given in names] for label in names], dtype=int)
    which = f"the {len(names)} classes with most mistakes" if part else "all classes"
    return [
        Matrix(
            "confusion",
            f"Which class is taken for which ({split}, {which})",
            names,
            names,
            table,
            "class given",
            "class of the label",
            "Numbers of samples; right answers are on the diagonal. Colours are shares of each row.",
        )
    ]


CONFUSED = 20
"""Classes in a confusion matrix."""


def _mistakes(result: Mapping[str, Any], dataset: Dataset | None) -> Section:
    """The wrong samples of which the network was surest, with pictures or texts where there are some."""
    entries = result["mistakes"]
    samples = None if dataset is None else dataset[result["judged"]]
    figures: list[Figure] = []
    if samples is not None and samples.kind == "image":
        pictures = [
            (
                f"{entry['class']} → {entry['predicted']}, {percent(entry['probability'])}",
                thumbnail(samples, entry["position"]),
            )
            for entry in entries
        ]
        title = "Label → class given, with its probability"
        figures.append(Images("mistakes", title, pictures, "The surest mistakes first: hard cases, or wrong labels."))
    text = samples is not None and samples.kind == "text"
    rows = [
        [
            samples.load(entry["position"])[:200] if text and samples is not None else entry["item"],
            entry["class"],
            entry["predicted"],
            entry["probability"],
            entry["probability_of_class"],
        ]
        for entry in entries
    ]
    columns = ["text" if text else "item", "label", "class given", "its probability", "that of the label"]
    table = Table("mistakes", "Wrong, the surest first", columns, rows)
    return Section(
        id="mistakes", title=f"What it gets wrong ({result['judged']} split)", figures=figures, tables=[table]
    )


def finetune_sections(result: Mapping[str, Any], dataset: Dataset | None = None) -> list[Section]:
    """Sections of a fine-tuning run: what was chosen and why, training, classes, mistakes, updates."""
    curves = [*_training(result), *_layers(result)]
    accuracy, compressed = result["accuracy"], result["config"].get("compress_delta", False)
    watched = result["config"].get("watch", False)
    rows = [[key, value] for key, value in _facts(result, accuracy) if value is not None]
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
                *([evidence_figure(result["evidence"], _on_test(result))] if result["evidence"] else []),
                *_confusion(
                    {(one["class"], one["predicted"]): one["samples"] for one in result["confusion"]},
                    [entry["name"] for entry in result["per_class"]],
                    f"{result['judged']} split",
                ),
            ],
            tables=tables,
            notes=[*result["reasons"], *result["warnings"]],
            settings=result["config"],
            seconds=result["seconds"],
            source=_SOURCE,
        ),
        *([_mistakes(result, dataset)] if result["mistakes"] else []),
        Section(id="classes", title="By class", tables=[_per_class(result)]),
        *([Section(id="training", title="Training", figures=curves)] if curves else []),
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
        ("NC1 of what the head reads, train", result["nc1"]["train"]),
        ("NC1 of what the head reads, test", result["nc1"]["test"]),
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
        ("watched-nc1", "NC1 of what the head reads, test samples", "NC1", ("test_nc1",)),
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


def prediction_sections(
    result: Mapping[str, Any], shown: int, places: Sequence[tuple[Split, int]] = ()
) -> list[Section]:
    """Sections of a classification: which class is taken for which where that is known, how many of each class, the samples to look
    at, how sure, and the first items.
    """
    predictions, split = result["predictions"], result["config"]["split"]
    names = sorted({one["class"] for one in predictions})
    counts = Counter(one["class"] for one in predictions)
    sure = np.sort([one["probability"] for one in predictions])
    share = (np.arange(len(sure)) + 0.5) / max(len(sure), 1)
    count = f"all {len(predictions)} samples" if len(predictions) > 1 else "the sample"
    which = count if split == "all" else f"{split} split"
    columns = ["item", "class", "probability"]
    rows = [[one[name] for name in columns] for one in predictions[:shown]]
    if any(one.get("unknown") for one in predictions):
        columns = [*columns, "unlike all"]
        rows = [[*row, "unknown" if one["unknown"] else ""] for row, one in zip(rows, predictions, strict=False)]
    title = f"{which} of {result['config']['data']}"
    figures: list[Figure] = [
        Lines(
            "counts",
            "Samples given each class",
            "",
            "samples",
            [Series("samples", list(range(len(names))), [counts[name] for name in names], style="bars")],
            x_ticks=names,
            across=True,
        ),
        *_to_look_at(result, places),
        Lines(
            "sure",
            "How sure the network is",
            "probability of the class given",
            "share of samples below",
            [Series("share", sure, share)],
        ),
    ]
    if result["accuracy"] is not None:
        pairs = Counter((one["label"], one["class"]) for one in predictions if one["label"] in result["classes"])
        figures[:0] = _confusion(pairs, sorted({name for pair in pairs for name in pair}), which)
    first = Table(
        "first",
        f"{title}: the first {len(rows)}" if len(rows) < len(predictions) else title,
        columns,
        rows,
    )
    return [
        Section(
            id="predictions",
            title="Predictions",
            figures=figures,
            tables=[first],
            notes=result["warnings"],
            settings=result["config"],
            seconds=result["seconds"],
        )
    ]


def _to_look_at(result: Mapping[str, Any], places: Sequence[tuple[Split, int]]) -> list[Images]:
    """Pictures: the surest mistakes where right and wrong are known, else those of which the network is least sure."""
    if not places or places[0][0].kind != "image":
        return []
    known, predictions = result["accuracy"] is not None, result["predictions"]
    chosen = [index for index, one in enumerate(predictions) if not known or one["class"] != one["label"]]
    chosen.sort(key=lambda index: predictions[index]["probability"] * (-1 if known else 1))
    pictures = [
        (
            f"{predictions[index]['label']} → " * known
            + f"{predictions[index]['class']}, {percent(predictions[index]['probability'])}",
            thumbnail(*places[index]),
        )
        for index in chosen[:LOOKED_AT]
    ]
    title = "Wrong, the surest first: label → class given" if known else "Of these the network is least sure"
    return [Images("look", title, pictures)] if pictures else []


LOOKED_AT = 24
"""Pictures on the page of a classification."""


def export_sections(result: Mapping[str, Any], delta: int) -> list[Section]:
    """The section of an export: what the file weighs beside the delta, and how exact it is."""
    name = Path(result["path"]).name
    both = delta, result["bytes"]
    unit, one = next(pair for pair in (("MB", 1e6), ("kB", 1e3), ("bytes", 1)) if max(both) >= pair[1])
    sizes = Series("size", [0, 1], [size / one for size in both], style="bars")
    rows = [
        ("file", result["path"]),
        ("bytes", result["bytes"]),
        ("bytes of the delta, which needs the base network beside it", delta),
        ("largest difference of its outputs from the network's", result["max_difference"]),
        *([("tokenizer", result["tokenizer"])] if result["tokenizer"] else []),
    ]
    return [
        Section(
            "export",
            "What was written",
            figures=[Lines("size", "Size", "", unit, [sizes], x_ticks=["the delta alone", name], across=True)],
            tables=[Table("export", "The file", ["quantity", "value"], rows)],
            settings=result["config"],
            notes=result["warnings"],
            seconds=result["seconds"],
        )
    ]


def advice_sections(result: Mapping[str, Any], dataset: Dataset) -> list[Section]:
    """Sections of a recommendation: the evidence, the learning curve, and the trouble."""
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
            "Training samples to which a probe that has not seen them gives another class, more than 20 times as probable as the label: wrong "
            "labels, or hard cases. Look at them.",
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
    rows = [
        [row["method"], row["shots"], 100 * row["accuracy"], 100 * row["interval"][0], 100 * row["interval"][1]]
        for row in sorted(result["learning_curve"], key=lambda row: methods.index(row["method"]))
    ]
    columns = ["method", "labels per class", "accuracy %", "90 % low", "90 % high"]
    return Section(
        id="labels",
        title="Would more labels help?",
        why=("Accuracy against labelled images per class, measured on training images that were left out.",),
        figures=[Lines("curve", "Learning curve", "images per class", "accuracy %", series)],
        tables=[Table("curve", "Accuracy by labels", columns, rows)],
    )

"""``lowdim predict``: classify data with a delta."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lowdim.cli import _inputs as given
from lowdim.cli._common import Format, FormatOption, Json, emit_json, print_table, progress, say, wants_json

if TYPE_CHECKING:
    from torch import nn

    from lowdim._preprocessing import Preprocessing
    from lowdim.finetuning import Delta
    from lowdim.models import LoadedModel

DeltaOption = Annotated[Path, typer.Option("--delta", help="Folder that lowdim finetune printed.")]
BaseOption = Annotated[
    str | None, typer.Option("--model", help="Where the base is now [default: where it was when the delta was made].")
]


SHOWN = 20
"""Predictions that are printed; a file holds all of them."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(predict)


def predict(
    delta: DeltaOption,
    data: given.DataOption,
    split: Annotated[str, typer.Option("--split", help="train or test.")] = "test",
    csv: Annotated[Path | None, typer.Option("--csv", help="Write every prediction to this file.")] = None,
    model: BaseOption = None,
    weights: given.Weights = None,
    model_arg: given.ModelArguments = None,
    path_column: given.PathColumn = None,
    text_column: given.TextColumn = None,
    label_column: given.LabelColumn = None,
    limit: given.Limit = None,
    skip_unreadable: given.SkipUnreadable = False,
    offline: given.Offline = False,
    device: given.Device = "auto",
    batch_size: given.BatchSize = "auto",
    json: Json = False,
    format: FormatOption = Format.auto,
) -> None:
    """Classify data with a fine-tuned network.

    lowdim predict --delta lowdim-runs/finetune-0123456789/delta --data photos/ --csv predictions.csv

    lowdim predict --delta my-delta --data more.csv --path-column file --label-column label --json > predictions.json

    Prints the class and its probability for the first items, and the accuracy where the data has the same classes.
    """
    import time

    import numpy as np

    from lowdim.data import load_data
    from lowdim.finetuning import split_outputs

    begun = time.monotonic()
    dataset = load_data(
        data,
        path_column=path_column,
        text_column=text_column,
        label_column=label_column,
        limit=limit,
        skip_unreadable=skip_unreadable,
    )
    part = dataset[split]
    arguments = given.parse_arguments(model_arg)
    found, network, preprocessing = tuned_network(delta, model, weights, arguments, device, offline=offline)
    for note in dataset.notes:
        say(f"note: {note}")
    size = given.batch_size(batch_size) or 64
    with progress("classifying") as update:
        logarithms, _ = split_outputs(network, part, preprocessing, batch_size=size, progress=update)
    best = logarithms.argmax(axis=1)
    predictions = [
        {"item": item, "class": found.classes[k], "probability": float(np.exp(row[k]))}
        for item, k, row in zip(part.items, best, logarithms, strict=True)
    ]
    known = {name: index for index, name in enumerate(found.classes)}
    truth = np.array([known.get(dataset.classes[label], -1) for label in part.labels])
    accuracy = float((best == truth).mean()) if np.all(truth >= 0) and len(truth) else None
    if csv is not None:
        _write_csv(csv, predictions)
    if wants_json(json, format):
        result: dict[str, Any] = {"config": {"delta": delta, "data": dataset.name, "split": split}, "warnings": []}
        result["seconds"] = round(time.monotonic() - begun, 3)
        emit_json("predict", {**result, "predictions": predictions, "accuracy": accuracy})
        return
    rows = [[str(row["item"]), str(row["class"]), f"{row['probability']:.3f}"] for row in predictions[:SHOWN]]
    print_table(f"{part.name} split of {dataset.name}", ["item", "class", "probability"], rows)
    if len(predictions) > SHOWN:
        print(f"and {len(predictions) - SHOWN} more; --csv FILE or --json gives them all")
    if csv is not None:
        print(f"saved: {csv}")
    if accuracy is not None:
        print(f"accuracy against the labels there: {100 * accuracy:.2f} %")


def _write_csv(path: Path, predictions: "list[dict[str, Any]]") -> None:
    import csv
    import io

    from lowdim._files import write_atomic

    text = io.StringIO()
    writer = csv.DictWriter(text, ["item", "class", "probability"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(predictions)
    write_atomic(path, text.getvalue())


def tuned_network(
    folder: Path,
    model: str | None,
    weights: Path | None,
    arguments: dict[str, Any],
    device: str,
    *,
    offline: bool = False,
) -> "tuple[Delta, nn.Module, Preprocessing]":
    """The delta in a folder, applied to its base, and the preprocessing.

    Raises:
        InputError: If the delta is damaged, or the base is not the one it was made from.
    """
    from lowdim.finetuning._delta import apply_delta, read_delta

    found = read_delta(folder)
    base = load_base(found, model, weights, arguments, offline=offline)
    return found, apply_delta(base.module, found).to(given.device(device)), base.preprocessing


def load_base(
    found: "Delta",
    model: str | None,
    weights: Path | None,
    arguments: "dict[str, Any] | None" = None,
    *,
    offline: bool = False,
) -> "LoadedModel":
    """The network that a delta was made from: where it was then, or where it is now.

    A delta is data: it never decides that code is run or that a pickle is read. Only the person who typed the command does.

    Raises:
        InputError: If it cannot be found, or the delta names a network whose code would have to run.
    """
    from lowdim.errors import InputError
    from lowdim.models import load_model, runs_code

    source: dict[str, Any] = {**found.base["source"], "allow_pickle": False}
    if not source.get("spec") and model is None:
        raise InputError("The delta was made from a network in Python; say with --model where to find its base.")
    if model is not None:
        source |= {"spec": model, "arguments": arguments or {}}
    elif runs_code(source["spec"]):
        raise InputError(
            f"The delta names a base whose code would run: {source['spec']!r}. If you trust that file, name it yourself: "
            f"--model {source['spec']} (and --model-arg KEY=VALUE)."
        )
    if weights is not None:
        source["weights"] = weights
    if offline:
        source["offline"] = True
    return load_model(**source)

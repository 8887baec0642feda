"""``lowdim predict``: classify data with a delta."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lowdim.cli import _inputs as given
from lowdim.cli._command import called_from_python, page_of, with_page
from lowdim.cli._common import PageFile, Seed, keep_apart, option, progress, say
from lowdim.cli._python import Without

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from lowdim._preprocessing import Preprocessing
    from lowdim.data import Dataset, Split
    from lowdim.finetuning import Delta
    from lowdim.models import LoadedModel
    from lowdim.probe import Known
    from lowdim.report import Page, Result

DeltaOption = Annotated[
    Path,
    option("Folder that lowdim finetune printed; hf:ORG/NAME is one that was published.", "--delta", panel="Model"),
]
BaseOption = Annotated[
    str | None,
    option("Where the base is now [default: where it was when the delta was made].", "--model", panel="Model"),
    given.MODEL_OBJECTS,
]
OF_BASE = Without(("random_weights", "mean", "std", "image_size", "feature", "pool"))
"""What the delta itself says of its base."""
_NAMED = "weights", "weights_key", "arguments"
"""What is of no use to a network that is there."""


SHOWN = 20
"""Predictions that are printed; a file holds all of them."""


@called_from_python
def predict(
    delta: DeltaOption,
    data: Annotated[
        str,
        given.data_option(" Labels may be missing; one picture file will do."),
        given.Objects(given.DATA_OBJECTS.types.removesuffix(" | None"), "Or inputs alone, with labels, or a frame."),
    ],
    split: Annotated[
        str | None,
        option("test, train or all [default: the test split of data that has its own, else all].", panel="Data"),
    ] = None,
    seed: Seed = 0,
    csv: Annotated[
        Path | None, option("Write every prediction to this file, with its label and the probabilities of all classes.")
    ] = None,
    views: Annotated[int, option("2: images are also seen mirrored, and the probabilities averaged.")] = 1,
    model: BaseOption = None,
    page: PageFile = None,
    *,
    loading: Annotated[given.Loading, OF_BASE],
    reading: Annotated[given.Reading, Without(("shots", "task"))],
    running: Annotated[given.Running, Without(("cache_budget", "cache", "seed", "out", "fresh"))],
) -> "Result":
    """Classify data with a fine-tuned network.

    lowdim predict --delta lowdim-runs/finetune-0123456789/delta --data photos/ --csv predictions.csv

    lowdim predict --delta my-delta --data more.csv --path-column file --label-column label --json > predictions.json

    Prints the class and its probability for the first items, and the accuracy where the data has a test split, or where a split
    is asked for, with the same classes. Data without labels is a folder of pictures, one picture, or a table. Items that are unlike
    all training samples are called unknown, where nothing but a head was fitted to those; files keep the class beside it.
    """
    import time

    import numpy as np

    from lowdim._balance import balanced_accuracy, majority_warnings
    from lowdim.data._batches import cut_texts
    from lowdim.data._finite import some
    from lowdim.errors import InputError, NonFiniteError, UsageError
    from lowdim.finetuning._delta import delta_folder, read_delta, tuned_parts
    from lowdim.finetuning._evaluate import without_class
    from lowdim.report import Result

    begun = time.monotonic()
    if views not in (1, 2):
        raise UsageError(f"There are two views of an image, as it is and mirrored, not {views}.", argument="views")
    keep_apart({"csv": csv, "page": page}, [data, loading.weights, model], delta_folder(delta))
    usual = read_delta(delta).notes.get("columns")
    dataset = reading.dataset(
        data,
        seed,
        whole=split in (None, "all"),
        usual=usual if isinstance(usual, dict) else None,
    )
    names = _splits(dataset, split)
    parts = [dataset[name] for name in names]
    items = [item for part in parts for item in part.items]
    if not items:
        raise InputError(f"{dataset.name} has no sample that can be classified.")
    if views > 1 and any(part.kind != "image" for part in parts):
        raise UsageError(f"Only images can be mirrored, but {dataset.name} has none.", argument="views")
    found, network, preprocessing, changed = tuned_network(delta, model, loading, running.device)
    say(given.inputs_line(found.base["name"] or "a network given in Python", preprocessing, dataset))
    say(given.feature_line(tuned_parts(network)[0].feature.as_dict()))
    for note in dataset.notes:
        say(f"note: {note}")
    size = given.batch_size(running.batch_size) or 64
    with progress("classifying") as update:
        outputs = [_outputs(network, part, preprocessing, found.known, views, size, update) for part in parts]
    logarithms, strange = (np.concatenate(column) for column in zip(*outputs, strict=True))
    labels = np.concatenate([part.labels for part in parts])
    without = without_class(logarithms)
    left_out = [item for item, bad in zip(items, without, strict=True) if bad]
    if len(left_out) == len(items):
        raise NonFiniteError(
            f"Inputs or outputs of all {len(items)} items are NaN or infinite: nothing can be classified."
        )
    items, logarithms, labels, strange = (
        [i for i, bad in zip(items, without, strict=True) if not bad],
        logarithms[~without],
        labels[~without],
        strange[~without],
    )
    best = logarithms.argmax(axis=1)
    probabilities = np.exp(logarithms)
    predictions = [
        {
            "item": item,
            "class": found.classes[k],
            "probability": float(row[k]),
            "label": dataset.classes[label] if label >= 0 else None,
            "unknown": None if found.known is None else bool(how > found.known.threshold),
            "strangeness": None if found.known is None else float(how),
        }
        for item, k, row, label, how in zip(items, best, probabilities, labels, strange, strict=True)
    ]
    parted = len(names) == 1 and names[0] == "test" and "train" in dataset.splits
    again = (
        np.isin(dataset["test"].contents, dataset["train"].contents)[~without]
        if parted
        else np.zeros(len(labels), bool)
    )
    doubts = _doubts(dataset, names, seed, asked=split is not None)
    right, warnings = _right(best, labels, dataset.classes, found.classes, doubts, asked=split is not None)
    measured: dict[str, float | None] = dict.fromkeys(("accuracy", "balanced_accuracy", "accuracy_without_copies"))
    if right is not None:
        known = np.isfinite(right)
        measured |= {"accuracy": float(right[known].mean()), "balanced_accuracy": balanced_accuracy(right, labels)}
        warnings += majority_warnings("accuracy", right, labels, dataset.classes)
        if 0 < (again & known).sum() < known.sum():
            measured["accuracy_without_copies"] = float(right[known & ~again].mean())
            warnings.append(
                f"{(again & known).sum()} of {known.sum()} test samples are also in train: the accuracy is {100 * right[known].mean():.1f} %, and "
                f"{100 * right[known & ~again].mean():.1f} % without them."
            )
    if left_out:
        several = f"{len(left_out)} of {len(items) + len(left_out)} items are left out, their inputs or outputs are NaN or infinite: "
        changed = [*changed, f"{several}{some(left_out, range(len(left_out)))}"]
    cut = [message for part in parts for message in cut_texts(part, preprocessing)]
    warnings = [*changed, *cut, *warnings]
    chosen = names[0] if len(names) == 1 else "all"
    if csv is not None:
        _write_csv(csv, predictions, found.classes, probabilities)
    result: dict[str, Any] = {
        "config": {"delta": str(delta), "data": dataset.name, "split": chosen, "seed": seed, "views": views},
        "warnings": warnings,
        "seconds": round(time.monotonic() - begun, 3),
        "classes": list(found.classes),
        "predictions": predictions,
        "judged": 0 if right is None else int(np.isfinite(right).sum()),
        "left_out": left_out,
        **measured,
    }
    places = [(part, index) for part in parts for index in range(len(part))]
    shown = _page(result, [place for place, bad in zip(places, without, strict=True) if not bad])
    return with_page(Result("predict", result, shown, remarks=_remarks(result, csv)), page)


def _outputs(
    network: "nn.Module",
    part: "Split",
    preprocessing: "Preprocessing",
    known: "Known | None",
    views: int,
    size: int,
    update: "Callable[[int, int], None] | None",
) -> "tuple[np.ndarray, np.ndarray]":
    """Log probabilities of the classes, the mean of those of the views, and how strange each sample is; NaN where that is not known."""
    import numpy as np

    from lowdim.finetuning import split_outputs
    from lowdim.finetuning._evaluate import averaged, strangeness_of

    logarithms, features = split_outputs(network, part, preprocessing, batch_size=size, progress=update)
    if views > 1:
        mirrored, _ = split_outputs(network, part, preprocessing, batch_size=size, mirrored=True, progress=update)
        logarithms = averaged([logarithms, mirrored])
    strange = strangeness_of(network, known, logarithms, features)
    return logarithms, np.full(len(logarithms), np.nan) if strange is None else strange


def _page(result: dict[str, Any], places: "Sequence[tuple[Split, int]]") -> "Page":
    from lowdim.report.finetuning import prediction_sections

    sections = prediction_sections(result, SHOWN, places)
    return page_of("predict", result, f"Classes of {result['config']['data']}", sections)


def _remarks(result: dict[str, Any], csv: Path | None) -> list[str]:
    lines: list[str] = []
    if len(result["predictions"]) > SHOWN:
        lines.append(f"and {len(result['predictions']) - SHOWN} more; `csv=FILE` or `json=True` gives them all")
    return [*lines, *([f"saved: {csv}"] if csv is not None else [])]


def _splits(dataset: "Dataset", split: str | None) -> list[str]:
    """Names of the splits to classify."""
    if split not in (None, "all"):
        return [dataset[split].name]
    return ["test"] if split is None and "test" in dataset.splits else list(dataset.splits)


def _right(
    best: "np.ndarray",
    labels: "np.ndarray",
    names: tuple[str, ...],
    classes: tuple[str, ...],
    doubts: list[str],
    *,
    asked: bool,
) -> "tuple[np.ndarray | None, list[str]]":
    """1 for the samples with the class of their label, 0 for the others, NaN for those whose label the network cannot give, where that
    means something, and what to know about it."""
    import numpy as np

    there = [names[k] for k in np.unique(labels) if k >= 0]
    strangers = [name for name in there if name not in classes]
    place = {name: number for number, name in enumerate(classes)}
    truth = np.array([place.get(names[k], -1) if k >= 0 else -1 for k in labels])
    said: list[str] = []
    if strangers:
        number = int(((labels >= 0) & (truth < 0)).sum())
        spelt = {name.strip().casefold(): name for name in classes}
        alike = [f"{name!r} for {spelt[key]!r}" for name in strangers if (key := name.strip().casefold()) in spelt]
        remedy = f" They differ in spelling alone ({_some(alike)}): write them as the network's." if alike else ""
        said.append(
            f"the labels {_some(strangers)} of {number:,} samples are not among the network's classes ({_some(classes)}).{remedy}"
        )
    if there and (labels < 0).any():
        said.append(f"{int((labels < 0).sum()):,} of {len(labels):,} samples have no label.")
    if (truth < 0).all():
        return None, [f"There is no accuracy: {one}" for one in said]
    if doubts and not asked:
        return None, doubts
    counted = f"The accuracy is that of the {int((truth >= 0).sum()):,} others: "
    return np.where(truth < 0, np.nan, best == truth), [*doubts, *(counted + one for one in said)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


def _doubts(dataset: "Dataset", names: list[str], seed: int, *, asked: bool) -> list[str]:
    """The warning where the network may have been tuned on these samples."""
    if names == ["test"]:
        drawn = (
            f"The test split was drawn with `seed={seed}`: after finetune with another seed it holds training samples."
        )
        return [] if dataset.own_split else [drawn]
    seen = "These samples are no test split: training samples may be among them."
    remedy = "So no accuracy is given; `split=all` gives it, and `split=test`, with the `seed` that finetune had, gives that of its test split."
    return [seen if asked else f"{seen} {remedy}"]


def _write_csv(
    path: Path, predictions: "list[dict[str, Any]]", classes: Sequence[str], probabilities: "np.ndarray"
) -> None:
    """One row per sample: what is printed, its label where it has one, and the probability of every class."""
    import csv
    import io

    from lowdim._files import write_atomic
    from lowdim.report._tables import inert

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*predictions[0], *(f"probability of {name}" for name in classes)])
    for one, row in zip(predictions, probabilities.tolist(), strict=True):
        said = {**one, "class": inert(one["class"]), "label": one["label"] and inert(one["label"])}
        writer.writerow([*said.values(), *row])
    write_atomic(path, text.getvalue())


def tuned_network(
    folder: Path,
    model: "str | LoadedModel | nn.Module | None",
    loading: given.Loading,
    device: str = "cpu",
) -> "tuple[Delta, nn.Module, Preprocessing, list[str]]":
    """The delta in a folder, applied to its base; the preprocessing of its tuning, and a warning if the base's is another.

    Raises:
        InputError: If the delta is damaged, or the base is not the one it was made from.
    """
    from lowdim.finetuning._delta import apply_delta, read_delta, tuned_preprocessing

    found = read_delta(folder)
    base = load_base(found, model, loading)
    network = apply_delta(base.module, found).to(given.device(device))
    return found, network, *tuned_preprocessing(found, base.preprocessing)


def load_base(found: "Delta", model: "str | LoadedModel | nn.Module | None", loading: given.Loading) -> "LoadedModel":
    """The network that a delta was made from: where it was then, or where it is now.

    A delta is data: it never decides that code is run or that a pickle is read. Only the person who typed the command does.

    Raises:
        InputError: If it cannot be found, or the delta names a network whose code would have to run.
    """
    from lowdim.errors import InputError, UsageError
    from lowdim.models import as_model, load_model, runs_code

    options = loading.options()
    if model is not None and given.spelled(model) is None:
        return as_model(model, kind=str(found.preprocessing["kind"]), **{name: options[name] for name in _NAMED})
    source: dict[str, Any] = {**found.base["source"], "allow_pickle": loading.allow_pickle}
    if model is None and options["arguments"]:
        raise UsageError("`model_arg` belongs to a network that `model` names.", argument="model_arg")
    if not source.get("spec") and model is None:
        raise InputError("The delta was made from a network in Python; say with `model` where to find its base.")
    if model is not None:
        source |= {"spec": model, "arguments": options["arguments"]}
    elif runs_code(source["spec"]):
        raise InputError(
            f"The delta names a base whose code would run: {source['spec']!r}. If you trust that file, name it yourself: "
            f"`model={source['spec']}` (and `model_arg=KEY=VALUE`)."
        )
    source |= {name: options[name] for name in ("weights", "weights_key", "offline") if options[name]}
    return load_model(**source)

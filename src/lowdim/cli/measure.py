"""``lowdim measure``: how the classes separate in a network, layer by layer."""

import math
import shlex
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lowdim._numbers import percent
from lowdim.cli import _completion
from lowdim.cli import _inputs as given
from lowdim.cli._command import Listing, called_from_python, page_of, run_folder
from lowdim.cli._common import joined, option, progress, say
from lowdim.cli._python import Without

if TYPE_CHECKING:
    from lowdim.data import Dataset
    from lowdim.models import LoadedModel
    from lowdim.report import Page, Result


class SplitChoice(StrEnum):
    """Which splits to measure."""

    train = "train"
    test = "test"
    both = "both"


class WeightingChoice(StrEnum):
    """How classes of different size count."""

    pooled = "pooled"
    class_balanced = "class_balanced"
    size_weighted = "size_weighted"


@called_from_python
def measure(
    model: given.Model,
    data: given.DataUnlessListing = None,
    layers: Annotated[
        str | None,
        option("Names or globs, by commas [default: blocks and the feature].", autocompletion=_completion.layers),
    ] = None,
    list_layers: Annotated[bool, option("Print the layer names and stop.", "--list-layers")] = False,
    pool: Annotated[
        list[given.PoolChoice] | None,
        option("May be repeated [default: avg, and the feature as the network pools it]."),
    ] = None,
    split: Annotated[SplitChoice, option("Which splits to measure.")] = SplitChoice.both,
    outliers: Annotated[int, option("List so many suspected labels.", min=0)] = 0,
    weighting: Annotated[WeightingChoice, option("How classes count in NC1 and D.")] = WeightingChoice.pooled,
    unbiased: Annotated[bool, option("Divide class covariances by n - 1.", "--unbiased")] = False,
    *,
    reading: given.Reading,
    loading: Annotated[given.Loading, Without(("pool",))],
    running: given.Running,
) -> "Result | Listing":
    """How good are this model's features on my data, layer by layer?

    lowdim measure --model digits --data digits

    lowdim measure --model timm:resnet18 --data photos/ --outliers 20

    lowdim measure --model nets.py:resnet20 --data cifar.npz --split test --mean .485,.456,.406 --std .229,.224,.225

    lowdim measure --model nets.py:mlp --data diabetes.csv --task regression --label-column target

    Prints NC1 (within-class over between-class scatter, 0 is full collapse) with its chance level and its held-out
    value, the separation D, the accuracy of the nearest class mean, and writes a page with the figures.
    Where labels are numbers: how much of them is linear in each layer, and how low-dimensional it is.
    Several processes: torchrun --nproc-per-node 2 -m lowdim measure ...
    """
    options = loading.options()
    if list_layers:
        return _listing(given.network(model, **options))
    given.require_network(model)
    dataset = reading.dataset(data, running.seed)
    network = given.network(model, kind=dataset.kind, **options)
    splits = [name for name in dataset.splits if split == "both" or name == split] or [dataset[split].name]
    config: dict[str, Any] = {
        "model": given.model_identity(network),
        "data": reading.identity(dataset, shots=reading.shots),
        "layers": layers,
        "pool": [str(choice) for choice in pool] if pool else None,
        "split": splits,
        "outliers": outliers,
        "weighting": str(weighting),
        "unbiased": unbiased,
        "device": given.device(running.device),
        "batch_size": given.batch_size(running.batch_size),
        "cache_budget": running.cache_budget,
        "seed": running.seed,
    }
    if dataset.outputs:
        config = {"task": str(reading.task), "outputs": list(dataset.outputs)} | _for_regression(config)
    say(given.model_line(network, dataset))
    for note in [*network.notes, *dataset.notes]:
        say(f"note: {note}")
    typed, spec, where = "", given.spelled(model), given.spelled(data)
    if spec and where and not dataset.outputs:
        # advise takes no file of weights
        words = [
            "finetune" if loading.weights else "advise",
            "--model",
            spec,
            "--data",
            where,
            *reading.words(),
            *given.model_words(options),
        ]
        typed = shlex.join(["lowdim", *words])
    return _run(network, dataset, config, running, typed)


def _listing(network: "LoadedModel") -> Listing:
    from lowdim.models import default_layers, example_of

    chosen = set(default_layers(network.module, network.feature(example_of(network.preprocessing))))
    names = [name for name, _ in network.module.named_modules() if name]
    names += sorted(chosen - set(names))
    data = {"layers": [{"name": name, "default": name in chosen} for name in names]}
    return Listing("measure", data, [f"{name}{'   (measured by default)' * (name in chosen)}" for name in names])


def _for_regression(config: dict[str, Any]) -> dict[str, Any]:
    """Without what is about classes, which must not have been asked for."""
    from lowdim.errors import UsageError

    asked = {"outliers": 0, "weighting": "pooled", "unbiased": False}
    for name, default in asked.items():
        if config[name] != default:
            raise UsageError(f"`{name}` is about classes; with `task=regression` there are none.", argument=name)
    return {name: value for name, value in config.items() if name not in asked}


def _run(
    network: "LoadedModel",
    dataset: "Dataset",
    config: dict[str, Any],
    running: given.Running,
    typed: str,
) -> "Result":
    from lowdim.profiling import profile, regression_profile
    from lowdim.report import write_report

    started = time.monotonic()
    with (
        run_folder(running.out, "measure", config, fresh=running.fresh) as (run, folder),
        joined(run, config["device"]) as (job, known),
        progress("measuring") as update,
    ):
        if known is not None:
            return _result(known, _page(known, dataset, typed), folder)
        common: dict[str, Any] = {
            "layers": config["layers"],
            "pools": config["pool"],
            "splits": config["split"],
            "batch_size": config["batch_size"],
            "device": config["device"],
            "seed": config["seed"],
            "folder": run.state / "features",
            "cache": running.cache,
            "cache_budget": config["cache_budget"] * 1e9,
            "processes": job,
            "progress": update,
        }
        if dataset.outputs:
            found = regression_profile(network, dataset, **common)
        else:
            about_classes = {name: config[name] for name in ("weighting", "unbiased", "outliers")}
            found = profile(network, dataset, **about_classes, **common)
        result = {"config": run.config, **found.as_dict(), "seconds": round(time.monotonic() - started, 3)}
        result["warnings"] = [*given.untrained(network), *_surprising_head(result), *found.warnings]
        page = _page(result, dataset, typed)
        if job.index == 0:
            result["figures"] = write_report(run, page)
            run.finish(result)
    return _result(result, page, folder, found)


_BELOW = 0.1
"""Accuracy of a network's own head under that of class means, from which on it is asked about, if it is more than two standard deviations."""


def _surprising_head(result: dict[str, Any]) -> list[str]:
    """A warning where the features part the classes much better than the network's own head does."""
    if result["config"]["model"]["random_weights"]:
        return []
    for split, own in result.get("accuracy", {}).items():
        rows = [row for row in result["layers"] if row["split"] == split and row["ncc_accuracy"] is not None]
        best = max(rows, key=lambda row: row["ncc_accuracy"], default=None)
        if best is None:
            continue
        both = (own, best["ncc_accuracy"])
        chance = 2 * math.sqrt(sum(share * (1 - share) for share in both) / best["samples"])
        if own < best["ncc_accuracy"] - max(_BELOW, chance):
            return [
                f"the network's own head is right for {percent(own)} of the {split} samples only, the nearest class mean at {best['name']} for "
                f"{percent(best['ncc_accuracy'])}: are the inputs prepared as in training (`mean`, `std`, `image_size`), and are the classes in "
                "the order of its outputs? If not, all numbers here are of another network."
            ]
    return []


def _result(result: dict[str, Any], page: "Page", folder: Path | None, found: Any = None) -> "Result":
    from lowdim.report import Result
    from lowdim.report.profile import layer_tables, suspect_table
    from lowdim.report.regression import regression_tables

    if "outputs" in result:
        tables = regression_tables(result)
        remarks = [given.feature_line(result["feature"])]
        remarks += [
            f"R² of the network's own outputs, {split}: {value:.3f}" for split, value in result["own_r2"].items()
        ]
        return Result("measure", result, page, value=found, folder=folder, remarks=remarks, tables=tables)
    tables = [*layer_tables(result), *([suspect_table(result)] if result["outliers"] else [])]
    return Result("measure", result, page, value=found, folder=folder, remarks=_remarks(result), tables=tables)


def _page(result: dict[str, Any], dataset: "Dataset", typed: str) -> "Page":
    from lowdim.report.profile import profile_sections
    from lowdim.report.regression import regression_sections

    name, network = result["config"]["data"]["name"], given.short(result["config"]["model"]["name"])
    if "outputs" in result:
        return page_of("measure", result, f"How {name} is regressed in {network}", regression_sections(result))
    steps = [("What these features are worth with a few labels, and which method to use:", typed)] if typed else []
    title = f"How the classes of {name} separate in {network}"
    return page_of("measure", result, title, profile_sections(result, dataset), steps)


def _remarks(result: dict[str, Any]) -> list[str]:
    lines = [given.feature_line(result["feature"])]
    lines += [
        f"accuracy of the network's own head, {split}: {percent(value)}" for split, value in result["accuracy"].items()
    ]
    for split, law in result["law"].items():
        way = "falls" if law["slope"] <= 0 else "rises, where by the law it falls,"
        lines.append(
            f"law of data separation, {split}: log D {way} by {abs(law['slope']):.3f} per layer, R^2 {law['r2']:.3f}"
        )
    for split in dict.fromkeys(row["split"] for row in result["classes"]):
        worst = [row for row in result["classes"] if row["split"] == split][:3]
        told = [
            f"{row['name']} ({'' if row['ncc_accuracy'] is None else percent(row['ncc_accuracy']) + ' right, '}nearest {row['nearest_class']})"
            for row in worst
        ]
        lines.append(f"hardest classes at the last layer, {split}: {', '.join(told)}")
    return lines

"""``lowdim measure``: how the classes separate in a network, layer by layer."""

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lowdim.cli import _inputs as given
from lowdim.cli._command import Command
from lowdim.cli._common import (
    Format,
    FormatOption,
    Fresh,
    Json,
    Out,
    Seed,
    emit_json,
    joined,
    number,
    print_table,
    progress,
    say,
    this_process,
    wants_json,
    warn,
)

if TYPE_CHECKING:
    from lowdim._files import RunFolder
    from lowdim.data import Dataset
    from lowdim.models import LoadedModel


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


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(cls=Command)(measure)


def measure(
    model: Annotated[str, typer.Option("--model", help=given.MODEL_HELP)],
    data: given.DataUnlessListing = None,
    layers: Annotated[
        str | None, typer.Option("--layers", help="Names or globs, by commas [default: blocks and penultimate].")
    ] = None,
    list_layers: Annotated[bool, typer.Option("--list-layers", help="Print the layer names and stop.")] = False,
    pool: Annotated[
        list[given.PoolChoice] | None,
        typer.Option("--pool", help="May be repeated [default: avg, and the feature as the network pools it]."),
    ] = None,
    split: Annotated[SplitChoice, typer.Option("--split", help="Which splits to measure.")] = SplitChoice.both,
    outliers: Annotated[int, typer.Option("--outliers", min=0, help="List so many suspected labels.")] = 0,
    weighting: Annotated[
        WeightingChoice, typer.Option("--weighting", help="How classes count in NC1 and D.")
    ] = WeightingChoice.pooled,
    unbiased: Annotated[bool, typer.Option("--unbiased", help="Divide class covariances by n - 1.")] = False,
    limit: given.Limit = None,
    shots: given.Shots = None,
    weights: given.Weights = None,
    model_arg: given.ModelArguments = None,
    random_weights: given.RandomWeights = False,
    allow_pickle: given.AllowPickle = False,
    offline: given.Offline = False,
    mean: given.Mean = None,
    std: given.Std = None,
    image_size: given.ImageSize = None,
    feature: given.FeatureLayer = None,
    path_column: given.PathColumn = None,
    text_column: given.TextColumn = None,
    label_column: given.LabelColumn = None,
    skip_unreadable: given.SkipUnreadable = False,
    device: given.Device = "auto",
    batch_size: given.BatchSize = "auto",
    cache_budget: Annotated[
        float, typer.Option("--cache-budget", help="GB of features kept on disk, least recently used deleted first.")
    ] = 4.0,
    cache: given.Cache = None,
    seed: Seed = 0,
    out: Out = None,
    fresh: Fresh = False,
    json: Json = False,
    format: FormatOption = Format.auto,
) -> None:
    """How good are this model's features on my data, layer by layer?

    lowdim measure --model digits --data digits

    lowdim measure --model timm:resnet18 --data photos/ --outliers 20

    lowdim measure --model nets.py:resnet20 --data cifar.npz --split test --mean .485,.456,.406 --std .229,.224,.225

    Prints NC1 (within-class over between-class scatter, 0 is full collapse) with its chance level and its held-out
    value, the separation D, the accuracy of the nearest class mean, and writes a page with the figures.
    Several processes: torchrun --nproc-per-node 2 -m lowdim measure ...
    """
    from lowdim.data import load_data
    from lowdim.models import load_model

    network = load_model(
        model,
        weights=weights,
        arguments=given.parse_arguments(model_arg),
        random_weights=random_weights,
        allow_pickle=allow_pickle,
        offline=offline,
        mean=given.numbers(mean, "--mean"),
        std=given.numbers(std, "--std"),
        image_size=image_size,
        feature=feature,
    )
    if list_layers:
        _print_layers(network, as_json=wants_json(json, format))
        return
    dataset = load_data(
        given.named(data),
        path_column=path_column,
        text_column=text_column,
        label_column=label_column,
        limit=limit,
        shots=shots,
        seed=seed,
        skip_unreadable=skip_unreadable,
    )
    splits = [name for name in dataset.splits if split is SplitChoice.both or name == split.value] or [
        dataset[split.value].name
    ]
    config: dict[str, Any] = {
        "model": given.model_identity(network),
        "data": {"name": dataset.name, "splits": given.data_identity(dataset), "limit": limit, "shots": shots},
        "layers": layers,
        "pool": [choice.value for choice in pool] if pool else None,
        "split": splits,
        "outliers": outliers,
        "weighting": weighting.value,
        "unbiased": unbiased,
        "device": given.device(device),
        "batch_size": given.batch_size(batch_size),
        "cache_budget": cache_budget,
        "seed": seed,
    }
    say(f"model: {network.name}, {network.preprocessing.describe()}")
    for note in [*network.notes, *dataset.notes]:
        say(f"note: {note}")
    result, folder = _run(network, dataset, config, out, cache=cache, fresh=fresh)
    given.say_feature(result["feature"])
    for message in result["warnings"]:
        warn(message)
    if wants_json(json, format):
        emit_json("measure", result)
    elif this_process() == 0:
        _print(result)
        print(f"\npage: {folder / 'report.html'}")


def _print_layers(network: "LoadedModel", *, as_json: bool) -> None:
    from lowdim.models import default_layers, example_of

    chosen = set(default_layers(network.module, network.feature(example_of(network.preprocessing))))
    names = [name for name, _ in network.module.named_modules() if name]
    names += sorted(chosen - set(names))
    if as_json:
        emit_json("measure", {"layers": [{"name": name, "default": name in chosen} for name in names]})
        return
    for name in names:
        print(f"{name}{'   (measured by default)' if name in chosen else ''}")


def _run(
    network: "LoadedModel",
    dataset: "Dataset",
    config: dict[str, Any],
    out: Path | None,
    *,
    cache: Path | None,
    fresh: bool,
) -> tuple[dict[str, Any], Path]:
    from lowdim._files import RunFolder
    from lowdim.profiling import profile

    started = time.monotonic()
    run = RunFolder(out, "measure", config, fresh=fresh)
    with joined(run, config["device"]) as (job, known), progress("measuring") as update:
        if known is not None:
            return known, run.path
        found = profile(
            network,
            dataset,
            layers=config["layers"],
            pools=config["pool"],
            splits=config["split"],
            batch_size=config["batch_size"],
            device=config["device"],
            weighting=config["weighting"],
            unbiased=config["unbiased"],
            outliers=config["outliers"],
            seed=config["seed"],
            folder=run.state / "features",
            cache=cache,
            cache_budget=config["cache_budget"] * 1e9,
            processes=job,
            progress=update,
        )
        result = {"config": run.config, **found.as_dict(), "seconds": round(time.monotonic() - started, 3)}
        result["warnings"] = [*given.untrained(network), *found.warnings]
        if job.rank == 0:
            _write(run, result, dataset)
    return result, run.path


def _write(run: "RunFolder", result: dict[str, Any], dataset: "Dataset") -> None:
    from lowdim.report import Page, write_report
    from lowdim.report.profile import profile_sections

    name = result["config"]["model"]["name"]
    page = Page(
        title=f"{name} on {result['config']['data']['name']}",
        lead="How the classes separate, layer by layer.",
        sections=profile_sections(result, dataset),
    )
    result["figures"] = write_report(run, page)
    run.finish(result)


def _print(result: dict[str, Any]) -> None:
    pools = dict.fromkeys(layer["pool"] for layer in result["layers"])
    for pool in result["config"]["pool"] or [next(iter(pools))]:
        for entry in result["data"]:
            split = entry["split"]
            rows = [
                [
                    layer["name"] if layer["pool"] == pool else f"{layer['name']} ({layer['pool']})",
                    str(layer["width"]),
                    number(layer["nc1"]),
                    number(layer["nc1_heldout"]),
                    number(layer["nc1_chance"]),
                    number(layer["separation"]),
                    number(layer["ncc_accuracy"]),
                    number(layer["effective_rank"]),
                    number(layer["noise_share"], 2),
                ]
                for layer in result["layers"]
                if layer["split"] == split and (layer["pool"] == pool or not result["config"]["pool"])
            ]
            title = f"{split}: {entry['samples']} samples, {entry['classes']} classes, pooled by {pool}"
            head = ["layer", "width", "NC1", "held-out", "chance", "D", "NCC accuracy", "eff. rank", "noise share"]
            print_table(title, head, rows)
    _print_summary(result)


def _print_summary(result: dict[str, Any]) -> None:
    for split, accuracy in result["accuracy"].items():
        print(f"accuracy of the network's own head, {split}: {accuracy:.4f}")
    for split, law in result["law"].items():
        print(f"law of data separation, {split}: log D changes by {law['slope']:.3f} per layer, R^2 {law['r2']:.3f}")
    for split in dict.fromkeys(row["split"] for row in result["classes"]):
        rows = [row for row in result["classes"] if row["split"] == split][:3]
        worst = ", ".join(
            f"{row['name']} ({number(row['nc1_share'], 2)}, nearest {row['nearest_class']})" for row in rows
        )
        print(f"most of NC1 at the last layer, {split}: {worst}")
    if result["outliers"]:
        rows = [
            [outlier["item"], outlier["split"], outlier["class"], outlier["nearest_class"], number(outlier["excess"])]
            for outlier in result["outliers"]
        ]
        print_table(
            "suspected labels, most suspicious first", ["item", "split", "labelled", "looks like", "excess"], rows
        )

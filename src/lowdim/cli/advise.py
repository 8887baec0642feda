"""``lowdim advise``: which network, which method, or just a probe."""

import shlex
import time
from functools import partial
from json import dumps as json_text
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
    number,
    print_table,
    progress,
    say,
    wants_json,
    warn,
)
from lowdim.cli.finetune import print_evidence
from lowdim.errors import UsageError

if TYPE_CHECKING:
    from lowdim._files import RunFolder
    from lowdim.data import Dataset
    from lowdim.finetuning import Advice
    from lowdim.ranking import Candidate


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(cls=Command)(advise)


def advise(
    data: given.DataOption,
    model: Annotated[list[str] | None, typer.Option("--model", help=f"May be repeated. {given.MODEL_HELP}")] = None,
    models: Annotated[
        Path | None,
        typer.Option("--models", help="TOML file with one [[models]] table per candidate, as for lowdim rank."),
    ] = None,
    shots: Annotated[str, typer.Option("--shots", help="Images per class of the learning curve.")] = "5,10,20",
    outliers: Annotated[int, typer.Option("--outliers", min=0, help="List so many suspected labels.")] = 10,
    limit: given.Limit = None,
    model_arg: given.ModelArguments = None,
    random_weights: given.RandomWeights = False,
    allow_pickle: given.AllowPickle = False,
    offline: given.Offline = False,
    mean: given.Mean = None,
    std: given.Std = None,
    image_size: given.ImageSize = None,
    feature: given.FeatureLayer = None,
    pool: given.PoolOption = None,
    path_column: given.PathColumn = None,
    text_column: given.TextColumn = None,
    label_column: given.LabelColumn = None,
    skip_unreadable: given.SkipUnreadable = False,
    device: given.Device = "auto",
    cache_budget: Annotated[
        float, typer.Option("--cache-budget", help="GB on disk for stored prefixes, least recently used deleted first.")
    ] = 4.0,
    cache: given.Cache = None,
    seed: Seed = 0,
    out: Out = None,
    fresh: Fresh = False,
    json: Json = False,
    format: FormatOption = Format.auto,
) -> None:
    """I have few labels and some networks: what should I do?

    lowdim advise --data photos/ --model timm:resnet50 --model timm:vit_base_patch16_224

    lowdim advise --data digits-noisy --model digits-split --model digits-0-4

    Says which network and method to use, the accuracy to expect with its interval, whether more labels would help, which
    classes and images are the trouble, and prints the command to run. Looks at the training split only.
    """
    from lowdim.data import load_data
    from lowdim.models import load_model

    arguments: dict[str, Any] = {
        "arguments": given.parse_arguments(model_arg),
        "random_weights": random_weights,
        "allow_pickle": allow_pickle,
        "offline": offline,
        "mean": given.numbers(mean, "--mean"),
        "std": given.numbers(std, "--std"),
        "image_size": image_size,
        "feature": feature,
        "pool": pool and pool.value,
    }
    candidates = given.candidates(model, models, {key: value for key, value in arguments.items() if value})
    saved = next((candidate.name for candidate in candidates if candidate.model is None), None)
    if saved is not None:
        raise UsageError(f"{saved} is saved features, which cannot be trained further. Compare it with lowdim rank.")
    dataset = load_data(
        data,
        path_column=path_column,
        text_column=text_column,
        label_column=label_column,
        limit=limit,
        seed=seed,
        skip_unreadable=skip_unreadable,
    )
    config: dict[str, Any] = {
        "models": [candidate.identity() for candidate in candidates],
        "data": {"name": dataset.name, "splits": given.data_identity(dataset), "limit": limit},
        "shots": _sizes(shots),
        "outliers": outliers,
        "device": given.device(device),
        "cache_budget": cache_budget,
        "seed": seed,
    }
    for note in dataset.notes:
        say(f"note: {note}")
    options = {
        "--limit": limit,
        "--path-column": path_column,
        "--text-column": text_column,
        "--label-column": label_column,
        "--skip-unreadable": skip_unreadable,
        "--device": None if device == "auto" else device,
        "--seed": seed or None,
    }
    loaders = [
        partial(load_model, candidate.model or "", name=candidate.name, **candidate.options) for candidate in candidates
    ]
    words = {candidate.name: [candidate.model or "", *_model_words(candidate)] for candidate in candidates}
    result, folder = _run(loaders, dataset, data, config, words, given.words(options), out, cache=cache, fresh=fresh)
    result["warnings"] = [*given.seen_by_any(candidates, dataset), *result["warnings"]]
    for message in result["warnings"]:
        warn(message)
    if wants_json(json, format):
        emit_json("advise", result)
    else:
        _print(result)
        print(f"\npage: {folder / 'report.html'}")


def _sizes(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--shots takes positive numbers separated by commas, not {text!r}.")
    return [int(part) for part in parts]


def _model_words(candidate: "Candidate") -> list[str]:
    """The options of `lowdim finetune` that load a candidate as it was loaded here."""
    settings = dict(candidate.options)
    size = settings.get("image_size")
    return given.words(
        {
            "--weights": settings.get("weights"),
            "--model-arg": [f"{key}={json_text(value)}" for key, value in settings.get("arguments", {}).items()],
            "--random-weights": settings.get("random_weights"),
            "--allow-pickle": settings.get("allow_pickle"),
            "--offline": settings.get("offline"),
            "--mean": _listed(settings.get("mean")),
            "--std": _listed(settings.get("std")),
            "--feature": settings.get("feature"),
            "--pool": settings.get("pool"),
            "--image-size": size if isinstance(size, int | None) else _side(candidate.name, *size),
        }
    )


def _side(name: str, height: int, width: int) -> int:
    if height != width:
        raise UsageError(f"{name}: image_size = [{height}, {width}] is not square; lowdim finetune takes one side.")
    return height


def _listed(numbers: list[float] | None) -> str | None:
    return None if numbers is None else ",".join(map(repr, numbers))


def _run(
    loaders: list[Any],
    dataset: "Dataset",
    data: str,
    config: dict[str, Any],
    words: dict[str, list[str]],
    options: list[str],
    out: Path | None,
    *,
    cache: Path | None,
    fresh: bool,
) -> tuple[dict[str, Any], Path]:
    from lowdim._files import RunFolder
    from lowdim.finetuning import advise as look

    started = time.monotonic()
    with RunFolder(out, "advise", config, fresh=fresh) as run:
        known = run.finished()
        if known is not None:
            return known, run.path
        with progress("looking") as update:
            found = look(
                loaders,
                dataset,
                run.state,
                shots=config["shots"],
                outliers=config["outliers"],
                device=config["device"],
                cache=cache,
                cache_budget=config["cache_budget"] * 1e9,
                seed=config["seed"],
                progress=lambda what, done, total: update(done, total, what),
            )
        result = {"config": run.config, **_as_dict(found, data, words, options)}
        result["seconds"] = round(time.monotonic() - started, 3)
        _write(run, result, dataset)
    return result, run.path


def _as_dict(found: "Advice", data: str, words: dict[str, list[str]], options: list[str]) -> dict[str, Any]:
    from dataclasses import asdict

    chosen = found.recommendation
    spec, *loading = words[chosen.model]
    how = given.words({f"--{name}": value for name, value in found.arguments().items()})
    outliers = [asdict(entry) for entry in found.outliers]
    for entry in outliers:
        entry["class"] = entry.pop("class_")
    return {
        "recommendation": {
            "model": chosen.model,
            "method": chosen.method,
            "layer": chosen.layer,
            "expected_accuracy": chosen.accuracy,
            "interval": list(chosen.interval),
            "command": shlex.join(["lowdim", "finetune", "--model", spec, "--data", data, *how, *loading, *options]),
        },
        "features": dict(found.features),
        "baseline_wins": found.baseline_wins,
        "reasons": list(found.reasons),
        "evidence": [entry.as_dict() for entry in found.evidence],
        "learning_curve": list(found.learning_curve),
        "classes": [asdict(entry) for entry in found.classes],
        "outliers": outliers,
        "warnings": list(found.warnings),
    }


def _write(run: "RunFolder", result: dict[str, Any], dataset: "Dataset") -> None:
    from lowdim.report import Page, write_report
    from lowdim.report.finetuning import advice_sections

    recommended = result["recommendation"]
    page = Page(
        title=f"What to do with {result['config']['data']['name']}",
        lead=f"{recommended['model']}, {recommended['method']}: about {100 * recommended['expected_accuracy']:.0f} % to expect.",
        sections=advice_sections(result, dataset),
        next_steps=[("Do it:", recommended["command"])],
    )
    result["figures"] = write_report(run, page)
    run.finish(result)


def _print(result: dict[str, Any]) -> None:
    for name, feature in result["features"].items():
        given.say_feature(feature, name)
    print_evidence(result["evidence"])
    for reason in result["reasons"]:
        print(reason)
    for row in result["learning_curve"]:
        low, high = row["interval"]
        print(
            f"{row['shots']} per class, {row['method']}: {100 * row['accuracy']:.1f} %  (90 %: {100 * low:.1f} - {100 * high:.1f})"
        )
    worst = sorted(result["classes"], key=lambda entry: entry["ncc_accuracy"] or 0)[:3]
    print("hardest classes: " + ", ".join(f"{entry['name']} (near {entry['nearest_class']})" for entry in worst))
    if result["outliers"]:
        rows = [
            [entry["item"], entry["class"], entry["nearest_class"], number(entry["excess"])]
            for entry in result["outliers"]
        ]
        print_table("suspected labels, most suspicious first", ["item", "labelled", "looks like", "excess"], rows)
    recommended = result["recommendation"]
    low, high = recommended["interval"]
    if result["baseline_wins"]:
        print(
            "\nno network here does better than the baseline without a model (raw pixels or words, logistic regression)."
        )
        print("try other networks; of these, the best is:")
    print(f"\nuse {recommended['model']}, {recommended['method']} {recommended['layer'] or ''}")
    print(f"expect {100 * recommended['expected_accuracy']:.1f} %  (90 %: {100 * low:.1f} - {100 * high:.1f})")
    print(f"\n{recommended['command']}")

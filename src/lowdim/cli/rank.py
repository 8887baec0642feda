"""``lowdim rank``: which of these pre-trained models will transfer best."""

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
    number,
    print_table,
    progress,
    say,
    wants_json,
    warn,
)

if TYPE_CHECKING:
    from lowdim._files import RunFolder
    from lowdim.data import Dataset
    from lowdim.ranking import Candidate


class ScoreChoice(StrEnum):
    """The score that orders."""

    nc1 = "nc1"
    nc1_heldout = "nc1_heldout"
    h_score = "h_score"
    h_score_regularised = "h_score_regularised"
    vci = "vci"
    logme = "logme"
    sfda = "sfda"
    ncc_accuracy = "ncc_accuracy"
    leep = "leep"
    nce = "nce"
    probe_cv_accuracy = "probe_cv_accuracy"
    probe_accuracy = "probe_accuracy"


class ProbeChoice(StrEnum):
    """Where the probe's accuracy is measured."""

    test = "test"
    cv = "cv"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(cls=Command)(rank)


def rank(
    data: given.DataOption,
    model: Annotated[
        list[str] | None, typer.Option("--model", help=f"May be repeated. {given.MODEL_HELP} FILE.npz: saved features.")
    ] = None,
    models: Annotated[
        Path | None, typer.Option("--models", help="TOML file with one [[models]] table per candidate.")
    ] = None,
    by: Annotated[ScoreChoice, typer.Option("--by", help="The score that orders.")] = ScoreChoice.nc1,
    no_probe: Annotated[bool, typer.Option("--no-probe", help="Scores alone, without the linear probe.")] = False,
    probe_on: Annotated[
        ProbeChoice, typer.Option("--probe-on", help="Measure the probe on the test split, or by cross-validation.")
    ] = ProbeChoice.test,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Candidates at a time.")] = 1,
    limit: given.Limit = None,
    shots: given.Shots = None,
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
    batch_size: given.BatchSize = "auto",
    cache: given.Cache = None,
    seed: Seed = 0,
    out: Out = None,
    fresh: Fresh = False,
    json: Json = False,
    format: FormatOption = Format.auto,
) -> None:
    """Which of these pre-trained models will transfer best to my data?

    lowdim rank --model digits-split --model digits-0-4 --data digits-noisy

    lowdim rank --model timm:resnet18 --model timm:mobilenetv3_small_100 --data photos/ --image-size 160

    lowdim rank --models zoo.toml --data cifar.npz --limit 1500

    One pass per model over the training split, no training: NC1, H-score, LogME and others, with 90 % intervals over the
    samples; beside them a linear probe, and how well each score agrees with it. Candidates that share a rank cannot be told
    apart. Settings per model: a TOML file with tables

    [[models]]  name = "…"  model = "…" (or features = "FILE.npz")  weights = "…"  arguments = {…}  mean = […]  std = […]
    image_size = 32  group = "run 1" (checkpoints of one run)  layer = "…"  pool = "…"  source_accuracy = 0.7
    """
    from lowdim.data import load_data

    common = {
        "allow_pickle": allow_pickle,
        "offline": offline,
        "mean": given.numbers(mean, "--mean"),
        "std": given.numbers(std, "--std"),
        "image_size": image_size,
        "feature": feature,
        "pool": pool and pool.value,
    }
    candidates = given.candidates(model, models, {key: value for key, value in common.items() if value})
    dataset = load_data(
        data,
        path_column=path_column,
        text_column=text_column,
        label_column=label_column,
        limit=limit,
        shots=shots,
        seed=seed,
        skip_unreadable=skip_unreadable,
    )
    selection = {"limit": limit, "shots": shots, "seed": seed}
    config: dict[str, Any] = {
        "models": [candidate.identity() for candidate in candidates],
        "data": {"name": dataset.name, "splits": given.data_identity(dataset), "limit": limit, "shots": shots},
        "by": by.value,
        "probe": not no_probe,
        "probe_on": probe_on.value,
        "device": given.device(device),
        "batch_size": given.batch_size(batch_size) or 64,
        "seed": seed,
    }
    for note in dataset.notes:
        say(f"note: {note}")
    result, folder = _run(candidates, dataset, config, out, selection=selection, jobs=jobs, cache=cache, fresh=fresh)
    for row in result["scores"]:
        given.say_feature(row["feature"], row["model"])
    for row in result["failed"]:
        warn(f"{row['model']} could not be scored: {row['error']}")
    result["warnings"] = [*given.seen_by_any(candidates, dataset), *result["warnings"]]
    for message in result["warnings"]:
        warn(message)
    if wants_json(json, format):
        emit_json("rank", result)
    else:
        _print(result)
        print(f"\npage: {folder / 'report.html'}")


def _run(
    candidates: "list[Candidate]",
    dataset: "Dataset",
    config: dict[str, Any],
    out: Path | None,
    *,
    selection: dict[str, Any],
    jobs: int,
    cache: Path | None,
    fresh: bool,
) -> tuple[dict[str, Any], Path]:
    from lowdim._files import RunFolder
    from lowdim.ranking import rank as rank_models

    started = time.monotonic()
    with RunFolder(out, "rank", config, fresh=fresh) as run:
        known = run.finished()
        if known is not None:
            return known, run.path
        with progress("ranking") as update:
            found = rank_models(
                candidates,
                dataset,
                by=config["by"],
                selection=selection,
                probe=config["probe"],
                probe_on=config["probe_on"],
                jobs=jobs,
                batch_size=config["batch_size"],
                device=config["device"],
                seed=config["seed"],
                folder=run.state,
                cache=cache,
                progress=update,
            )
        result = {"config": run.config, **found.as_dict(), "seconds": round(time.monotonic() - started, 3)}
        _write(run, result)
    return result, run.path


def _write(run: "RunFolder", result: dict[str, Any]) -> None:
    from lowdim.report import Page, write_report
    from lowdim.report.ranking import ranking_sections

    page = Page(
        title=f"{len(result['scores'])} models on {result['config']['data']['name']}",
        lead="Which pre-trained features suit this data.",
        sections=ranking_sections(result),
    )
    result["figures"] = write_report(run, page)
    run.finish(result)


_SHOWN = {
    "nc1": "NC1",
    "nc1_heldout": "held-out",
    "h_score_regularised": "H-score (reg.)",
    "logme": "LogME",
    "sfda": "SFDA",
    "ncc_accuracy": "NCC",
    "probe_accuracy": "probe",
}


def _print(result: dict[str, Any]) -> None:
    names = list(dict.fromkeys([result["by"], *_SHOWN]))
    shown = [name for name in names if any(row[name] is not None for row in result["scores"])]
    rows = [
        [
            str(row["rank"]),
            row["model"],
            *(_cell(row, name, result["by"]) for name in shown),
            f"{row['width']:,}",
            f"{row['parameters']:,}" if row["parameters"] else "-",
        ]
        for row in result["scores"]
    ]
    head = ["rank", "model", *(_SHOWN.get(name, name) for name in shown), "width", "parameters"]
    print_table(f"best first by {result['by']}; the same rank: cannot be told apart", head, rows)
    if not result["agreement"]:
        return
    rows = [
        [
            name,
            number(found["kendall"], 2),
            number(found["weighted"], 2),
            number(found["spearman"], 2),
            "-" if found["interval"] is None else "{:.2f} to {:.2f}".format(*found["interval"]),
        ]
        for name, found in result["agreement"].items()
    ]
    title = "agreement with the probe (1: the same order); last: what is known without any data"
    print_table(title, ["score", "Kendall", "weighted", "Spearman", "90 % interval"], rows)


def _cell(row: dict[str, Any], name: str, by: str) -> str:
    interval = row["intervals"].get(name)
    if interval is None or name not in (by, "probe_accuracy"):
        return number(row[name])
    return f"{number(row[name])} [{number(interval[0])}, {number(interval[1])}]"

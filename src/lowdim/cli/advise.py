"""``lowdim advise``: which network, which method, or just a probe."""

import shlex
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lowdim.cli import _inputs as given
from lowdim.cli._command import called_from_python, page_of, run_folder
from lowdim.cli._common import option, progress, say
from lowdim.cli._inputs import positive
from lowdim.cli._python import Without
from lowdim.errors import UsageError

if TYPE_CHECKING:
    from lowdim.data import Dataset
    from lowdim.finetuning import Advice
    from lowdim.report import Page, Result


@called_from_python
def advise(
    model: Annotated[list[str] | None, given.candidate_option(), given.CANDIDATE_OBJECTS] = None,
    data: given.DataOption = None,
    models: Annotated[
        Path | None, option("TOML file with one [[models]] table per candidate, as for lowdim rank.", panel="Model")
    ] = None,
    shots: Annotated[str, option("Images per class of the learning curve.")] = "5,10,20",
    outliers: Annotated[int, option("List at most so many suspected labels.", min=0)] = 10,
    test_share: given.TestShare = 0.2,
    *,
    reading: Annotated[given.Reading, Without(("shots", "task"))],
    loading: Annotated[given.Loading, Without(("weights", "weights_key"))],
    running: Annotated[given.Running, Without(("batch_size",))],
) -> "Result":
    """I have few labels and some networks: what should I do?

    lowdim advise --data photos/ --model timm:resnet50 --model timm:vit_base_patch16_224

    lowdim advise --data digits-noisy --model digits-split --model digits-0-4

    Says which network and method to use, the accuracy to expect with its interval, whether more labels would help, which
    classes and images are the trouble, and prints the command to run. Looks at the training split only.
    """
    dataset = reading.dataset(data, running.seed, test_share=test_share)
    candidates = given.candidates(model, models, {key: value for key, value in loading.options().items() if value})
    saved = next((candidate.name for candidate in candidates if candidate.model is None), None)
    if saved is not None:
        raise UsageError(f"{saved} is saved features, which cannot be trained further. Compare it with lowdim rank.")
    config: dict[str, Any] = {
        "models": [candidate.identity() for candidate in candidates],
        "data": reading.identity(dataset),
        "shots": _sizes(shots),
        "outliers": outliers,
        "test_share": None if dataset.own_split else test_share,
        "device": given.device(running.device),
        "cache_budget": running.cache_budget,
        "seed": running.seed,
    }
    for note in dataset.notes:
        say(f"note: {note}")
    set_ = {
        "--test-share": None if dataset.own_split or test_share == 0.2 else test_share,
        "--device": None if running.device == "auto" else running.device,
        "--seed": running.seed or None,
    }
    options = [*reading.words(), *given.words(set_)]
    loaders = [partial(candidate.load, dataset.kind) for candidate in candidates]
    words = {
        candidate.name: [given.spelled(candidate.model) or "", *given.model_words(candidate.options, candidate.name)]
        for candidate in candidates
    }
    notes = given.seen_by_any(candidates, dataset)
    spoken = given.spelled(data) or ""
    return _run(loaders, dataset, spoken, config, words, options, notes, running)


def _sizes(given: str | Sequence[int]) -> list[int]:
    parts = [part for part in given.split(",") if part.strip()] if isinstance(given, str) else given
    return [positive(str(part).strip(), "`shots` takes positive numbers separated by commas") for part in parts]


def _run(
    loaders: list[Any],
    dataset: "Dataset",
    data: str,
    config: dict[str, Any],
    words: dict[str, list[str]],
    options: list[str],
    notes: list[str],
    running: given.Running,
) -> "Result":
    from lowdim.finetuning import advise as look
    from lowdim.report import write_report

    started = time.monotonic()
    with run_folder(running.out, "advise", config, fresh=running.fresh) as (run, folder), run:
        known = run.finished()
        if known is not None:
            return _result(known, _page(known, dataset), folder)
        with progress("looking") as update:
            found = look(
                loaders,
                dataset,
                run.state,
                shots=config["shots"],
                outliers=config["outliers"],
                device=config["device"],
                cache=running.cache,
                cache_budget=config["cache_budget"] * 1e9,
                seed=config["seed"],
                progress=lambda what, done, total: update(done, total, what),
            )
        result = {"config": run.config, **_as_dict(found, data, words, options)}
        result["warnings"] = [*notes, *result["warnings"]]
        result["seconds"] = round(time.monotonic() - started, 3)
        page = _page(result, dataset)
        result["figures"] = write_report(run, page)
        run.finish(result)
    return _result(result, page, folder, found)


def _result(result: dict[str, Any], page: "Page", folder: Path | None, found: "Advice | None" = None) -> "Result":
    from lowdim.report import Result

    shown = [table for section in page.sections[:2] for table in section.tables if table.name in ("evidence", "curve")]
    return Result("advise", result, page, value=found, folder=folder, remarks=_remarks(result), tables=shown)


def _as_dict(found: "Advice", data: str, words: dict[str, list[str]], options: list[str]) -> dict[str, Any]:
    from dataclasses import asdict

    chosen = found.recommendation
    spec, *loading = words[chosen.model]
    arguments = found.arguments()
    how = given.words({f"--{name}": value for name, value in arguments.items()})
    if spec and data:
        line = shlex.join(["lowdim", "finetune", "--model", spec, "--data", data, *how, *loading, *options])
    else:  # of objects
        stated = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        line = f"lowdim.finetune(model, data, {stated})"
    outliers = [asdict(entry) for entry in found.outliers]
    for entry in outliers:
        entry["class"] = entry.pop("class_")
    return {
        "recommendation": {
            "model": chosen.model,
            "method": chosen.method,
            "layer": chosen.layer,
            "expected_accuracy": chosen.accuracy,
            "guessing": chosen.guessing,
            "interval": list(chosen.interval),
            "command": line,
        },
        "features": dict(found.features),
        "untrained": list(found.untrained),
        "baseline_wins": found.baseline_wins,
        "baseline_gain": found.baseline_gain,
        "ties": list(found.ties),
        "everything": found.everything,
        "reasons": list(found.reasons),
        "evidence": [entry.as_dict() for entry in found.evidence],
        "learning_curve": list(found.learning_curve),
        "more_labels": found.more_labels,
        "classes": [asdict(entry) for entry in found.classes],
        "outliers": outliers,
        "warnings": list(found.warnings),
    }


def _page(result: dict[str, Any], dataset: "Dataset") -> "Page":
    from lowdim.report.finetuning import advice_sections

    how = "Should you use it all the same:" if result["baseline_wins"] else "Do it:"
    steps = [(how, result["recommendation"]["command"])]
    title = f"What to do with {result['config']['data']['name']}"
    return page_of("advise", result, title, advice_sections(result, dataset), steps)


def _remarks(result: dict[str, Any]) -> list[str]:
    lines = [
        *(given.feature_line(feature, given.short(name)) for name, feature in result["features"].items()),
        *result["reasons"],
    ]
    if len(result["classes"]) > 2:
        worst = sorted(result["classes"], key=lambda entry: entry["ncc_accuracy"] or 0)[:3]
        hardest = ", ".join(f"{entry['name']} (near {entry['nearest_class']})" for entry in worst)
        lines.append(f"hardest classes: {hardest}")
    if suspects := result["outliers"]:
        told = ", ".join(f"{one['item']} ({one['class']}, looks like {one['nearest_class']})" for one in suspects[:3])
        more = f" and {len(suspects) - 3} more on the page" if len(suspects) > 3 else ""
        lines.append(f"suspected labels: {told}{more}")
    if result["baseline_wins"]:
        lines.append("the baseline without a model is logistic regression on raw pixels or words; try other networks")
    return lines

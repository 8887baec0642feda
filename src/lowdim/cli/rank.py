"""``lowdim rank``: which of these pre-trained models will transfer best."""

import shlex
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lowdim.cli import _inputs as given
from lowdim.cli._command import called_from_python, page_of, run_folder
from lowdim.cli._common import option, progress, say, warn
from lowdim.cli._python import Without

if TYPE_CHECKING:
    from lowdim.data import Dataset
    from lowdim.ranking import Candidate
    from lowdim.report import Page, Result


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
    r2_cv = "r2_cv"
    r2 = "r2"
    outside = "outside"
    unexplained = "unexplained"


class ProbeChoice(StrEnum):
    """Where the probe's accuracy is measured."""

    test = "test"
    cv = "cv"


@called_from_python
def rank(
    model: Annotated[
        list[str] | None, given.candidate_option(" FILE.npz: saved features."), given.CANDIDATE_OBJECTS
    ] = None,
    data: given.DataOption = None,
    models: Annotated[Path | None, option("TOML file with one [[models]] table per candidate.", panel="Model")] = None,
    by: Annotated[
        ScoreChoice | None,
        option("The score that orders [default: probe_cv_accuracy; nc1 with --no-probe; r2_cv for regression]."),
    ] = None,
    no_probe: Annotated[
        bool, option("Scores alone, without the probe: half the passes, ordered by NC1.", "--no-probe")
    ] = False,
    probe_on: Annotated[
        ProbeChoice, option("Measure the probe on the test split, or by cross-validation.")
    ] = ProbeChoice.test,
    race: Annotated[
        bool, option("For many models: those clearly behind after a part of the images see no more of them.", "--race")
    ] = False,
    jobs: Annotated[int, option("Candidates at a time.", min=1)] = 1,
    *,
    reading: given.Reading,
    loading: Annotated[given.Loading, Without(("weights", "weights_key", "model_arg", "random_weights"))],
    running: Annotated[given.Running, Without(("cache_budget",))],
) -> "Result":
    """Which of these pre-trained models will transfer best to my data?

    lowdim rank --model digits-split --model digits-0-4 --data digits-noisy

    lowdim rank --model timm:resnet18 --model timm:mobilenetv3_small_100 --data photos/ --image-size 160

    lowdim rank --models zoo.toml --data cifar.npz --limit 1500

    lowdim rank --model nets.py:small --model nets.py:wide --data diabetes.csv --task regression --label-column target

    Ordered by the accuracy to expect: that of a linear classifier on the frozen feature and the second half of the blocks,
    cross-validated on the training split, with its 90 % interval. Beside it NC1, H-score, LogME and others, and how well each
    agrees with it. No network is trained; candidates that share a rank cannot be told apart. Settings per model: a TOML file with tables

    [[models]]

    with keys name, model (or features = "FILE.npz"), weights, arguments, mean, std, image_size, layer, pool, source_accuracy, and group
    (checkpoints of one run).
    """
    dataset = reading.dataset(data, running.seed)
    candidates = given.candidates(model, models, {key: value for key, value in loading.options().items() if value})
    config: dict[str, Any] = {
        "models": [candidate.identity() for candidate in candidates],
        "data": reading.identity(dataset, shots=reading.shots),
        "by": str(
            by
            or (
                ScoreChoice.r2_cv if dataset.outputs else ScoreChoice.nc1 if no_probe else ScoreChoice.probe_cv_accuracy
            )
        ),
        "probe": not no_probe,
        "probe_on": str(probe_on),
        **({"race": True} if race else {}),
        "device": given.device(running.device),
        "batch_size": given.batch_size(running.batch_size) or 64,
        "seed": running.seed,
    }
    if dataset.outputs:
        config |= {"task": str(reading.task), "outputs": list(dataset.outputs)}
    for note in dataset.notes:
        say(f"note: {note}")
    spec = given.spelled(data)
    typed = ["--data", spec, *reading.words(shots=True)] if spec and not dataset.outputs else []
    return _run(candidates, dataset, config, running, jobs, typed)


def _run(
    candidates: "list[Candidate]",
    dataset: "Dataset",
    config: dict[str, Any],
    running: given.Running,
    jobs: int,
    typed: list[str],
) -> "Result":
    from lowdim.ranking import rank as rank_models
    from lowdim.report import Result, write_report

    started = time.monotonic()
    tune = {
        candidate.name: shlex.join(
            ["lowdim", "finetune", "--model", candidate.model, *typed, *given.model_words(candidate.options)]
        )
        for candidate in candidates
        if isinstance(candidate.model, str) and typed and isinstance(candidate.options.get("image_size"), int | None)
    }
    with run_folder(running.out, "rank", config, fresh=running.fresh) as (run, folder), run:
        known = run.finished()
        if known is not None:
            return Result("rank", known, _page(known, tune), folder=folder, remarks=_remarks(known))
        with progress("ranking") as update:
            found = rank_models(
                candidates,
                dataset,
                by=config["by"],
                selection={"limit": config["data"]["limit"], "shots": config["data"]["shots"], "seed": config["seed"]},
                probe=config["probe"],
                probe_on=config["probe_on"],
                race=config.get("race", False),
                jobs=jobs,
                batch_size=config["batch_size"],
                device=config["device"],
                seed=config["seed"],
                folder=run.state,
                cache=running.cache,
                progress=update,
            )
        result: dict[str, Any] = {
            "config": run.config,
            **found.as_dict(),
            "seconds": round(time.monotonic() - started, 3),
        }
        result["warnings"] = [*given.seen_by_any(candidates, dataset), *result["warnings"]]
        for row in result["failed"]:
            warn(f"{row['model']} could not be scored: {row['error']}")
        page = _page(result, tune)
        result["figures"] = write_report(run, page)
        run.finish(result)
    return Result("rank", result, page, value=found, folder=folder, remarks=_remarks(result))


def _remarks(result: dict[str, Any]) -> list[str]:
    return [given.feature_line(row["feature"], given.short(row["model"])) for row in result["scores"]]


def _page(result: dict[str, Any], tune: dict[str, str]) -> "Page":
    from lowdim.report.ranking import ranking_sections

    best = next((row["model"] for row in result["scores"]), None)
    count = len(result["scores"])
    title = f"{count} model{'s' * (count != 1)} for {result['config']['data']['name']}"
    steps = [("Tune the best of them:", tune[best])] if best in tune else []
    return page_of("rank", result, title, ranking_sections(result), steps)

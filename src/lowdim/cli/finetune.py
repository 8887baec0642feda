"""``lowdim finetune``: adapt a network to new classes with few labels."""

import shlex
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lowdim.cli import _completion
from lowdim.cli import _inputs as given
from lowdim.cli._command import Listing, called_from_python, page_of, run_folder
from lowdim.cli._common import joined, option, progress, say
from lowdim.cli._methods import AUTO, AlsoChoice, MethodChoice
from lowdim.cli._python import Without

if TYPE_CHECKING:
    from lowdim.data import Dataset
    from lowdim.models import LoadedModel
    from lowdim.report import Page, Result


class BatchNormChoice(StrEnum):
    """Statistics of BatchNorm in full, lp-ft and adapt."""

    frozen = "frozen"
    batch = "batch"


class TrackChoice(StrEnum):
    """Where the curves of training go."""

    tensorboard = "tensorboard"
    wandb = "wandb"


class CombineChoice(StrEnum):
    """How the skip meets the penultimate feature."""

    pad_add = "pad_add"
    concat = "concat"
    project = "project"


@called_from_python
def finetune(
    model: given.Model,
    data: given.DataUnlessListing = None,
    method: Annotated[MethodChoice, option("auto: the probe, or what is trained where that is clearly better.")] = AUTO,
    also: Annotated[
        list[AlsoChoice] | None,
        option("auto cross-validates this too, and takes it if clearly better; may be repeated."),
    ] = None,
    minutes: Annotated[float | None, option("auto begins no comparison that would take longer in all.")] = None,
    layer: Annotated[
        str,
        option(
            "Block to train: names or globs, by commas; auto: at 3/4 of the depth.", autocompletion=_completion.layers
        ),
    ] = "auto",
    list_layers: Annotated[bool, option("Print the blocks and stop.", "--list-layers")] = False,
    combine: Annotated[CombineChoice, option("Skip of scl.")] = CombineChoice.pad_add,
    rank: Annotated[int, option("Of lora.", min=1)] = 8,
    batch_norm: Annotated[
        BatchNormChoice, option("For full, lp-ft and adapt: keep the statistics, or let them follow the batches.")
    ] = BatchNormChoice.frozen,
    rate: Annotated[float | None, option("Largest learning rate of blocks and head [default: the recipe's].")] = None,
    epochs: Annotated[int | None, option("[default: the recipe's].", min=1)] = None,
    prompt: Annotated[
        list[str] | None,
        option("For the methods with texts, {} is the class; may be repeated [default: a photo of a {}]."),
    ] = None,
    text_features: Annotated[
        Path | None, option("For the same without a text encoder: .npy, one row per class.")
    ] = None,
    views: Annotated[int, option("Stored random crops and flips per image.", min=1)] = 1,
    class_weights: Annotated[bool, option("Weight classes by 1 / size.", "--class-weights")] = False,
    watch: Annotated[
        bool, option("Test accuracy and NC1 after every epoch too; nothing is chosen by them.", "--watch")
    ] = False,
    track: Annotated[TrackChoice | None, option("Curves per epoch; files go to the run folder.")] = None,
    compress_delta: Annotated[
        bool, option("Store updates in low rank if that costs at most 0.2 points.", "--compress-delta")
    ] = False,
    test_share: given.TestShare = 0.2,
    batch_size: Annotated[str, option("auto, or samples per training step.")] = "auto",
    *,
    reading: Annotated[given.Reading, Without(("task",))],
    loading: given.Loading,
    running: Annotated[given.Running, Without(("batch_size",))],
) -> "Result | Listing":
    """Adapt a network to my classes: one block, or just a probe.

    lowdim finetune --model digits-0-4 --data digits-5-9 --shots 10

    lowdim finetune --model timm:resnet50 --data photos/ --method scl --layer layer3.0

    lowdim finetune --model hf:sentence-transformers/all-MiniLM-L6-v2 --data questions.tsv --text-column text --label-column topic

    Saves a small delta, verified bit for bit on the base loaded anew; use it with lowdim predict and lowdim export.
    The same command continues a run that was killed.
    """
    options = loading.options()
    if list_layers:
        return _listing(given.network(model, **options))
    given.require_network(model)
    dataset = reading.dataset(data, running.seed, test_share=test_share)
    network = given.network(model, kind=dataset.kind, **options)
    from lowdim._files import existing_file, sha256
    from lowdim.finetuning._zero_shot import PROMPT, read_npy
    from lowdim.models import runs_code

    how: dict[str, Any] = {
        "method": str(method),
        "also": [str(choice) for choice in also or []],
        "minutes": minutes,
        "layer": layer,
        "combine": str(combine),
        "rank": rank,
        "batch_norm": str(batch_norm),
        "rate": rate,
        "epochs": epochs,
        "prompts": prompt or [PROMPT],
        "views": views,
        "class_weights": class_weights,
        "watch": watch,
        "device": given.device(running.device),
        "batch_size": given.batch_size(batch_size),
        "seed": running.seed,
    }
    config: dict[str, Any] = {
        "model": given.model_identity(network),
        "data": reading.identity(dataset, shots=reading.shots, test_share=None if dataset.own_split else test_share),
        **how,
        "text_features": None if text_features is None else sha256(existing_file(text_features, "The file")),
        "compress_delta": compress_delta,
        "cache_budget": running.cache_budget,
    }
    say(given.model_line(network, dataset))
    for note in [*network.notes, *dataset.notes]:
        say(f"note: {note}")
    how["text_features"] = None if text_features is None else read_npy(text_features)
    # Where to find the base, where a delta alone may not say it: code is run, and pickles are read, only if the person who types says so.
    spec = given.spelled(model)
    code = spec is not None and runs_code(spec)
    base = {
        "--model": spec if code else None,
        "--model-arg": loading.model_arg if code else None,
        "--allow-pickle": loading.allow_pickle,
    }
    again = ["--data", given.spelled(data) or "DATA", *reading.words(), *given.words({"--seed": running.seed or None})]
    typed = shlex.join(again), shlex.join(given.words(base))
    seen = given.seen_before(model, dataset, untrained=loading.random_weights)
    return _run(network, dataset, config, how, typed, seen, track, running)


def _listing(network: "LoadedModel") -> Listing:
    from lowdim.finetuning import auto_block
    from lowdim.models import block_names

    names = block_names(network.module)
    chosen = auto_block(network.module) if names else None
    data = {"layers": [{"name": name, "default": name == chosen} for name in names]}
    return Listing("finetune", data, [f"{name}{'   (auto)' * (name == chosen)}" for name in names])


def _run(
    network: "LoadedModel",
    dataset: "Dataset",
    config: dict[str, Any],
    how: dict[str, Any],
    typed: tuple[str, str],
    seen: list[str],
    track: TrackChoice | None,
    running: given.Running,
) -> "Result":
    from copy import deepcopy

    from lowdim.finetuning import finetune as tune
    from lowdim.finetuning import tracker
    from lowdim.models import load_model
    from lowdim.report import Page, Result, write_report

    started = time.monotonic()
    with (
        run_folder(running.out, "finetune", config, fresh=running.fresh, keep=True) as (run, folder),
        joined(run, config["device"]) as (job, known),
    ):
        if known is not None:
            return Result(
                "finetune", known, _page(known, run.path, typed, dataset), folder=folder, remarks=_remarks(known)
            )
        untouched = None if network.source else deepcopy(network.module)
        with progress("fine-tuning") as update:
            tuned = tune(
                network,
                dataset,
                **how,
                cache=running.cache,
                cache_budget=running.cache_budget * 1e9,
                folder=run.state,
                processes=job,
                progress=lambda what, done, total: update(done, total, what),
                on_epoch=tracker(TrackChoice(track).value, run.path / "track") if track and job.index == 0 else None,
            )
        result: dict[str, Any] = {"config": run.config, **tuned.as_dict()}
        if job.index:  # the delta and all that is said of it belong to the first
            return Result("finetune", {**result, "warnings": []}, Page("", "", []), value=tuned)
        anew = load_model(**network.source).module if untouched is None else untouched
        if config["compress_delta"]:
            heldout = dataset["test" if "test" in dataset.splits else "train"]
            result["delta"] = tuned.save_compressed(run.path / "delta", network, heldout, anew)
        else:
            result["delta"] = tuned.save(run.path / "delta", network, anew)
        result["warnings"] = [*seen, *given.untrained(network), *tuned.warnings]
        result["seconds"] = round(time.monotonic() - started, 3)
        page = _page(result, run.path, typed, dataset)
        result["figures"] = write_report(run, page)
        run.finish(result)
    return Result("finetune", result, page, value=tuned, folder=folder, remarks=_remarks(result))


def _page(result: dict[str, Any], folder: Path, typed: tuple[str, str], dataset: "Dataset") -> "Page":
    from lowdim.report.finetuning import finetune_sections

    data, base = typed
    delta = f"{shlex.join(['--delta', str(folder / 'delta')])} {base}".strip()
    title = f"{given.short(result['config']['model']['name'])} fine-tuned on {result['config']['data']['name']}"
    again = "Classify data with it, here the same again (put your own in its place):"
    steps = [(again, f"lowdim predict {delta} {data}"), ("One file to deploy:", f"lowdim export {delta} --to onnx")]
    return page_of("finetune", result, title, finetune_sections(result, dataset), steps)


def _remarks(result: dict[str, Any]) -> list[str]:
    delta, update = result["delta"], result["update"]
    data = result["config"]["data"]
    held = data["splits"].get("test", {}).get("samples", 0)
    lines = [
        given.feature_line(result["feature"]),
        *(
            [f"{held:,} samples were held back to measure on; `test_share=0` trains on them, too"]
            if held and data.get("test_share")
            else []
        ),
        *result["reasons"],
        f"trained: {result['trained_parameters']:,} of {result['total_parameters']:,} parameters "
        f"({100 * result['trained_share']:.2f} %)",
    ]
    if update["share_in_initial_subspace"] is not None:
        lines.append(
            f"update: rank up to {update['rank']}; {100 * update['share_in_initial_subspace']:.0f} % of it lies in the first "
            f"gradient's 2K-dimensional subspace ({100 * update['share_by_chance']:.0f} % by chance)"
        )
    return [*lines, f"saved: {delta['path']} ({delta['bytes']:,} bytes), verified bit for bit on the base loaded anew"]

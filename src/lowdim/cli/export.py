"""``lowdim export``: one file to deploy."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lowdim.cli import _inputs as given
from lowdim.cli._command import Command
from lowdim.cli._common import Format, FormatOption, Json, emit_json, wants_json, warn
from lowdim.cli.predict import BaseOption, DeltaOption, load_base, tuned_network
from lowdim.finetuning.methods import names_of


class TargetChoice(StrEnum):
    """Kinds of files."""

    torch = "torch"
    onnx = "onnx"
    peft = "peft"
    checkpoint = "checkpoint"


_NAMES = {
    TargetChoice.torch: "model.pt2",
    TargetChoice.onnx: "model.onnx",
    TargetChoice.peft: "peft",
    TargetChoice.checkpoint: "model.safetensors",
}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(cls=Command)(export)


def export(
    delta: DeltaOption,
    to: Annotated[
        TargetChoice,
        typer.Option(
            "--to",
            help=f"torch (torch.export), onnx, peft (a folder; methods {' and '.join(names_of(exports='peft'))}), or checkpoint (weights "
            "alone, for the base's own code; methods without a skip).",
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Option("--file", help="[default: beside the delta: model.pt2, model.onnx, model.safetensors, peft/]"),
    ] = None,
    model: BaseOption = None,
    weights: given.Weights = None,
    weights_key: given.WeightsKey = None,
    model_arg: given.ModelArguments = None,
    allow_pickle: given.AllowPickle = False,
    offline: given.Offline = False,
    json: Json = False,
    format: FormatOption = Format.auto,
) -> None:
    """Write a fine-tuned network for use without lowdim.

    lowdim export --delta lowdim-runs/finetune-0123456789/delta --to onnx

    lowdim export --delta my-delta --to torch --file classifier.pt2

    lowdim export --delta my-delta --to peft

    lowdim export --delta my-delta --to checkpoint

    Files for torch and onnx take preprocessed inputs (their metadata say how) and give class probabilities; peft and checkpoint are
    weights for the base's own code and give logits. What was written is read back and must give the network's outputs to 1e-5.
    """
    import time

    from lowdim.finetuning import export_model, save_checkpoint, save_peft
    from lowdim.finetuning._delta import example_of
    from lowdim.finetuning._export import tokenizer_path

    begun = time.monotonic()
    arguments = given.parse_arguments(model_arg)
    found, network, preprocessing, warnings = tuned_network(
        delta, model, weights, arguments, "cpu", weights_key=weights_key, allow_pickle=allow_pickle, offline=offline
    )
    for message in warnings:
        warn(message)
    path = file or delta.resolve().parent / _NAMES[to]
    example = example_of(found)
    if to in (TargetChoice.peft, TargetChoice.checkpoint):
        base = load_base(
            found, model, weights, arguments, weights_key=weights_key, allow_pickle=allow_pickle, offline=offline
        ).module
        difference = (
            save_peft(network, base, path, example)
            if to is TargetChoice.peft
            else save_checkpoint(
                network, base, path, classes=found.classes, preprocessing=preprocessing, example=example
            )
        )
    else:
        difference = export_model(network, found, preprocessing, path, to=to.value, example=example)
    tokenizer = (
        tokenizer_path(path) if to in (TargetChoice.torch, TargetChoice.onnx) and preprocessing.kind == "text" else None
    )
    tokenizer = tokenizer if tokenizer is not None and tokenizer.is_file() else None
    files = [path] if path.is_file() else [entry for entry in path.iterdir() if entry.is_file()]
    result = {
        "config": {"delta": str(delta), "to": to.value},
        "warnings": warnings,
        "seconds": round(time.monotonic() - begun, 3),
        "path": str(path),
        "bytes": sum(entry.stat().st_size for entry in files),
        "tokenizer": None if tokenizer is None else str(tokenizer),
        "max_difference": difference,
    }
    if wants_json(json, format):
        emit_json("export", result)
        return
    print(f"saved: {path} ({result['bytes']:,} bytes)")
    if tokenizer is not None:
        print(f"tokenizer: {tokenizer}")
    print(f"largest difference of an output from the network: {difference:.2g}")

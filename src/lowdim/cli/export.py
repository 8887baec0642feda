"""``lowdim export``: one file to deploy."""

import json
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lowdim.cli import _inputs as given
from lowdim.cli._command import called_from_python, page_of, with_page
from lowdim.cli._common import PageFile, keep_apart, option
from lowdim.cli.predict import OF_BASE, BaseOption, DeltaOption, load_base, tuned_network
from lowdim.finetuning.methods import names_of

if TYPE_CHECKING:
    from lowdim.report import Result


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


@called_from_python
def export(
    delta: DeltaOption,
    to: Annotated[
        TargetChoice,
        option(
            f"torch (torch.export), onnx, peft (a folder; methods {' and '.join(names_of(exports='peft'))}), or checkpoint (weights "
            "alone, for the base's own code; methods without a skip)."
        ),
    ],
    file: Annotated[
        Path | None, option("[default: beside the delta: model.pt2, model.onnx, model.safetensors, peft/]")
    ] = None,
    model: BaseOption = None,
    page: PageFile = None,
    *,
    loading: Annotated[given.Loading, OF_BASE],
) -> "Result":
    """Write a fine-tuned network for use without lowdim.

    lowdim export --delta lowdim-runs/finetune-0123456789/delta --to onnx

    lowdim export --delta my-delta --to torch --file classifier.pt2

    lowdim export --delta my-delta --to peft

    lowdim export --delta my-delta --to checkpoint

    Files for torch and onnx take preprocessed inputs (their metadata say how) and give class probabilities; peft and checkpoint are
    weights for the base's own code and give logits. What was written is read back and must give the network's outputs to 1e-5.
    """
    import time

    from lowdim.errors import UsageError
    from lowdim.finetuning import export_model, save_checkpoint, save_peft
    from lowdim.finetuning._delta import beside_delta, delta_bytes, delta_folder, example_of
    from lowdim.finetuning._export import tokenizer_path
    from lowdim.report import Result
    from lowdim.report.finetuning import export_sections

    begun, to = time.monotonic(), TargetChoice(to)
    keep_apart({"file": file, "page": page}, [loading.weights, model], delta_folder(delta))
    found, network, preprocessing, warnings = tuned_network(delta, model, loading)
    path = file or beside_delta(delta) / _NAMES[to]
    if to != "peft" and path.is_dir():
        raise UsageError(f"{path} is a folder: name a file in it.", argument="file")
    example = example_of(found)
    if to in ("peft", "checkpoint"):
        base = load_base(found, model, loading).module
        difference = (
            save_peft(network, base, path, example)
            if to == "peft"
            else save_checkpoint(
                network, base, path, classes=found.classes, preprocessing=preprocessing, example=example
            )
        )
    else:
        difference = export_model(network, found, preprocessing, path, to=str(to), example=example)  # pyright: ignore[reportArgumentType]
    tokenizer = tokenizer_path(path) if to in ("torch", "onnx") and preprocessing.kind == "text" else None
    tokenizer = tokenizer if tokenizer is not None and tokenizer.is_file() else None
    files = [path] if path.is_file() else [entry for entry in path.iterdir() if entry.is_file()]
    result: dict[str, Any] = {
        "config": {"delta": str(delta), "to": str(to)},
        "warnings": warnings,
        "seconds": round(time.monotonic() - begun, 3),
        "path": str(path),
        "bytes": sum(entry.stat().st_size for entry in files),
        "tokenizer": None if tokenizer is None else str(tokenizer),
        "max_difference": difference,
    }
    looks = shlex.join(["python", "-c", _LOOKS[to].format(json.dumps(str(path), ensure_ascii=False))])
    steps = [("See what it takes:", looks)]
    shown = page_of("export", result, f"{path.name} from {delta}", export_sections(result, delta_bytes(delta)), steps)
    return with_page(Result("export", result, shown), page)


_LOOKS = {
    TargetChoice.torch: "import torch; print(torch.export.load({}).graph_signature.user_inputs)",
    TargetChoice.onnx: "import onnxruntime; print([one.name for one in onnxruntime.InferenceSession({}).get_inputs()])",
    TargetChoice.peft: "from peft import PeftConfig; print(PeftConfig.from_pretrained({}))",
    TargetChoice.checkpoint: 'from safetensors import safe_open; print(safe_open({}, "np").metadata())',
}
"""Python that opens an exported file."""

"""``lowdim publish``: a fine-tuned network for others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lowdim.cli._command import called_from_python, page_of
from lowdim.cli._common import keep_apart, option, say

if TYPE_CHECKING:
    from lowdim.report import Result


@called_from_python
def publish(
    delta: Annotated[Path, typer.Argument(metavar="DELTA", help="Folder that lowdim finetune printed.")],
    folder: Annotated[Path | None, option("Where the files go [default: hub, beside the delta].")] = None,
    licence: Annotated[
        str, option("Of what you publish, as the hub names it: apache-2.0, cc-by-4.0, mit …")
    ] = "unknown",
    push: Annotated[str | None, option("Upload the folder; without this nothing is sent.", metavar="ORG/NAME")] = None,
    private: Annotated[bool, option("With --push: only you can see what is created.", "--private")] = False,
) -> "Result":
    """Give a fine-tuned network to others: a folder for the Hugging Face hub.

    lowdim publish lowdim-runs/finetune-0123456789/delta --licence apache-2.0

    lowdim publish tuned/delta --licence mit --push me/my-classifier

    Writes the delta and a card with its metrics, base model, classes, intended use and licence; read the card before you upload
    it. Others use it with lowdim predict --delta hf:me/my-classifier. Paths of this machine are left out.
    """
    import shlex
    import time

    from lowdim.errors import UsageError
    from lowdim.finetuning._delta import beside_delta, delta_folder
    from lowdim.finetuning._publish import push as upload
    from lowdim.finetuning._publish import write_hub_folder
    from lowdim.report import Result, Section

    begun = time.monotonic()
    if private and push is None:
        raise UsageError("`private` goes with `push=ORG/NAME`.", argument="private")
    keep_apart({"folder": folder}, [], delta_folder(delta))
    where = folder or beside_delta(delta) / "hub"
    found = write_hub_folder(delta, where, licence=licence, run=_run_of(delta), name=push or "", usage=_usage)
    warnings = ["The card says that the licence is unknown; name one with `licence`."] if licence == "unknown" else []
    address = None
    if push is not None:
        say(f"uploading {where} to {push}")
        address = upload(where, push, private=private)
    files = sorted(entry for entry in where.iterdir() if entry.is_file())
    result: dict[str, Any] = {
        "config": {"delta": str(delta), "licence": licence, "push": push, "private": private},
        "warnings": warnings,
        "seconds": round(time.monotonic() - begun, 3),
        "path": str(where),
        "files": [entry.name for entry in files],
        "bytes": sum(entry.stat().st_size for entry in files),
        "classes": list(found.classes),
        "address": address,
    }
    again = shlex.join(["lowdim", "publish", str(delta), "--folder", str(where), "--licence", licence])
    sections = [Section("publish", "Files", settings=result["config"], seconds=result["seconds"])]
    steps = [] if address else [("Read the card, then upload:", f"{again} --push ORG/NAME")]
    page = page_of("publish", result, f"{where.name} for the hub", sections, steps)
    return Result("publish", result, page, value=found, remarks=[f"card: {where / 'README.md'}"])


def _usage(name: str, unknown: bool) -> str:
    """How others classify with it."""
    return f"lowdim predict --delta hf:{name} --data DATA{' --model BASE' * unknown}"


def _run_of(delta: Path) -> dict[str, Any]:
    """The result of the run that a delta lies in, where it does."""
    from lowdim._files import read_json
    from lowdim.finetuning._delta import delta_folder

    file = delta_folder(delta).resolve().parent / "result.json"
    found = read_json(file) if file.is_file() else None
    return found if isinstance(found, dict) and found.get("command") == "finetune" else {}

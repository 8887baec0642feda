"""``lowdim check``: does a theorem hold on these weights?"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lowdim.cli._command import Command
from lowdim.cli._common import Format, FormatOption, Json, emit_json, number, print_table, wants_json

if TYPE_CHECKING:
    from lowdim._verdicts import Check


class Theorem(StrEnum):
    """What can be checked."""

    parsimony = "parsimony"
    separation = "separation"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(cls=Command)(check)


def check(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="One STEP.safetensors per time, from the start of training.")
    ],
    theorem: Annotated[Theorem, typer.Option("--theorem", help="Which theorem.")],
    rank: Annotated[
        int | None,
        typer.Option("--rank", min=1, help="r of the law of parsimony [default: found in the data or weights]."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="FILE.npz with x and y, one column per sample (y: one-hot rows or class numbers)."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="Names of the factors by commas, first layer first [default: 1,2,…]."),
    ] = None,
    json: Json = False,
    format: FormatOption = Format.auto,
) -> None:
    """Is the theory true of my own deep linear network, trained anywhere?

    lowdim check weights/ --theorem parsimony

    lowdim check weights/ --theorem separation --data train.npz --weights fc1.weight,fc2.weight,fc3.weight

    Exit code 4 if a statement does not hold, with the reason. The law of parsimony can be checked from weights alone;
    with the data its bases come from the theorem's formula and the loss identity is checked too.
    """
    import time

    begun = time.monotonic()
    checks = _check(folder, theorem, rank, data, weights.split(",") if weights else None)
    holds = all(one.holds for one in checks)
    if wants_json(json, format):
        config = {"folder": folder, "theorem": theorem.value, "rank": rank, "data": data, "weights": weights}
        entries = [one.as_dict() for one in checks]
        result: dict[str, Any] = {"config": config, "warnings": [], "seconds": round(time.monotonic() - begun, 3)}
        emit_json("check", {**result, "holds": holds, "checks": entries})
    else:
        _print(f"{theorem.value}: {folder}", checks)
    raise typer.Exit(0 if holds else 4)


def _print(title: str, checks: "Sequence[Check]") -> None:
    rows = [
        [one.name, "holds" if one.holds else "DOES NOT", number(one.residual), number(one.tolerance)] for one in checks
    ]
    print_table(title, ["statement", "", "residual", "tolerance"], rows)
    for one in checks:
        print(f"{one.name}: {one.reason}")


def _check(
    folder: Path, theorem: Theorem, rank: int | None, data: Path | None, names: list[str] | None
) -> list["Check"]:
    from lowdim.dynamics import WeightHistory, check_parsimony, check_separation
    from lowdim.dynamics.samples import read_samples
    from lowdim.errors import UsageError

    if theorem is Theorem.separation and data is None:
        raise UsageError("--theorem separation needs the inputs and classes: add --data FILE.npz with x and y.")
    if theorem is Theorem.separation and rank is not None:
        raise UsageError("--rank belongs to --theorem parsimony; separation uses the number of classes.")
    history = WeightHistory.from_folder(folder, names)
    samples = read_samples(data) if data is not None else None
    if theorem is Theorem.separation:
        assert samples is not None
        return check_separation(history, samples.problem, samples.classes())
    return check_parsimony(history, problem=samples.problem if samples else None, rank=rank)

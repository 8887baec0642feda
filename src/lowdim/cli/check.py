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

_WORDS = {True: "holds", False: "DOES NOT", None: "undecided"}
_COLUMNS = 6


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

    Exit code 4 if a statement does not hold, with the reason, or if it cannot be decided at the precision in which the numbers
    are stored. The law of parsimony can be checked from weights alone; with the data its bases come from the theorem's formula,
    the loss identity is checked too, and more reasons can be told apart.
    """
    import time

    begun = time.monotonic()
    checks, more = _check(folder, theorem, rank, data, weights.split(",") if weights else None)
    found = {one.holds for one in checks}
    holds = False if False in found else None if None in found else True
    if wants_json(json, format):
        config = {"folder": folder, "theorem": theorem.value, "rank": rank, "data": data, "weights": weights}
        entries = [one.as_dict() for one in checks]
        result: dict[str, Any] = {"config": config, "warnings": [], "seconds": round(time.monotonic() - begun, 3)}
        emit_json("check", {**result, "holds": holds, "checks": entries, **more})
    else:
        _print(f"{theorem.value}: {folder}", checks)
        if more:
            _print_degrees(more)
    raise typer.Exit(0 if holds else 4)


def _print(title: str, checks: "Sequence[Check]") -> None:
    rows = [[one.name, _WORDS[one.holds], number(one.residual), number(one.tolerance)] for one in checks]
    print_table(title, ["statement", "", "residual", "tolerance"], rows)
    for one in checks:
        print(f"{one.name}: {one.reason}")


def _print_degrees(more: dict[str, Any]) -> None:
    """How much of each factor's change obeys the law, over time, and why not all of it."""
    shares = more["shares"]
    if any(value is not None for row in shares["share"] for value in row):
        count = len(shares["steps"])
        kept = sorted({round(1 + i * (count - 2) / (_COLUMNS - 1)) for i in range(_COLUMNS)}) if count > 2 else [1]
        rows = [
            [str(layer + 1), number(chance), *(number(shares["share"][index][layer], 5) for index in kept)]
            for layer, chance in enumerate(shares["chance"])
        ]
        columns = ["factor", "by chance", *(f"step {shares['steps'][index]}" for index in kept)]
        print_table("share of the squared change that the law allows", columns, rows)
    if more["update"]:
        print(f"update: {more['update']}")
    for cause in more["causes"]:
        print(f"cause: {cause}")


def _check(
    folder: Path, theorem: Theorem, rank: int | None, data: Path | None, names: list[str] | None
) -> tuple[list["Check"], dict[str, Any]]:
    from lowdim.dynamics import WeightHistory, check_separation, report_parsimony
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
        return check_separation(history, samples.problem, samples.classes()), {}
    report = report_parsimony(history, problem=samples.problem if samples else None, rank=rank)
    return report.checks, report.degrees()

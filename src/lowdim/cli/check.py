"""``lowdim check``: does a theorem hold on these weights?"""

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lowdim.cli._command import TYPED, called_from_python, command
from lowdim.cli._common import PageFile
from lowdim.cli._python import Objects

if TYPE_CHECKING:
    from lowdim._verdicts import Check
    from lowdim.report import Result


class Theorem(StrEnum):
    """What can be checked."""

    parsimony = "parsimony"
    separation = "separation"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(app)(check)


@called_from_python
def check(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="One STEP.safetensors per time, from the start of training."),
        Objects(
            "str | Path | Sequence", "Or a list with the weights of each time: a state dict, or a list of matrices."
        ),
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
    page: PageFile = None,
) -> "Result":
    """Is the theory true of my own deep linear network, trained anywhere?

    lowdim check weights/ --theorem parsimony

    lowdim check weights/ --theorem separation --data train.npz --weights fc1.weight,fc2.weight,fc3.weight

    Exit code 4 if a statement does not hold, with the reason, or if it cannot be decided at the precision in which the numbers
    are stored. The law of parsimony can be checked from weights alone; with the data its bases come from the theorem's formula,
    the loss identity is checked too, and more reasons can be told apart.
    """
    import time

    from lowdim.report import Page, Result
    from lowdim.report.answers import headline
    from lowdim.report.check import check_sections

    begun = time.monotonic()
    checks, degrees = _check(folder, Theorem(theorem), rank, data, weights.split(",") if weights else None)
    held = folder if isinstance(folder, str | Path) else f"{len(folder)} states in memory"
    config = {"folder": str(held), "theorem": str(theorem), "rank": rank, "data": data, "weights": weights}
    result: dict[str, Any] = {
        "config": config,
        "warnings": [],
        "seconds": round(time.monotonic() - begun, 3),
        "holds": _together([one.holds for one in checks]),
        "checks": [one.as_dict() for one in checks],
        **degrees,
    }
    shown = Page(
        title=f"The theorem of {theorem} on {held}",
        lead=headline("check", result),
        sections=check_sections(result),
        command=TYPED.get(),
    )
    remarks = [f"{one.name}: {one.reason}" for one in checks]
    remarks += [f"update: {degrees['update']}"] if degrees.get("update") else []
    remarks += [f"cause: {cause}" for cause in degrees.get("causes", ())]
    statements, *others = shown.sections[0].tables
    brief = replace(statements, columns=statements.columns[:-1], rows=[row[:-1] for row in statements.rows])
    found = Result(
        "check",
        result,
        shown,
        value=checks,
        remarks=remarks,
        tables=[brief, *others],
        exit_code=0 if result["holds"] else 4,
    )
    if page is not None:
        found.save_page(page)
    return found


def _together(answers: Sequence[bool | None]) -> bool | None:
    """False where one is broken, None where none is and one is undecided."""
    return False if False in answers else None if None in answers else True


def _check(
    folder: Any, theorem: Theorem, rank: int | None, data: Path | None, names: list[str] | None
) -> tuple[list["Check"], dict[str, Any]]:
    from lowdim.dynamics import WeightHistory, check_separation, report_parsimony
    from lowdim.dynamics.samples import read_samples
    from lowdim.errors import UsageError

    if theorem == Theorem.separation and data is None:
        raise UsageError("`theorem=separation` needs the inputs and classes: add `data=FILE.npz` with x and y.")
    if theorem == Theorem.separation and rank is not None:
        raise UsageError("`rank` belongs to `theorem=parsimony`; separation uses the number of classes.")
    from_files = isinstance(folder, str | Path)
    if not from_files and not isinstance(folder, Sequence):
        raise UsageError(f"Give a folder, or a list with the weights of each time, not {type(folder).__name__}.")
    history = WeightHistory.from_folder(folder, names) if from_files else WeightHistory.of(folder, names)
    samples = read_samples(data) if data is not None else None
    if theorem == Theorem.separation:
        assert samples is not None
        return check_separation(history, samples.problem, samples.classes()), {}
    report = report_parsimony(history, problem=samples.problem if samples else None, rank=rank)
    return report.checks, report.degrees()

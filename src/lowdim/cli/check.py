"""``lowdim check``: does a theorem hold on these weights?"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lowdim.cli._command import called_from_python, page_of, with_page
from lowdim.cli._common import PageFile, keep_apart, option
from lowdim.cli._python import Objects

if TYPE_CHECKING:
    import numpy as np

    from lowdim._verdicts import Check
    from lowdim.dynamics import WeightHistory
    from lowdim.dynamics.samples import Samples
    from lowdim.report import Result

    Found = tuple[list["Check"], dict[str, Any]]


class Side(StrEnum):
    """What a sample is in arrays."""

    rows = "rows"
    columns = "columns"


class Theorem(StrEnum):
    """What can be checked."""

    parsimony = "parsimony"
    separation = "separation"


@called_from_python
def check(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="One STEP.safetensors, .pt, .pth (state dicts) or .npz per time, from the start of training.",
        ),
        Objects(
            "str | Path | Sequence", "Or a list with the weights of each time: a state dict, or a list of matrices."
        ),
    ],
    theorem: Annotated[Theorem, option("Which theorem.")],
    rank: Annotated[
        int | None, option("r of the law of parsimony [default: found in the data or weights].", min=1)
    ] = None,
    data: Annotated[
        Path | None,
        option(
            "FILE.npz with x and y, or x_train and y_train: samples as rows or columns, as fits the first factor (y: targets, "
            "one-hot or class numbers)."
        ),
    ] = None,
    samples: Annotated[
        Side | None,
        option("What a sample is in a square x [default: what the weights were trained on, as their steps show]."),
    ] = None,
    weights: Annotated[
        str | None,
        option(
            "Names of the factors by commas, first layer first [default: all matrices, where their order is certain]."
        ),
    ] = None,
    page: PageFile = None,
) -> "Result":
    """Is the theory true of my own deep linear network, trained anywhere?

    lowdim check weights/ --theorem parsimony

    lowdim check weights/ --theorem separation --data train.npz

    Exit code 4 if a statement does not hold, with the reason, or if it cannot be decided at the precision in which the numbers
    are stored. The law of parsimony can be checked from weights alone; with the data its bases come from the theorem's formula,
    the loss identity is checked too, and more reasons can be told apart.
    """
    import time

    from lowdim.report import Result
    from lowdim.report.check import check_sections, reasons

    begun = time.monotonic()
    source: Any = folder
    keep_apart({"page": page}, [source, data])
    names = weights.split(",") if weights else None
    checks, degrees, read, doubts = _check(source, Theorem(theorem), rank, data, names, samples)
    held = str(source) if isinstance(source, str | Path) else f"{len(source)} states in memory"
    config = {
        "folder": held,
        "theorem": str(theorem),
        "rank": rank,
        "data": data,
        "samples": None if samples is None else str(samples),
        "weights": weights,
    }
    result: dict[str, Any] = {
        "config": config,
        "warnings": doubts,
        "seconds": round(time.monotonic() - begun, 3),
        "holds": _holds(checks),
        "checks": [one.as_dict() for one in checks],
        "read": read,
        **degrees,
    }
    shown = page_of("check", result, f"The theorem of {theorem} on {held}", check_sections(result))
    remarks = [f"read: {sentence}" for sentence in read]
    remarks += [f"update: {degrees['update']}"] if degrees.get("update") else []
    remarks += [f"besides: {cause}" for cause in degrees.get("causes", [])[1:]]
    remarks += [f"{one.name}: {said}" for one, said in zip(checks, reasons(result), strict=True) if said]
    found = Result(
        "check",
        result,
        shown,
        value=checks,
        remarks=remarks,
        tables=shown.sections[0].tables[:-1],
        exit_code=0 if result["holds"] else 4,
    )
    return with_page(found, page)


def _check(
    folder: Any,
    theorem: Theorem,
    rank: int | None,
    data: Path | None,
    names: list[str] | None,
    side: Side | None,
) -> tuple[list["Check"], dict[str, Any], list[str], list[str]]:
    """The statements; degrees and causes; what was read, in sentences; and what a reader must doubt."""
    from lowdim.dynamics import WeightHistory, report_parsimony
    from lowdim.dynamics._causes import beside_cause
    from lowdim.dynamics._separation_checks import explained_separation
    from lowdim.dynamics.samples import read_samples
    from lowdim.errors import UsageError

    if theorem == Theorem.separation and data is None:
        raise UsageError("`theorem=separation` needs the inputs and classes: add `data=FILE.npz` with x and y.")
    if theorem == Theorem.separation and rank is not None:
        raise UsageError("`rank` belongs to `theorem=parsimony`; separation uses the number of classes.")
    if side is not None and data is None:
        raise UsageError("`samples` says how `data` is to be read: add `data=FILE.npz`, or leave it out.")
    if isinstance(folder, str | Path):
        history = WeightHistory.from_folder(folder, names, read_pickle=_read_pickle)
    elif isinstance(folder, Sequence):
        history = WeightHistory.of(folder, names)
    else:
        raise UsageError(f"Give a folder, or a list with the weights of each time, not {type(folder).__name__}.")
    named = history.factors or [f"factor {number}" for number in range(1, history.depth + 1)]
    factors = [f"{name} {rows} x {columns}" for name, (rows, columns) in zip(named, history.shapes, strict=True)]
    what = f"*{history.kind} files" if history.kind else "states in memory"
    last = f" to {history.time(-1)}" if len(history.names) > 1 else ""
    read = [f"{len(history.names)} {what}, {history.time(0)}{last}; first layer first: {', '.join(factors)}"]
    doubts = [doubt] if (doubt := _transposed(history)) else list[str]()

    def judge(samples: "Samples | None") -> "Found":
        if theorem == Theorem.separation:
            assert samples is not None
            checks, causes = explained_separation(history, samples.problem, samples.classes())
            return checks, {"causes": causes}
        report = report_parsimony(history, problem=samples.problem if samples else None, rank=rank)
        return report.checks, report.degrees()

    if data is None:
        checks, degrees = judge(None)
    else:
        widths = history.shapes[0][1], history.shapes[-1][0]
        given = read_samples(data, widths, None if side is None else Side(side).value)
        given, (checks, degrees), said, sure = _either_way(history, given, judge)
        read += [given.read, *([said] if said and sure else [])]
        doubts += [] if sure else [f"{said}."]
    if (beside := beside_cause(history)) not in ("", *degrees["causes"]):
        doubts.append(beside)
    return checks, degrees, read, doubts


def _either_way(
    history: "WeightHistory", given: "Samples", judge: "Callable[[Samples], Found]"
) -> "tuple[Samples, Found, str, bool]":
    """What is found with samples as rows or columns of a square x, whichever the weights show; in words which; and whether they do."""
    from lowdim.dynamics.samples import told_apart
    from lowdim.errors import InputError

    if given.other is None:
        return given, judge(given), "", True
    found: list[Found | InputError] = []
    for samples in (given, given.other):
        try:
            found.append(judge(samples))
        except InputError as error:  # as of classes whose means coincide that way
            found.append(error)
    here, there = (False if isinstance(one, InputError) else _holds(one[0]) for one in found)
    chosen, said, sure = told_apart(history, given, given.other, (here, there))
    answer = found[0 if chosen is given else 1]
    if isinstance(answer, InputError):
        raise answer
    return chosen, answer, said, sure


def _holds(checks: "list[Check]") -> bool | None:
    """False where one is broken, None where none is and one is undecided."""
    answers = [one.holds for one in checks]
    return False if False in answers else None if None in answers else True


def _read_pickle(path: Path) -> "dict[str, np.ndarray]":
    from lowdim.models._weights import read_pickled_arrays  # needs torch, which nothing else here does

    return read_pickled_arrays(path)


def _transposed(history: "WeightHistory") -> str:
    """A warning where square factors would be a gradient flow's if each were transposed: `W'W - VV'` of neighbours V, W hardly changes."""
    import itertools

    import numpy as np

    if any(rows != columns for rows, columns in history.shapes):
        return ""  # then only one way round fits

    ends = [history.weights(index) for index in (0, len(history.names) - 1)]
    largest = max(float(np.abs(weight).max()) for each in ends for weight in each) or 1.0

    def moved(*, turned: bool) -> float:
        scaled = [[(weight.T if turned else weight) / largest for weight in each] for each in ends]
        start, end = (
            [after.T @ after - before @ before.T for before, after in itertools.pairwise(each)] for each in scaled
        )
        return sum(float(np.linalg.norm(b - a)) for a, b in zip(start, end, strict=True))

    if moved(turned=False) <= 10 * moved(turned=True):
        return ""
    return (
        "The weights look transposed: each is read as output x input (y = W x). If the network computes x W, give W.T of every factor, "
        "and keep their order."
    )

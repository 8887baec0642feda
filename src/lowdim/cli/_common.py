"""What every command shares: options, output, progress, exit codes."""

import contextlib
import os
import sys
from collections.abc import Callable, Generator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from lowdim.cli._session import doing, plain, visible
from lowdim.cli._voice import say, this_process, warn, warn_all
from lowdim.schemas import SCHEMA_VERSION

if TYPE_CHECKING:
    from lowdim._files import RunFolder
    from lowdim._processes import Processes


__all__ = ["say", "warn", "warn_all"]


class Format(StrEnum):
    """How results are printed."""

    auto = "auto"
    human = "human"
    json = "json"


Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the result as JSON (same as --format json).")]
FormatOption: TypeAlias = Annotated[
    Format,
    typer.Option(
        "--format",
        help="auto is human, unless the environment has LOWDIM_FORMAT=json.",
    ),
]
Out: TypeAlias = Annotated[
    Path | None,
    typer.Option("--out", help="Run folder [default: lowdim-runs/COMMAND-HASH]. Starting again with it continues."),
]
Fresh: TypeAlias = Annotated[bool, typer.Option("--fresh", help="Discard what an earlier run left in the run folder.")]
Seed: TypeAlias = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of everything random.")]


def wants_json(json: bool, format: Format) -> bool:
    """Whether the result goes to stdout as JSON."""
    return json or format is Format.json or (format is Format.auto and os.environ.get("LOWDIM_FORMAT") == "json")


@contextlib.contextmanager
def joined(run: "RunFolder", device: str) -> "Generator[tuple[Processes, dict[str, Any] | None]]":
    """Joins the processes of this job, the first of which opens the run folder; gives them and the result of a finished run."""
    import torch

    from lowdim._processes import processes

    with contextlib.ExitStack() as stack:
        job = stack.enter_context(processes(torch.device(device)))
        if job.rank == 0:
            stack.enter_context(run)
        yield job, job.gather(run.finished() if job.rank == 0 else None)[0]


def emit_json(command: str, result: Mapping[str, Any]) -> None:
    """Prints a result on stdout with its schema version."""
    from lowdim._files import to_json

    if this_process() == 0:
        sys.stdout.write(to_json({"schema_version": SCHEMA_VERSION, "command": command, **result}))
        sys.stdout.flush()


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on stdout; text is never read as markup, and nothing is cut off when stdout is not a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(visible(title)), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(Text(visible(column)), justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    if this_process() == 0:
        width = None if sys.stdout.isatty() else 160
        Console(width=width, file=plain(sys.stdout)).print(table)


def number(value: float | None, digits: int = 3) -> str:
    """A number for a table: significant digits, a dash for None and NaN.

    Example:
        >>> number(0.12345), number(1234.5), number(None), number(1e-9)
        ('0.123', '1,234', '-', '1e-09')
    """
    if value is None or value != value:
        return "-"
    if abs(value) >= 1000 and abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


@contextlib.contextmanager
def progress(description: str) -> Generator[Callable[..., None]]:
    """A progress bar with the time left, on stderr; yields ``update(done, total, what)``, where `what` names the part of the work
    and may be left out. Where stderr is no terminal, `signs_of_life` tells instead."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    doing(description)
    console = Console(file=plain(sys.stderr))
    if this_process() != 0 or not console.is_terminal:
        yield lambda done, total, what=description: doing(what, done, total)
        doing("writing the results")
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=None)

        def update(done: int, total: int, what: str = description) -> None:
            what = visible(what)
            if what != bar.tasks[0].description:
                bar.reset(task, description=what)
            bar.update(task, completed=done, total=total)

        yield update

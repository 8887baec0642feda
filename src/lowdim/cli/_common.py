"""What every command shares: options, output, progress, exit codes."""

import contextlib
import os
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from lowdim.cli._session import doing, plain, visible
from lowdim.cli._voice import say, this_process, warn
from lowdim.errors import UsageError

if TYPE_CHECKING:
    from lowdim._files import RunFolder
    from lowdim._processes import Processes


__all__ = ["say", "this_process", "warn"]


def option(help: str, *flags: str, panel: str | None = None, **more: Any) -> Any:
    """An option of a command; its flag is the name of the parameter where `flags` says no other."""
    return typer.Option(*flags, rich_help_panel=panel, help=help, **more)


Out: TypeAlias = Annotated[
    Path | None,
    option(
        "Run folder [default: lowdim-runs/COMMAND-HASH]. Starting again with it continues.", "--out", panel="Output"
    ),
]
Fresh: TypeAlias = Annotated[
    bool, option("Discard what an earlier run left in the run folder.", "--fresh", panel="Output")
]
PageFile: TypeAlias = Annotated[
    Path | None, option("Write the page with tables and figures to this file.", "--page", panel="Output")
]
Seed: TypeAlias = Annotated[int, option("Seed of everything random.", "--seed", panel="Run", min=0, max=2**32 - 1)]


def keep_apart(written: Mapping[str, Path | None], read: Iterable[Any], delta: Path | None = None) -> None:
    """Refuses to write, by argument, over what is read here, into the folder of a delta, or two things to one file.

    Raises:
        UsageError: If one of them would be lost.
    """
    seen: dict[Path, str] = {}
    sources = [_place(entry) for entry in read if isinstance(entry, str | Path) and "\0" not in str(entry)]
    for argument, path in written.items():
        if path is None or "\0" in str(path):
            continue
        place = _place(path)
        if any(_same_file(source, place) for source in sources):
            raise UsageError(
                f"`{argument}` is {path}, which is read here and would be lost. Name another file.", argument=argument
            )
        if delta is not None and (delta / "delta.json").is_file() and place.is_relative_to(_place(delta)):
            raise UsageError(
                f"`{argument}` is {path}, in the delta {delta}, which must stay as it is. Name another place.",
                argument=argument,
            )
        if (other := seen.setdefault(place, argument)) != argument:
            raise UsageError(
                f"`{argument}` and `{other}` are one file, {path}: the first would be lost.", argument=argument
            )


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.is_file() and one.samefile(other)
    except OSError:  # one of them is not there, or no path that a system has
        return False


def _place(path: str | Path) -> Path:
    """Where a path leads; `Path.resolve` would raise on links that lead in a circle."""
    return Path(os.path.realpath(path))


@contextlib.contextmanager
def joined(run: "RunFolder", device: str) -> "Generator[tuple[Processes, dict[str, Any] | None]]":
    """Joins the processes of this job, the first of which opens the run folder; gives them and the result of a finished run."""
    import torch

    from lowdim._processes import processes

    with contextlib.ExitStack() as stack:
        job = stack.enter_context(processes(torch.device(device)))
        if job.index == 0:
            stack.enter_context(run)
        yield job, job.gather(run.finished() if job.index == 0 else None)[0]


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

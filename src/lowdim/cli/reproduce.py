"""``lowdim reproduce``: the lecture's figures, each with verdicts."""

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lowdim.cli._command import Command
from lowdim.cli._common import (
    Format,
    FormatOption,
    Fresh,
    Json,
    Out,
    emit_json,
    number,
    print_table,
    progress,
    say,
    wants_json,
)

if TYPE_CHECKING:
    from lowdim._files import RunFolder
    from lowdim.experiments import Experiment
    from lowdim.experiments._runner import Finished
    from lowdim.report import Page


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(cls=Command)(reproduce)


def reproduce(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID ...|all]", help="Which; see --list.")] = None,
    list_all: Annotated[
        bool, typer.Option("--list", help="Print the experiments and their settings, and stop.")
    ] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Vary a setting; may be repeated.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="The lecture's own sizes: minutes to hours.")] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Experiments at once [default: one per core].")
    ] = None,
    out: Out = None,
    fresh: Fresh = False,
    json: Json = False,
    format: FormatOption = Format.auto,
) -> None:
    """Is the theory true? Each figure of the lecture, computed here, with numeric verdicts.

    lowdim reproduce --list

    lowdim reproduce parsimony-svd

    lowdim reproduce separation-scale --set scales=.4,.2 --set seed=1

    lowdim reproduce all

    Writes one page with every figure. Exit code 4 if a verdict fails; an experiment that cannot run is reported
    and hides none of the others. Started again, the same command runs only what is missing.
    """
    from lowdim.errors import UsageError
    from lowdim.experiments import MODULES, load

    as_json = wants_json(json, format)
    if list_all:
        _list([load(id) for id in MODULES], as_json=as_json)
        return
    if not ids:
        raise UsageError("Say which experiments: lowdim reproduce all, or ids from lowdim reproduce --list.")
    names = list(MODULES) if "all" in ids else [id for id in MODULES if id in ids]
    experiments = [load(id) for id in (names if set(ids) <= {*MODULES, "all"} else ids)]
    result, path = run(experiments, assignments or [], full=full, jobs=jobs, out=out, fresh=fresh)
    if as_json:
        emit_json("reproduce", result)
    else:
        print_result(result)
        print(f"\npage: {path / 'report.html'}")
    raise typer.Exit(exit_code(result))


def run(
    experiments: Sequence["Experiment"],
    assignments: Sequence[str] = (),
    *,
    command: str = "reproduce",
    full: bool = False,
    jobs: int | None = None,
    out: Path | None,
    fresh: bool,
    next_steps: Sequence[tuple[str, str]] = (),
) -> tuple[dict[str, Any], Path]:
    """Runs experiments in a run folder; returns the result and the folder."""
    from importlib.metadata import version

    from lowdim._files import RunFolder
    from lowdim.experiments._runner import choose_jobs, run_experiments
    from lowdim.experiments._settings import parse_assignments, resolve_settings
    from lowdim.report.reproduce import experiments_page

    settings = resolve_settings(experiments, parse_assignments(assignments), full=full)
    config = {
        "version": version("lowdim"),
        "experiments": {id: dataclasses.asdict(one) for id, one in settings.items()},
    }
    begun = time.monotonic()
    with RunFolder(out, command, config, fresh=fresh) as folder, contextlib.ExitStack() as stack:
        known = folder.finished()
        if known is not None:
            return known, folder.path
        update = stack.enter_context(progress("experiments"))
        finished: dict[str, Finished] = {}
        for one in run_experiments(
            settings,
            folder.state,
            jobs=choose_jobs(jobs, list(settings)),
            progress=lambda done, total: update(round(done, 2), total),  # pyright: ignore[reportArgumentType]
        ):
            finished[one.id] = one
            say(_line(one, len(finished), len(settings)))
        options = "".join(f" --set {text}" for text in assignments) + (" --full" if full else "")
        page = experiments_page(experiments, finished, settings, options, next_steps)
        result = _write(folder, page, experiments, finished, settings, time.monotonic() - begun)
    return result, folder.path


def _line(one: "Finished", count: int, total: int) -> str:
    state = f"[{count}/{total}] {one.id}"
    if one.outcome is None:
        return f"{state}: {one.status}: {one.message}{chr(10) + one.details if one.details else ''}"
    judged = [verdict for verdict in one.outcome.verdicts if verdict.judged]
    failed = sum(verdict.failed for verdict in judged)
    return f"{state}: {len(judged) - failed} of {len(judged)} verdicts hold, {one.seconds:.1f} s"


def _write(
    run: "RunFolder",
    page: "Page",
    experiments: Sequence["Experiment"],
    finished: Mapping[str, "Finished"],
    settings: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    from lowdim.report import write_report
    from lowdim.report.reproduce import experiment_result

    written = write_report(run, page)
    entries = [experiment_result(one, finished[one.id], settings[one.id], written) for one in experiments]
    errors = [entry for entry in entries if entry["status"] == "error"]
    result = {
        "config": run.config,
        "warnings": [f"{entry['id']}: {entry['message']}" for entry in entries if entry["status"] != "done"],
        "seconds": round(seconds, 3),
        "experiments": entries,
        "passed": sum(entry["passed"] for entry in entries),
        "failed": sum(entry["status"] == "done" and not entry["passed"] for entry in entries),
        "errors": len(errors),
        "exit_code": max((finished[entry["id"]].exit_code for entry in errors), default=0),
    }
    if errors:  # the run stays open: started again, it tries these once more
        run.write_result(result)
    else:
        run.finish(result)
    return result


def exit_code(result: Mapping[str, Any]) -> int:
    """4 if a verdict failed, else that of the worst error, else 0."""
    return 4 if result["failed"] else result["exit_code"]


def _list(experiments: Sequence["Experiment"], *, as_json: bool) -> None:
    entries = [
        {
            "id": one.id,
            "section": one.section,
            "title": one.title,
            "lecture": one.lecture,
            "settings": dataclasses.asdict(one.settings()),
            "full": dict(one.full),
            "needs": list(one.needs),
        }
        for one in experiments
    ]
    if as_json:
        emit_json("reproduce", {"experiments": entries})
        return
    for section in sorted({one.section for one in experiments}):
        rows = [
            [one.id, one.title, one.lecture, ", ".join(field.name for field in dataclasses.fields(one.settings))]
            for one in experiments
            if one.section == section
        ]
        print_table(f"section {section}", ["id", "what one sees", "in the lecture", "settings (--set)"], rows)


def print_result(result: Mapping[str, Any]) -> None:
    """Tables and verdicts of every experiment, then the counts."""
    for entry in result["experiments"]:
        for table in entry["tables"]:
            rows = [
                [number(cell) if isinstance(cell, float) else "-" if cell is None else str(cell) for cell in row]
                for row in table["rows"]
            ]
            print_table(f"{entry['id']}: {table['title']}", table["columns"], rows)
        rows = [
            [
                verdict["name"],
                number(verdict["value"], 6),
                f"{verdict['relation']} {number(verdict['threshold'], 6)}",
                ("holds" if verdict["holds"] else "FAILS") if verdict["judged"] else f"not judged: {verdict['note']}",
            ]
            for verdict in entry["verdicts"]
        ]
        title = f"{entry['id']} ({entry['seconds']:.1f} s)"
        if rows:
            print_table(title, ["verdict", "value", "threshold", ""], rows)
        else:
            print(f"{title}: {entry['status']}: {entry['message']}")
    counts = {
        status: sum(entry["status"] == status for entry in result["experiments"]) for status in ("skipped", "error")
    }
    print(
        f"{result['passed']} experiments passed, {result['failed']} failed a verdict, {counts['error']} ended in an error, "
        f"{counts['skipped']} skipped; {result['seconds']:.0f} s"
    )

"""``lowdim reproduce``: the lecture's figures, each with verdicts."""

import contextlib
import dataclasses
import json
import shlex
import shutil
import textwrap
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lowdim.cli import _completion
from lowdim.cli._command import TYPED, Listing, called_from_python, run_folder
from lowdim.cli._common import Fresh, Out, option, progress, say

if TYPE_CHECKING:
    from lowdim._files import RunFolder
    from lowdim.experiments import Experiment
    from lowdim.experiments._runner import Finished
    from lowdim.report import Drawn, Page, Result


@called_from_python
def reproduce(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID ...|all]", help="Which; see --list.", autocompletion=_completion.experiments),
    ] = None,
    list_all: Annotated[bool, option("Print the experiments and their settings, and stop.", "--list")] = False,
    assignments: Annotated[
        list[str] | None, option("Vary a setting; may be repeated.", "--set", metavar="NAME=VALUE")
    ] = None,
    sweep: Annotated[
        list[str] | None, option("Run at each of these values; several give all combinations.", metavar="NAME=V1,V2")
    ] = None,
    full: Annotated[bool, option("The lecture's own sizes: minutes to hours.", "--full")] = False,
    jobs: Annotated[int | None, option("Experiments at once [default: one per core].", min=1)] = None,
    out: Out = None,
    fresh: Fresh = False,
) -> "Result | Listing":
    """Is the theory true? Each figure of the lecture, computed here, with numeric verdicts.

    lowdim reproduce --list

    lowdim reproduce parsimony-svd

    lowdim reproduce separation-scale --set scales=.4,.2 --set seed=1

    lowdim reproduce parsimony-svd --sweep eps=.5,1 --sweep depth=3,4

    lowdim reproduce all

    Most experiments take 3 to 6 seconds; all of them, with real networks, 6 to 8 minutes on two cores: most of it for the fine-tunings of section 1.

    Writes one page with every figure. Exit code 4 if a verdict fails; an experiment that cannot run is reported
    and hides none of the others. Started again, the same command runs only what is missing.
    """
    from lowdim.errors import UsageError
    from lowdim.experiments import MODULES, load

    if list_all:
        return _listing([load(id) for id in MODULES])
    if not ids:
        raise UsageError("Say which experiments: lowdim reproduce all, or ids from lowdim reproduce --list.")
    named = [load(id) for id in dict.fromkeys(ids) if id != "all"]
    experiments = [load(id) for id in MODULES] if "all" in ids else named
    return run(experiments, assignments or [], sweeps=sweep or [], full=full, jobs=jobs, out=out, fresh=fresh)


def run(
    experiments: Sequence["Experiment"],
    assignments: Sequence[str] = (),
    *,
    name: str = "reproduce",
    commands: Mapping[str, str] | None = None,
    sweeps: Sequence[str] = (),
    full: bool = False,
    jobs: int | None = None,
    out: Path | None,
    fresh: bool,
    next_steps: Sequence[tuple[str, str]] = (),
) -> "Result":
    """Runs experiments in a run folder."""
    from importlib.metadata import version

    from lowdim.experiments._runner import choose_jobs, run_experiments
    from lowdim.experiments._settings import parse_assignments, resolve_settings
    from lowdim.experiments._sweep import combined, sweep_points
    from lowdim.report import Drawn, Result, write_report
    from lowdim.report.demo import as_tour
    from lowdim.report.reproduce import experiment_tables, experiments_page, finished_page

    settings = resolve_settings(experiments, parse_assignments(assignments), full=full)
    config = {
        "version": version("lowdim"),
        "experiments": {id: dataclasses.asdict(one) for id, one in settings.items()},
        **({"sweep": list(sweeps)} if sweeps else {}),
    }
    points = sweep_points(experiments, settings, sweeps)
    begun = time.monotonic()
    held = config if fresh else _held_by(out, name, config)
    with run_folder(out, name, held, fresh=fresh) as (folder, path), folder, contextlib.ExitStack() as stack:
        known = folder.finished()
        if known is not None:
            known = _part(known, list(settings))
            page = finished_page(known, next_steps)
            return Result(name, known, page, folder=path, tables=experiment_tables(known), exit_code=exit_code(known))
        update = stack.enter_context(progress("experiments"))
        finished: dict[str, Finished] = {}
        ended: dict[str, Finished] = {}
        folders = {one.id: named_by_environment(settings[one.id], assignments) for one in experiments}
        options = {
            one.id: "".join(
                [
                    *_own(one, "--set", [*assignments, *folders[one.id]]),
                    *([" --full"] if full else []),
                    *_own(one, "--sweep", sweeps),
                ]
            )
            for one in experiments
        }

        drawn = Drawn()

        def part(ids: Collection[str], outcomes: "Mapping[str, Finished]") -> "Page":
            return experiments_page(
                [one for one in experiments if one.id in ids], outcomes, settings, options, next_steps
            )

        def write_page() -> None:
            """What is there so far; an interruption leaves this, and waits for no drawing."""
            write_report(folder, part(finished, finished), drawn)

        written, cost = begun, 0.0
        stack.push(lambda kind, error, trace: bool(error and finished and write_page()))
        for one in run_experiments(
            {key: point.settings for key, point in points.items()},
            folder.state,
            jobs=choose_jobs(jobs, list(points)),
            progress=lambda done, total: update(round(done, 2), total),  # pyright: ignore[reportArgumentType]
        ):
            ended[one.id] = one
            say(_line(one, len(ended), len(points)))
            id = points[one.id].id
            own = [(point, ended.get(key)) for key, point in points.items() if point.id == id]
            done = [(point, other) for point, other in own if other is not None]
            if len(done) == len(own):
                outcome = combined(done) if sweeps else one
                drawn.draw(part([id], {id: outcome}))
                finished[id] = outcome
            now = time.monotonic()
            if path is not None and finished and len(finished) < len(settings) and now - written >= 10 * cost:
                write_page()
                written, cost = time.monotonic(), time.monotonic() - now
        page = experiments_page(experiments, finished, settings, options, next_steps)
        if commands is not None:
            page = as_tour(page, experiments, finished, commands)
        named = sorted({text for texts in folders.values() for text in texts})
        typed = "".join([TYPED.get(), *(f" --set {shlex.quote(text)}" for text in named)]) if TYPED.get() else ""
        page = dataclasses.replace(page, command=typed)
        result, page = _write(folder, page, experiments, finished, settings, time.monotonic() - begun, drawn)
    tables = experiment_tables(result) if name != "demo" or exit_code(result) else []
    return Result(name, result, page, folder=path, tables=tables, exit_code=exit_code(result))


def named_by_environment(settings: Any, assignments: Sequence[str]) -> list[str]:
    """The folder of real networks as an assignment where the environment named it: the page's command runs the same elsewhere."""
    from lowdim.experiments._real_networks import real_data

    folder = getattr(settings, "data", "")
    typed = any(text.partition("=")[0].strip() == "data" for text in assignments)
    return [f"data={folder}"] if folder and folder == real_data() and not typed else []


def _own(experiment: "Experiment", option: str, texts: Sequence[str]) -> list[str]:
    """Those of the given ``name=value`` that this experiment has, as they are typed."""
    names = {field.name for field in dataclasses.fields(experiment.settings)}
    return [f" {option} {shlex.quote(text)}" for text in texts if text.partition("=")[0].strip() in names]


def _held_by(out: Path | None, name: str, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the folder where it holds these experiments, with these settings, among others; else the given one."""
    from lowdim._files import read_checked, to_json

    file = None if out is None else Path(out) / "config.json"
    if file is None or not file.is_file():
        return config
    earlier: Any = read_checked(file, remedy="Use `fresh` to replace it, or another `out`.")
    if (
        not isinstance(earlier, dict)
        or earlier.get("command") != name
        or earlier.get("version") != config["version"]
        or earlier.get("sweep") != config.get("sweep")
    ):
        return config
    asked, there = json.loads(to_json(config["experiments"])), earlier.get("experiments")
    if isinstance(there, dict) and all(there.get(id) == one for id, one in asked.items()):
        return {key: value for key, value in earlier.items() if key != "command"}
    return config


def _part(result: dict[str, Any], ids: Sequence[str]) -> dict[str, Any]:
    """The result of some of its experiments."""
    entries = [entry for entry in result["experiments"] if entry["id"] in ids]
    if len(entries) == len(result["experiments"]):
        return result
    passed = sum(entry["passed"] for entry in entries)
    return {
        **result,
        "experiments": entries,
        "passed": passed,
        "failed": sum(entry["status"] == "done" for entry in entries) - passed,
    }


def _line(one: "Finished", count: int, total: int) -> str:
    state = f"[{count}/{total}] {one.id}"
    if one.outcome is None:
        return f"{state}: {one.status}: {one.message}{chr(10) + one.details if one.details else ''}"
    judged = [verdict for verdict in one.outcome.verdicts if verdict.judged]
    if not judged:
        from lowdim.report.answers import unjudged

        return f"{state}: {unjudged([{'notes': one.outcome.notes}])}, {one.seconds:.1f} s"
    failed = sum(verdict.failed for verdict in judged)
    return f"{state}: {len(judged) - failed} of {len(judged)} verdicts hold, {one.seconds:.1f} s"


def _write(
    run: "RunFolder",
    page: "Page",
    experiments: Sequence["Experiment"],
    finished: Mapping[str, "Finished"],
    settings: Mapping[str, Any],
    seconds: float,
    drawn: "Drawn",
) -> "tuple[dict[str, Any], Page]":
    from lowdim.report import write_report
    from lowdim.report.reproduce import experiment_result

    written = write_report(run, page, drawn)
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
    if errors or len(entries) < len(
        run.config["experiments"]
    ):  # the run stays open: started again, it does what is missing
        run.write_result(result)
    else:
        run.finish(result)
    return result, page


def exit_code(result: Mapping[str, Any]) -> int:
    """4 if a verdict failed, else that of the worst error, else 0."""
    return 4 if result["failed"] else result["exit_code"]


def _listing(experiments: Sequence["Experiment"]) -> Listing:
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
    width = shutil.get_terminal_size((120, 24)).columns
    lines: list[str] = []
    for section in sorted({one.section for one in experiments}):
        lines += ["", f"section {section}"]
        for one in experiments:
            if one.section == section:
                names = " ".join(field.name for field in dataclasses.fields(one.settings))
                lines += ["", one.id, *_indented(one.title, width), *_indented(f"--set: {names}", width)]
    return Listing("reproduce", {"experiments": entries}, lines)


def _indented(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ", break_long_words=False)

"""Experiments as sections of the page, and as the result that ``lowdim reproduce`` gives."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lowdim._numbers import number
from lowdim._verdicts import Verdict
from lowdim.experiments import Experiment
from lowdim.experiments._runner import Finished
from lowdim.experiments._sweep import SWEPT
from lowdim.figures import Table
from lowdim.report._page import Page, Section
from lowdim.report.answers import headline

TITLE = "Low-dimensional representations in deep networks, reproduced"
SECTIONS = {
    1: "1. Neural collapse and transfer",
    2: "2. The law of parsimony",
    3: "3. Progressive separation",
    4: "4. Deep matrix completion",
    5: "5. After the lecture",
}


def experiments_page(
    experiments: Sequence[Experiment],
    finished: Mapping[str, Finished],
    settings: Mapping[str, Any],
    options: Mapping[str, str],
    next_steps: Sequence[tuple[str, str]] = (),
) -> Page:
    """One section per experiment, in the order given, and a table of all verdicts."""
    results = [experiment_result(one, finished[one.id], settings[one.id], ()) for one in experiments]
    return Page(
        title=TITLE,
        lead=headline("reproduce", {"experiments": results}),
        sections=[_section(one, finished[one.id], settings[one.id], options.get(one.id, "")) for one in experiments],
        overview=len(experiments) > 1,
        next_steps=next_steps,
    )


def finished_page(result: Mapping[str, Any], next_steps: Sequence[tuple[str, str]] = ()) -> Page:
    """The page of a run that was read from its folder: tables and verdicts; its figures lie in the folder."""
    sections = [
        Section(
            id=entry["id"],
            title=entry["title"],
            tables=[_given(table) for table in entry["tables"]],
            notes=entry["notes"],
            settings=entry["settings"],
            seconds=entry["seconds"],
        )
        for entry in result["experiments"]
    ]
    return Page(TITLE, headline("reproduce", result), sections, next_steps=next_steps)


def experiment_tables(result: Mapping[str, Any]) -> list[Table]:
    """Tables and verdicts of every experiment, for the terminal."""
    tables: list[Table] = []
    for entry in result["experiments"]:
        tables += [
            dataclasses.replace(_given(table), title=f"{entry['id']}: {table['title']}") for table in entry["tables"]
        ]
        title = f"{entry['id']} ({entry['seconds']:.1f} s)"
        rows = [
            [verdict["name"], verdict["value"], f"{verdict['relation']} {number(verdict['threshold'])}", _mark(verdict)]
            for verdict in entry["verdicts"]
        ]
        if any(table["name"] == SWEPT for table in entry["tables"]):
            continue  # that table lists the verdicts, point by point
        if not rows:
            title = f"{title}: {entry['status']}: {entry['message']}"
        tables.append(
            Table("verdicts", title, ["verdict", "value", "threshold", ""], rows, drop=["threshold", "value"])
        )
    return tables


def _mark(verdict: Mapping[str, Any]) -> str:
    if not verdict["judged"]:
        return f"not judged: {verdict['note']}"
    return "holds" if verdict["holds"] else "FAILS"


def _given(table: Mapping[str, Any]) -> Table:
    return Table(table["name"], table["title"], table["columns"], table["rows"])


def _section(experiment: Experiment, finished: Finished, settings: Any, options: str) -> Section:
    outcome = finished.outcome
    failure = {"done": "", "skipped": f"Skipped: {finished.message}", "error": f"It failed: {finished.message}"}
    return Section(
        id=experiment.id,
        title=experiment.title,
        why=[experiment.why, f"In the lecture: {experiment.lecture}."],
        figures=outcome.figures if outcome else (),
        tables=outcome.tables if outcome else (),
        verdicts=outcome.verdicts if outcome else (),
        settings=dataclasses.asdict(settings),
        command=f"lowdim reproduce {experiment.id}{options}",
        source=experiment.source,
        notes=outcome.notes if outcome else (),
        seconds=finished.seconds,
        failure=failure[finished.status],
        group=SECTIONS[experiment.section],
    )


def experiment_result(
    experiment: Experiment, finished: Finished, settings: Any, written: Sequence[str]
) -> dict[str, Any]:
    """One entry of ``experiments`` in the JSON."""
    outcome = finished.outcome
    verdicts: Sequence[Verdict] = outcome.verdicts if outcome else ()
    return {
        "id": experiment.id,
        "section": experiment.section,
        "title": experiment.title,
        "status": finished.status,
        "message": finished.message,
        "seconds": round(finished.seconds, 3),
        "settings": dataclasses.asdict(settings),
        "figures": [path for path in written if path.startswith(f"figures/{experiment.id}-")],
        "verdicts": [verdict.as_dict() for verdict in verdicts],
        "tables": [_table(table) for table in outcome.tables] if outcome else [],
        "notes": list(outcome.notes) if outcome else [],
        "passed": finished.status == "done" and not any(verdict.failed for verdict in verdicts),
    }


def _table(table: Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "title": table.title,
        "columns": list(table.columns),
        "rows": [list(row) for row in table.rows],
    }

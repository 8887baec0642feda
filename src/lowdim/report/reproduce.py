"""Experiments as sections of the page, and as the result that ``lowdim reproduce`` gives."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lowdim._verdicts import Verdict
from lowdim.experiments import Experiment
from lowdim.experiments._runner import Finished
from lowdim.figures import Table
from lowdim.report._page import Page, Section

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
    options: str,
    next_steps: Sequence[tuple[str, str]] = (),
) -> Page:
    """One section per experiment, in the order of the lecture, with the overview of all verdicts first."""
    return Page(
        title="Low-dimensional representations in deep networks, reproduced",
        lead="Each figure of the lecture, computed here, with a number that could have failed.",
        sections=[_section(one, finished[one.id], settings[one.id], options) for one in experiments],
        overview=True,
        next_steps=next_steps,
    )


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
        "figures": [path for path in written if _belongs(path, experiment.id)],
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


def _belongs(path: str, id: str) -> bool:
    return path.startswith(f"figures/{id}-")

"""One experiment at every combination of some settings: one figure and one table of its verdicts."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lowdim._verdicts import Verdict
from lowdim.errors import UsageError, did_you_mean
from lowdim.experiments._experiment import Experiment, Outcome
from lowdim.experiments._runner import Finished
from lowdim.experiments._settings import convert, parse_assignments, replaced
from lowdim.figures import Lines, Panels, Series, Table

SWEPT = "sweep"
"""Name of the figure and of the table with all points."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One combination: the values that are swept, and all settings."""

    id: str
    values: Mapping[str, Any]
    settings: Any

    @property
    def label(self) -> str:
        """``eps = 0.1, depth = 3``."""
        return ", ".join(f"{name} = {value}" for name, value in self.values.items())


def sweep_points(
    experiments: Sequence[Experiment], settings: Mapping[str, Any], sweeps: Sequence[str]
) -> dict[str, Point]:
    """The cross product of texts like ``eps=.1,.2`` for each experiment, by ``ID@NUMBER``; without texts, each by its id.

    Raises:
        UsageError: If an experiment lacks a setting, the setting is a list already, or a value is of the wrong kind.
    """
    if not sweeps:
        return {one.id: Point(one.id, {}, settings[one.id]) for one in experiments}
    found: dict[str, Point] = {}
    for experiment in experiments:
        base = settings[experiment.id]
        axes: dict[str, list[Any]] = {}
        for name, text in parse_assignments(sweeps, "sweep", "eps=.5,1").items():
            names = [field.name for field in dataclasses.fields(base)]
            if name not in names:
                raise UsageError(f"{experiment.id} has no setting {name!r} to sweep. {did_you_mean(name, names)}")
            default = getattr(base, name)
            if isinstance(default, tuple):
                raise UsageError(f"{name} of {experiment.id} is a list of values already: set it, do not sweep it.")
            axes[name] = [
                convert(part, default, name=f"{experiment.id}: {name}") for part in text.split(",") if part.strip()
            ]
            if not axes[name]:
                raise UsageError(f"`sweep` of {name} has no values. For example: `{name}={default},{default}`")
        for number, values in enumerate(itertools.product(*axes.values())):
            chosen = dict(zip(axes, values, strict=True))
            found[f"{experiment.id}@{number}"] = Point(experiment.id, chosen, replaced(experiment.id, base, chosen))
    return found


def combined(points: Sequence[tuple[Point, Finished]]) -> Finished:
    """All points of one experiment as one: a point that failed is a verdict that fails, one that was skipped is not judged."""
    verdicts: list[Verdict] = []
    rows: list[list[object]] = []
    curves: dict[tuple[int, str], list[tuple[float, float, str]]] = {}
    names = list(points[0][0].values)
    for point, one in points:
        found = list(one.outcome.verdicts) if one.outcome else []
        if one.outcome is None:
            skipped = one.status == "skipped"
            failed = Verdict.of(
                f"it ran ({one.message})",
                float("nan"),
                "==",
                0,
                judged=not skipped,
                note=one.message if skipped else "",
            )
            found = [failed]
        for place, verdict in enumerate(found):
            verdicts.append(dataclasses.replace(verdict, name=f"{point.label}: {verdict.name}"))
            said = "not judged" if not verdict.judged else "holds" if verdict.holds else "FAILS"
            rows.append(
                [*point.values.values(), verdict.name, verdict.value, f"{verdict.relation} {verdict.threshold:g}", said]
            )
            first = point.values[names[0]]
            rest = ", ".join(f"{name} = {value}" for name, value in list(point.values.items())[1:])
            x = float(first) if isinstance(first, int | float) else float(len(curves.get((place, rest), ())))
            curves.setdefault((place, rest), []).append((x, verdict.value, verdict.name))
    parts: dict[int, list[Series]] = {}
    titles: dict[int, str] = {}
    for (place, rest), curve in curves.items():
        curve.sort(key=lambda point: point[0])
        x, y = (np.array([point[part] for point in curve], float) for part in (0, 1))
        if (y > 0).any():
            one = Series(rest or curve[0][2], x, np.where(y > 0, y, np.nan), style="line+points")
            parts.setdefault(place, []).append(one)
            titles.setdefault(place, curve[0][2])
    panels = [
        Lines(f"{SWEPT}-{place}", titles[place], names[0], "value", series, log_y=True)
        for place, series in parts.items()
    ]
    figures = [Panels(SWEPT, f"Verdicts against {names[0]}", panels, columns=2)] if panels else []
    table = Table(SWEPT, "Verdicts", [*names, "verdict", "value", "threshold", ""], rows)
    seconds = sum(one.seconds for _, one in points)
    return Finished(points[0][0].id, "done", seconds, Outcome(verdicts, figures, [table]))

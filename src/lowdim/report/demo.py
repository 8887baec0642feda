"""The tour: four things at a glance, and how to have them on other data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from lowdim._numbers import number
from lowdim.experiments import Experiment
from lowdim.experiments._runner import Finished
from lowdim.figures import Lines, Panels
from lowdim.report._page import Card, Page
from lowdim.report.answers import tour_answer


def as_tour(
    page: Page, experiments: Sequence[Experiment], finished: Mapping[str, Finished], commands: Mapping[str, str]
) -> Page:
    """The page of experiments with a card for each, and everything else behind its title."""
    shown = [one.id for one in experiments if one.id in _CARDS and finished[one.id].outcome]
    cards = [_CARDS[id](finished[id], commands[id]) for id in shown]
    folded = [replace(section, folded=True, group="") for section in page.sections]
    passed = [one.outcome is not None and not any(v.failed for v in one.outcome.verdicts) for one in finished.values()]
    return replace(
        page,
        lead=tour_answer(page.lead, all(passed)),
        title="What lowdim does, in four cards",
        cards=cards,
        sections=folded,
        overview=False,
    )


def _measure(found: Finished, command: str) -> Card:
    assert found.outcome is not None
    panels = found.outcome.figures[0]
    assert isinstance(panels, Panels)
    lines = panels.panels[0]
    assert isinstance(lines, Lines)
    measured = [series for series in lines.series if series.style == "line+points"][-1]
    values = np.asarray(measured.y, float)
    return Card(
        "Measure: how the classes of your data separate in a network",
        f"Block by block the images of one class move together: their scatter over that between the classes ({lines.y_label}, "
        f"{measured.name}) falls from {number(float(values[0]))} to {number(float(values[-1]))}.",
        f"{values[0] / values[-1]:.0f} times tighter",
        lines,
        command,
    )


def _tune(found: Finished, command: str) -> Card:
    assert found.outcome is not None
    lines, gain = found.outcome.figures[0], found.outcome.verdicts[0].value
    assert isinstance(lines, Lines)
    return Card(
        "Choose and tune: which network, and is it worth it, with few labels",
        "A network that knows clean digits, and a few labelled noisy ones: on the test images its features do better than the pixels "
        "in every draw. On other data they may not; lowdim advise compares before anything is spent.",
        f"{100 * gain:+.1f} points",
        lines,
        command,
    )


def _complete(found: Finished, command: str) -> Card:
    assert found.outcome is not None
    ratio = found.outcome.verdicts[0].value
    return Card(
        "Complete: fill the holes of a table, ratings or a picture",
        "Half of the pixels were taken away and filled in from the rest; the error on them is compared with that of row and column means.",
        f"{ratio:.2f} of the error of means",
        found.outcome.figures[0],
        command,
    )


def _theory(found: Finished, command: str) -> Card:
    assert found.outcome is not None
    first = found.outcome.verdicts[0]
    figure = found.outcome.figures[0]
    return Card(
        "Theory: gradient descent moves only a small part of each weight matrix",
        f"In a deep linear network nearly all singular values follow one recursion that knows nothing of the data ({first.name}).",
        f"exact to {number(first.value, 1)}",
        figure.panels[0] if isinstance(figure, Panels) else figure,
        command,
    )


_CARDS: dict[str, Callable[[Finished, str], Card]] = {
    "layerwise-collapse": _measure,
    "few-labels": _tune,
    "damaged-picture": _complete,
    "parsimony-svd": _theory,
}

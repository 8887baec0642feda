"""The cards of the tour say what their experiments found."""

import functools
import re

import pytest

import lowdim.data
from lowdim.experiments import load
from lowdim.experiments._runner import Finished
from lowdim.report import Page, Section
from lowdim.report.demo import as_tour


def tour(id, **settings):
    experiment = load(id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lowdim.data, "load_data", functools.partial(lowdim.data.load_data, limit=400))
        outcome = experiment.run(experiment.settings(**settings), lambda done, total: None)
    finished = {id: Finished(id=id, status="done", outcome=outcome, seconds=0.0)}
    return as_tour(Page("t", "l", [Section(id, "s")]), [experiment], finished, {id: "lowdim something"}), outcome


@pytest.mark.parametrize("id", ["layerwise-collapse", "few-labels", "parsimony-svd"])
def test_a_card_has_its_number_its_figure_and_its_command(id):
    page, outcome = tour(id)
    (card,) = page.cards
    assert card.command == "lowdim something" and card.figure is not None
    assert all(section.folded for section in page.sections)
    assert all(verdict.holds for verdict in outcome.verdicts)
    if id == "layerwise-collapse":
        first, last = (
            float(text.replace(",", "")) for text in re.search(r"from (\S+) to (\S+)\.$", card.sentence).groups()
        )
        assert first > 5 * last, "the classes contract"
        assert float(card.number.split()[0]) == pytest.approx(first / last, rel=0.2)
    if id == "few-labels":
        assert float(card.number.split()[0]) > 0

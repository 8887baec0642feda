"""The experiments that train or read networks, on what ships with the package: verdicts hold, and fail without collapse."""

import dataclasses
import functools

import numpy as np
import pytest

import lowdim.models
from lowdim.errors import NonFiniteError
from lowdim.experiments import load
from lowdim.figures import Lines, Panels
from lowdim.report import to_svg
from lowdim.report._tables import to_csv

# Empty `data`: the embedded digits, also where the real networks are at hand.
QUICK = {
    "layerwise-collapse": {},
    "prevalence-of-separation": {"data": "", "mlp_epochs": 10},
    "unconstrained-features": {"starts": 1},
    "few-labels": {"draws": 1},
    "damaged-picture": {"height": 80, "width": 120},
    "collapse-and-transfer": {"data": ""},
    "transfer-table": {"data": "", "shots": 5, "seeds": 1},
    "data-scarcity": {"data": "", "sizes": (3, 6), "seeds": 1},
    "layerwise-finetuning": {"data": "", "shots": 5, "seeds": 1},
}


def run(id, **changes):
    experiment = load(id)
    settings = dataclasses.replace(experiment.settings(), **{**QUICK.get(id, {}), **changes})
    told = []
    outcome = experiment.run(settings, lambda done, total: told.append((done, total)))
    assert all(0 <= done <= total for done, total in told)
    return outcome


def lines_of(figures):
    for figure in figures:
        if isinstance(figure, Panels):
            yield from lines_of(figure.panels)
        elif isinstance(figure, Lines):
            yield figure


@pytest.mark.parametrize("id", QUICK)
def test_verdicts_hold_and_figures_hold_numbers(id):
    outcome = run(id)
    assert [verdict.name for verdict in outcome.verdicts if verdict.failed] == []
    assert outcome.verdicts and all(verdict.judged or verdict.note for verdict in outcome.verdicts)
    assert outcome.figures or outcome.tables
    for lines in lines_of(outcome.figures):
        assert lines.series
        for series in lines.series:
            assert len(series.x) == len(series.y) > 0
            assert np.isfinite(np.asarray(series.y, float)).any(), (lines.name, series.name)
    for table in outcome.tables:
        assert table.rows
        assert all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.parametrize("id", ["transfer-table", "factorization-compressed"])
def test_only_measured_times_differ_from_run_to_run(id):
    smaller = {"d": 40} if id == "factorization-compressed" else {"methods": ("linear-probe", "layer")}
    first, second = (
        {table.name: to_csv(table) for table in run(id, **smaller).tables if table.name != "seconds"}
        | {figure.name: to_svg(figure) for figure in run(id, **smaller).figures}
        for _ in range(2)
    )
    assert first and first == second


def test_a_step_that_is_too_large_is_named():
    with pytest.raises(NonFiniteError, match=r"step=0\.25"):
        run("unconstrained-features", classes=3, per_class=4, dimension=5)


def test_untrained_networks_fail_the_verdicts_of_collapse(monkeypatch):
    untrained = functools.partial(lowdim.models.load_model, random_weights=True)
    monkeypatch.setattr(lowdim.models, "load_model", untrained)
    for id in ("layerwise-collapse", "prevalence-of-separation"):
        failed = [verdict.name for verdict in run(id).verdicts if verdict.failed]
        assert failed
        assert not any("trained now" in name for name in failed)


def test_the_terminal_phase_needs_training_beyond_zero_error():
    outcome = run("terminal-phase", mlp_epochs=250, cnn_epochs=1, measurements=12)
    failed = [verdict.name for verdict in outcome.verdicts if verdict.failed]
    assert failed == ["CNN: training error at the end"]
    short = run("terminal-phase", mlp_epochs=15, cnn_epochs=1, measurements=8)
    assert any(verdict.name.startswith("MLP: NC1 at zero error") for verdict in short.verdicts if verdict.failed)

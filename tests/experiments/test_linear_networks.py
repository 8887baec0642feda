"""The experiments of sections 2 and 3: verdicts hold, and fail when the theory is broken on purpose."""

import dataclasses

import numpy as np
import pytest

from lowdim.errors import UsageError
from lowdim.experiments import MODULES, _parsimony, load, separation, separation_figures

QUICK = {
    "parsimony-svd": {},
    "parsimony-weight-decay": {},
    "parsimony-unwhitened": {},
    "parsimony-momentum": {},
    "parsimony-optimizers": {},
    "parsimony-low-rank-bias": {},
    "parsimony-general": {},
    "separation-theorem": {"depths": (4,), "small_scales": (0.3, 0.1)},
    "separation-linear-relu": {"depth": 6, "relu_loss": 1e-4},
    "separation-depth": {"depths": (6, 8), "relu_depths": ()},
    "separation-scale": {},
    "separation-tradeoff": {"scales": (0.2, 0.1, 0.05)},
    "separation-init": {"depth": 5},
}


def run(id, **changes):
    experiment = load(id)
    settings = dataclasses.replace(experiment.settings(), **{**QUICK[id], **changes})
    return experiment.run(settings, lambda done, total: None)


def failed(outcome):
    return [verdict.name for verdict in outcome.verdicts if verdict.failed]


@pytest.mark.parametrize("id", QUICK)
@pytest.mark.parametrize("seed", [0, 1])
def test_verdicts_hold(id, seed):
    outcome = run(id, seed=seed)
    assert outcome.verdicts
    assert not failed(outcome)
    assert outcome.figures


@pytest.mark.slow
@pytest.mark.parametrize("id", QUICK)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_verdicts_hold_at_the_default_settings(id, seed):
    experiment = load(id)
    outcome = experiment.run(experiment.settings(seed=seed), lambda done, total: None)
    assert not failed(outcome)


def test_every_experiment_of_sections_2_and_3_is_here():
    assert set(QUICK) == {id for id in MODULES if id.startswith(("parsimony", "separation"))}
    for id in QUICK:
        experiment = load(id)
        assert experiment.section == (2 if id.startswith("parsimony") else 3)
        assert set(experiment.full) <= {field.name for field in dataclasses.fields(experiment.settings)}


@pytest.mark.parametrize("eps", [0.2, 0.05])
def test_polar_steps_are_judged_while_rho_is_away_from_0(eps):
    """Every step takes as much off rho, so a smaller start is at 0 within the iterations asked for."""
    outcome = run("parsimony-momentum", eps=eps)
    assert not failed(outcome)
    assert any(f"first {round(75 * eps) - 1} iterations" in verdict.name for verdict in outcome.verdicts)
    with pytest.raises(UsageError, match="polar_step must be at most"):
        run("parsimony-momentum", eps=eps, polar_step=0.8 * eps)


def test_a_wrong_recursion_of_rho_fails_a_verdict(monkeypatch):
    def wrong(scale, rule, steps, *, depth, full_output=True):
        values = [scale]
        for _ in range(steps):
            values.append(values[-1] * (1 - rule.step * values[-1] ** (2 * depth - 1)))  # 2L - 1 for 2 (L - 1)
        return np.array(values)

    monkeypatch.setattr(_parsimony, "scale_recursion", wrong)
    assert any("singular values on rho(t)" in name for name in failed(run("parsimony-svd", eps=0.8)))


def test_a_wrong_basis_fails_a_verdict(monkeypatch):
    from lowdim.dynamics import Bases

    right = Bases.of_target.__func__

    def wrong(cls, phi, directions, *arguments):  # W in place of its transpose, in all factors but the last
        return right(cls, phi, [*(d.swapaxes(-1, -2) for d in directions[:-1]), directions[-1]], *arguments)

    monkeypatch.setattr(Bases, "of_target", classmethod(wrong))
    names = failed(run("parsimony-svd"))
    assert any("off-diagonal" in name for name in names)
    assert any("reduced run equals" in name for name in names)


@pytest.mark.parametrize("module", [separation, separation_figures])
def test_a_wrong_sharp_law_fails_a_verdict(monkeypatch, module):
    monkeypatch.setattr(module, "sharp_ratio", lambda eps, n, depth: eps**2 * n ** (-1 / (depth - 1)))
    id = "separation-theorem" if module is separation else "separation-scale"
    assert any("eps^2 n^(-1/L)" in name for name in failed(run(id)))


def test_settings_outside_the_theorem_are_refused_or_not_judged():
    for id in ("parsimony-svd", "parsimony-unwhitened", "parsimony-low-rank-bias"):
        with pytest.raises(UsageError, match="rank must be at most 2 at width 6, not 3"):
            run(id, width=6)
    with pytest.raises(UsageError, match="per_class must be at least 3"):
        run("separation-scale", per_class=2)
    large = run("separation-scale", scales=(1.0,), step=1.0)
    law = next(verdict for verdict in large.verdicts if "eps^2" in verdict.name)
    assert not law.judged
    assert "small scales" in law.note
    bias = run("parsimony-low-rank-bias", scales=(1.0, 0.5))
    assert [verdict.judged for verdict in bias.verdicts] == [True, False]


def test_without_whitening_the_middle_is_judged_where_it_was_seen_to_stay():
    """At twice the scale it is 1.1e-4 off: a range of the statement, not of the tolerance."""
    assert all(verdict.judged for verdict in run("parsimony-unwhitened").verdicts)
    large = run("parsimony-unwhitened", eps=2.0).verdicts
    assert [verdict.judged for verdict in large] == [False, True, True, True]
    assert not any(verdict.failed for verdict in large)

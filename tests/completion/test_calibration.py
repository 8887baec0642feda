"""The factor on deviations, from held-out entries."""

import numpy as np
import pytest

from lowdim.completion.solvers._solver import HeldOut


def held_out(n: int, deviation: float) -> HeldOut:
    errors = np.random.default_rng(0).normal(size=n)
    return HeldOut(np.zeros(n, int), errors, np.zeros(n), np.full(n, deviation))


def quantile(check: HeldOut) -> float:
    return float(np.quantile(np.abs(check.values) / check.deviations, 0.9 * (1 + 1 / check.values.size))) / 1.644854


def test_many_entries_decide_alone() -> None:
    check = held_out(1_000_000, 0.9)
    assert check.calibration == pytest.approx(1 / 0.9, rel=0.003)
    assert check.calibration == pytest.approx(quantile(check), rel=0.003)


def test_few_entries_are_drawn_to_what_is_typical() -> None:
    factors = [HeldOut(np.zeros(60, int), e, np.zeros(60), np.ones(60)).calibration for e in samples(60)]
    alone = [quantile(HeldOut(np.zeros(60, int), e, np.zeros(60), np.ones(60))) for e in samples(60)]
    assert np.std(np.log(factors)) < 0.4 * np.std(np.log(alone))
    assert np.std(np.log(alone)) == pytest.approx(np.sqrt(0.78 / 60), rel=0.2)  # what the weight assumes
    assert 0.95 < np.mean(factors) < 1.01


def test_few_entries_that_contradict_the_deviations_decide_alone() -> None:
    check = held_out(60, 1e-3)
    assert check.calibration == pytest.approx(quantile(check))
    assert check.calibration > 500


def test_next_to_nothing_calibrates_nothing() -> None:
    assert held_out(19, 0.5).calibration == 1.0


@pytest.mark.parametrize("unit", [1.0, 2.0**600, 2.0**-600])
def test_the_interval_of_an_error_covers_it_in_any_unit(unit: float) -> None:
    checks = [HeldOut(np.zeros(100, int), unit * e, np.zeros(100), np.ones(100)) for e in samples(100)]
    covered = [low < unit < high for low, high in filter(None, (check.rmse_interval for check in checks))]
    assert 0.84 < np.mean(covered) < 0.96 and len(covered) == 200
    assert HeldOut(np.zeros(1, int), np.ones(1), np.zeros(1), np.ones(1)).rmse_interval is None


def samples(n: int) -> list[np.ndarray]:
    return list(np.random.default_rng(1).normal(size=(200, n)))

"""Missing at random or not: planted tables, and the standard error against repetitions."""

import warnings

import numpy as np
import pytest

from lowdim.completion import CompletionWarning, DeepMatrixCompletion
from lowdim.completion import _engine as engine
from lowdim.completion.entries import Entries
from lowdim.completion.solvers._solver import Settings
from lowdim.completion.solvers.table import _holes as missingness


def table(seed: int, *, at_random: bool, high: bool = True, m: int = 500) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(m, 3)) @ generator.normal(size=(3, 12)) + generator.normal(size=(m, 12))
    share = 0.3 if at_random else np.where((values > 0) == high, 0.5, 0.1)
    return np.where(generator.random(values.shape) < share, np.nan, values)


def messages(matrix: np.ndarray) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CompletionWarning)
        DeepMatrixCompletion(solver="table").fit(matrix)
    return [str(one.message) for one in caught if "not missing at random" in str(one.message)]


def test_high_or_low_values_that_go_missing_more_often_are_noticed_with_their_sign() -> None:
    assert messages(table(0, at_random=True)) == []
    assert "higher than what is known" in messages(table(0, at_random=False))[0]
    assert "lower than what is known" in messages(table(0, at_random=False, high=False))[0]


def test_the_standard_error_is_that_of_repetitions_and_the_mean_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list = []
    original = missingness.difference
    monkeypatch.setattr(missingness, "difference", lambda *arguments: found.append(original(*arguments)) or found[-1])
    for seed in range(40):
        engine.complete(Entries.from_dense(table(seed, at_random=True, m=80)), Settings(seed=seed), solver="table")
    scores = np.array([one.mean / one.error for one in found])
    assert abs(scores.mean()) < 3 / np.sqrt(40)
    assert 0.65 < scores.std() < 1.4  # three standard errors of a deviation of 40


def test_too_few_cells_give_no_verdict() -> None:
    matrix = table(3, at_random=True, m=60)
    matrix[np.isnan(matrix)] = 0.0
    matrix[0, 0] = np.nan
    assert messages(matrix) == []

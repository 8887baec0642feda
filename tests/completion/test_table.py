"""The table solver: better than the usual imputers on real tables, honest intervals, and awkward shapes."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import KNNImputer

from lowdim.completion.entries import Entries
from lowdim.completion.solvers._solver import Settings, hold_out
from lowdim.completion.solvers.table._table import solve_table


def with_holes(data: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    missing = np.random.default_rng(seed).random(data.shape) < share
    return np.where(missing, np.nan, data), missing


def standardised(data: np.ndarray) -> np.ndarray:
    return (data - data.mean(0)) / data.std(0)


def solve(holed: np.ndarray, **settings: int):
    """The solution of standardised columns, which is what the solver is given, and the entries."""
    entries = Entries.from_dense(holed)
    return solve_table(entries, hold_out(entries, 0.1, 0), Settings(**settings)), entries


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_beats_standardised_neighbours_at_half_missing(load) -> None:
    data = load().data
    ratios = []
    for seed in range(3):
        holed, missing = with_holes(standardised(data), 0.5, seed=100 + seed)
        solved, entries = solve(holed)
        ours = np.clip(solved.completion.complete(entries), np.nanmin(holed, 0), np.nanmax(holed, 0))
        theirs = KNNImputer().fit_transform(holed)
        errors = [np.sqrt(np.mean((filled - standardised(data))[missing] ** 2)) for filled in (ours, theirs)]
        ratios.append(errors[0] / errors[1])
    assert np.mean(ratios) < 0.95


def test_held_out_error_predicts_the_error_of_the_missing_cells() -> None:
    data = standardised(load_breast_cancer().data)
    promised, true = [], []
    for seed in (101, 102, 103):
        holed, missing = with_holes(data, 0.3, seed=seed)
        solved, entries = solve(holed)
        promised.append(solved.held_out.rmse)
        true.append(np.sqrt(np.mean((solved.completion.complete(entries) - data)[missing] ** 2)))
    assert np.mean(promised) == pytest.approx(np.mean(true), rel=0.1)


def test_intervals_cover_what_they_say() -> None:
    data = standardised(load_breast_cancer().data)
    holed, missing = with_holes(data, 0.3, seed=102)
    solved, _entries = solve(holed)
    rows, cols = np.nonzero(missing)
    width = 1.6449 * solved.completion.deviation(rows, cols) * solved.held_out.calibration
    covered = np.abs(solved.completion.predict(rows, cols) - data[rows, cols]) <= width
    assert 0.88 <= covered.mean() <= 0.92


def test_cells_and_rows_are_the_same_model() -> None:
    holed, _ = with_holes(standardised(load_wine().data), 0.3, seed=103)
    solved, entries = solve(holed)
    rows, cols = np.array([3, 3, 100]), np.array([0, 12, 5])
    np.testing.assert_allclose(
        solved.completion.predict(rows, cols), solved.completion.complete(entries)[rows, cols], rtol=1e-9
    )


def test_extreme_value_does_not_own_a_latent() -> None:
    generator = np.random.default_rng(105)
    data = generator.normal(size=(500, 3)) @ generator.normal(size=(3, 20)) + 0.3 * generator.normal(size=(500, 20))
    column = np.zeros((500, 1))
    column[7] = 22.4  # unit variance
    holed, missing = with_holes(np.hstack([data, column]), 0.2, seed=106)
    holed[7, -1] = 22.4
    solved, entries = solve(holed)
    predicted = solved.completion.complete(entries)[missing[:, -1] & (column[:, 0] == 0), -1]
    assert np.abs(predicted).max() < 0.2 * 22.4


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1, 1), (2, 2), (3, 50)])
def test_tiny_shapes(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    solved, entries = solve(values)
    assert np.isfinite(solved.completion.complete(entries)).all()
    assert solved.completion.factors[0].shape[1] < min(shape)


def test_empty_rows_get_the_means_and_constant_columns_their_constant() -> None:
    holed, _ = with_holes(standardised(load_wine().data), 0.3, seed=107)
    holed[5] = np.nan
    holed[:, 3] = np.where(np.isnan(holed[:, 3]), np.nan, 7.0)
    solved, entries = solve(holed)
    completed = solved.completion.complete(entries)
    np.testing.assert_allclose(completed[:, 3], 7.0, atol=0.05)
    assert np.abs(completed[5] - np.nanmean(holed, 0)).max() < 1.0


def test_the_seed_fixes_the_answer() -> None:
    holed, _ = with_holes(standardised(load_wine().data), 0.3, seed=108)
    first, entries = solve(holed, seed=3)
    second, _ = solve(holed, seed=3)
    np.testing.assert_array_equal(first.completion.complete(entries), second.completion.complete(entries))

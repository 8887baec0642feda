"""The table solver: better than the usual imputers on real tables, honest intervals, and awkward shapes."""

import functools

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import KNNImputer

from lowdim.completion.entries import Entries
from lowdim.completion.solvers._solver import Settings, hold_out
from lowdim.completion.solvers.table._holes import copies_of_stretches, in_stretches
from lowdim.completion.solvers.table._in_time import Checked, InTime, are_times, interpolated
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


@functools.cache
def solved_cancer(share: float, seed: int):
    """The standardised table, which of its cells are missing, the solution and the entries."""
    data = standardised(load_breast_cancer().data)
    holed, missing = with_holes(data, share, seed=seed)
    return data, missing, *solve(holed)


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
    promised, true = [], []
    for seed in (101, 102, 103):
        data, missing, solved, entries = solved_cancer(0.3, seed)
        promised.append(solved.held_out.rmse)
        true.append(np.sqrt(np.mean((solved.completion.complete(entries) - data)[missing] ** 2)))
    assert np.mean(promised) == pytest.approx(np.mean(true), rel=0.1)


def test_intervals_cover_what_they_say() -> None:
    data, missing, solved, _entries = solved_cancer(0.3, 102)
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


def waves(rows: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Six waves that say nothing about each other, each dark for stretches of 8 rows; and where."""
    generator = np.random.default_rng(seed)
    data = np.sin(np.arange(rows)[:, None] / generator.uniform(8, 20, 6) + generator.uniform(0, 6, 6))
    data = standardised(data + 0.1 * generator.normal(size=data.shape))
    missing = np.zeros(data.shape, bool)
    for column in missing.T:
        for start in generator.permutation(np.arange(5, rows - 20, 16))[:4]:
            column[start : start + 8] = True
    return data, missing


def test_a_sensor_dark_for_a_while_is_filled_from_before_and_after() -> None:
    data, missing = waves()
    clock = np.column_stack([np.zeros(300), np.arange(300.0)])
    entries = Entries.from_dense(np.where(missing, np.nan, data))
    solved = solve_table(entries, hold_out(entries, 0.1, 0), Settings(clock=clock))
    assert "time" in solved.reason
    line = np.column_stack(
        [
            np.interp(np.arange(300), np.flatnonzero(~gone), column[~gone])
            for column, gone in zip(data.T, missing.T, strict=True)
        ]
    )
    of_line = np.sqrt(np.mean((line - data)[missing] ** 2))
    filled = solved.completion.complete_in_time(entries, clock)
    assert np.sqrt(np.mean((filled - data)[missing] ** 2)) < 1.2 * of_line
    rows, cols = np.nonzero(missing)
    np.testing.assert_allclose(solved.completion.predict(rows, cols), filled[missing], rtol=1e-9)
    covered = np.abs(filled - data)[missing] <= 1.6449 * solved.completion.deviation(rows, cols)
    assert covered.mean() > 0.8


def test_an_order_that_says_nothing_is_left_alone() -> None:
    generator = np.random.default_rng(1)
    data = standardised(
        generator.normal(size=(120, 2)) @ generator.normal(size=(2, 6)) + 0.3 * generator.normal(size=(120, 6))
    )
    holed, _ = with_holes(data, 0.2, 1)
    entries = Entries.from_dense(holed)
    clock = np.column_stack([np.zeros(120), np.arange(120.0)])
    solved = solve_table(entries, hold_out(entries, 0.1, 0), Settings(clock=clock))
    assert solved.completion.in_time is None and solved.reason == ""


def test_order_is_used_in_a_short_table_with_single_holes() -> None:
    data = standardised(np.random.default_rng(3).normal(size=(60, 2)).cumsum(0))
    missing = np.zeros(data.shape, bool)
    missing[4::11, 0] = missing[9::10, 1] = True
    clock = np.column_stack([np.zeros(60), np.arange(60.0)])
    entries = Entries.from_dense(np.where(missing, np.nan, data))
    solved = solve_table(entries, hold_out(entries, 0.1, 0), Settings(clock=clock))
    assert "time" in solved.reason
    filled = solved.completion.complete_in_time(entries, clock)
    error = np.sqrt(np.mean((filled - data)[missing] ** 2))
    assert error < 0.4
    assert 0.5 * error < solved.held_out.rmse < 2 * error


def test_known_cells_are_told_from_those_around_them() -> None:
    values = np.array([[0.0], [9.0], [4.0], [7.0], [8.0], [6.0]])
    observed = np.array([True, False, True, True, True, True])[:, None]
    clock = np.array([[0, 1], [0, 2], [0, 5], [0, 6], [1, 1], [1, 3]], float)
    line, far = interpolated(values, observed, clock, others=True)
    np.testing.assert_allclose(line[:, 0], [4, np.nan, 5.6, 4, 6, 8])
    assert far[:, 0].tolist() == [3, 4, 0, 2, 2, 2]  # the ends have a neighbour on one side only


def test_interpolation_stays_within_its_group() -> None:
    values = np.array([[0.0], [9.0], [4.0], [8.0], [6.0]])
    observed = np.array([True, False, True, True, False])[:, None]
    clock = np.array([[0, 1], [0, 2], [0, 5], [1, 1], [1, 3]], float)
    line, far = interpolated(values, observed, clock)
    np.testing.assert_allclose(line[:, 0], [0, 1, 4, 8, 8])
    assert far[:, 0].tolist() == [0, 0, 0, 0, 2]
    np.testing.assert_allclose(interpolated(values, observed, np.full((5, 2), np.nan))[0], np.nan)


def test_times_are_told_from_the_order_of_the_rows_and_not_from_themselves() -> None:
    random = np.random.default_rng(0)
    times = np.cumsum(random.exponential(size=200))
    values = np.column_stack([3 * times - 8, random.normal(size=200)])
    clock, observed = np.column_stack([np.zeros(200), times]), np.ones((200, 2), bool)
    line, far = interpolated(values, observed, clock, others=True)
    inside = np.arange(1, 199)
    np.testing.assert_allclose(line[inside, 0], (values[inside - 1, 0] + values[inside + 1, 0]) / 2)
    assert not np.allclose(line[inside, 1], (values[inside - 1, 1] + values[inside + 1, 1]) / 2)
    model = np.zeros_like(values)
    fitted = InTime.fit(
        Checked.of(values, model, line, far, observed), values.shape, are_times(values, observed, clock)
    )
    assert fitted is not None and (fitted.weights[0] == 1).all() and (fitted.weights[1] < 1).all()


def test_intervals_of_stretches_cover_because_stretches_are_held_out() -> None:
    generator = np.random.default_rng(2)
    walk = standardised(
        np.cumsum(generator.normal(size=(200, 3)), 0) @ generator.normal(size=(3, 8))
        + 0.1 * generator.normal(size=(200, 8))
    )
    missing = np.zeros(walk.shape, bool)
    while missing.mean() < 0.3:
        top, left = generator.integers(200), generator.integers(8)
        missing[top : top + generator.integers(2, 26), left : left + 2] = True
    entries = Entries.from_dense(np.where(missing, np.nan, walk))
    solved = solve_table(entries, hold_out(entries, 0.1, 0), Settings())
    assert len(solved.lacked) == 1
    rows, cols = np.nonzero(missing)
    width = 1.6449 * solved.completion.deviation(rows, cols) * solved.held_out.calibration
    assert np.mean(np.abs(solved.completion.predict(rows, cols) - walk[missing]) <= width) > 0.8


def test_stretches_are_told_from_single_holes() -> None:
    generator = np.random.default_rng(3)
    assert not in_stretches(generator.random((300, 10)) < 0.3)
    in_rows = np.repeat(generator.random((300, 1)) < 0.3, 10, axis=1)
    in_columns = np.zeros((300, 10), bool)
    in_columns[100:150, 2] = in_columns[20:60, 7] = True
    assert in_stretches(in_rows) and in_stretches(in_columns)
    copies = copies_of_stretches(~in_columns, None, 0)
    assert copies is not None and not (copies.hidden & in_columns).any() and in_stretches(copies.hidden)
    assert (copies.hidden | in_columns).any(0).tolist() == in_columns.any(0).tolist()


def test_rows_without_any_value_are_no_stretches() -> None:
    """They stay empty: totals and blank lines of a file, whose holes nobody fills."""
    generator = np.random.default_rng(6)
    observed = generator.random((600, 10)) < 0.95
    observed[[40, 81, 122, *range(150, 162)]] = False
    assert in_stretches(~observed) and copies_of_stretches(observed, None, 0) is None
    observed[20:80, 3] = observed[50:120, 7] = observed[30:90, 5] = False
    assert copies_of_stretches(observed, None, 0) is not None


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_copies_of_stretches_leave_most_of_what_is_known(share: float) -> None:
    generator = np.random.default_rng(4)
    often = generator.gamma(0.7, size=(1500, 1))
    observed = generator.random((1500, 20)) < np.clip((1 - share) * often / often.mean(), 0, 1)
    copies = copies_of_stretches(observed, None, 0)
    assert copies is not None and not (copies.hidden & ~observed).any()
    assert 500 < copies.hidden.sum() < 0.25 * observed.sum()
    assert (observed & ~copies.hidden)[copies.hidden.any(1)].any(1).all()


def test_copies_of_stretches_hide_beside_a_cell_what_is_missing_with_it_and_no_more() -> None:
    generator = np.random.default_rng(5)
    holes = generator.random((2000, 4)) < 0.4
    together = generator.random(2000) < 0.3
    holes[:, :2] |= together[:, None]
    holes = np.repeat(holes, 3, axis=0)  # stretches of three
    copies = copies_of_stretches(~holes, None, 0)
    assert copies is not None
    own, unknown = copies.hidden[:, 0], holes | copies.hidden
    beside_holes = holes[holes[:, 0]].mean(0)
    np.testing.assert_allclose(unknown[own].mean(0), beside_holes, atol=0.06)
    assert beside_holes[1] > beside_holes[2] + 0.2


def test_columns_that_are_unknown_together_are_copied_together() -> None:
    generator = np.random.default_rng(6)
    holes = np.repeat(generator.random((40, 3)) < 0.3, 5, axis=0)[:, [0, 0, 1, 2]]
    copies = copies_of_stretches(~holes, [np.array([0, 1]), np.array([0, 1]), np.array([2]), np.array([3])], 0)
    assert copies is not None and copies.hidden[:, 0].any()
    np.testing.assert_array_equal(copies.hidden[:, 0], copies.hidden[:, 1])

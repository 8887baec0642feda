"""Copies of gaps, the width of intervals that rests on them, and both in a table whose sensor is dark for hours."""

import numpy as np
import pytest

from lowdim._intervals import Z
from lowdim.completion.entries import Entries
from lowdim.completion.solvers._solver import Settings, hold_out
from lowdim.completion.solvers.table._holes import KEPT, copies_of_gaps
from lowdim.completion.solvers.table._in_time import CLASSES, interpolated
from lowdim.completion.solvers.table._spread import Errors, spread, surplus
from lowdim.completion.solvers.table._table import UNLIKE, solve_table


def clock_of(rows: int, groups: int = 1) -> np.ndarray:
    return np.column_stack([np.repeat(np.arange(groups), rows // groups), np.arange(float(rows))])


def runs(cells: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.r_[0, cells.astype(int), 0]))
    return [(int(first), int(last - first)) for first, last in zip(edges[::2], edges[1::2], strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_copies_have_the_columns_and_lengths_of_the_gaps_between_known_cells(seed: int) -> None:
    observed = np.ones((130, 5), bool)
    observed[50:61, 1] = observed[55:58, 3] = observed[100:103, 4] = False
    order = np.random.default_rng(0).permutation(130)  # rows need not be sorted
    clock = clock_of(130)
    found = copies_of_gaps(observed[order], clock[order], seed)
    checked = np.zeros_like(observed)
    for copies in found:
        hidden, number = np.empty_like(observed), np.empty(observed.shape, int)
        hidden[order], number[order] = copies.hidden, copies.number
        assert not copies.cut and not (hidden & ~observed).any() and not (checked & (number >= 0)).any()
        checked |= number >= 0
        for column, length in ((1, 11), (3, 3), (4, 3)):
            for first, size in runs(number[:, column] >= 0):
                assert size == length
                assert (observed & ~hidden)[[first - 1, first + size], column].all()
        for first, _ in runs(number[:, 1] >= 0):  # the other column is dark in the middle of it
            assert hidden[first + 5 : first + 8, 3].all()
    assert checked.any(0).tolist() == [False, True, False, True, True]


def test_copies_stay_in_their_group_and_one_without_end_has_no_known_cell_near_behind_it() -> None:
    observed = np.ones((90, 1), bool)
    observed[26:30] = False  # the first of three groups goes dark
    (copies, *_) = copies_of_gaps(observed, clock_of(90, 3), 1)
    unknown = ~observed[:, 0] | copies.hidden[:, 0]
    for first, size in runs(copies.number[:, 0] >= 0):
        assert size == 4 and first // 30 == (first + 3) // 30 and first % 30 > 0
        rest = range(first, min(first + 8, (first // 30 + 1) * 30))
        assert unknown[list(rest)].all()


def test_a_gap_longer_than_what_is_known_is_checked_with_shorter_copies_and_that_is_said() -> None:
    observed = np.ones((60, 1), bool)
    observed[12:40] = False
    (copies, *_) = copies_of_gaps(observed, clock_of(60), 0)
    assert copies.cut and {size for _, size in runs(copies.number[:, 0] >= 0)} == {14}
    values = np.random.default_rng(0).normal(size=(60, 1)).cumsum(0)
    entries = Entries.from_dense(np.where(observed, values, np.nan))
    assert UNLIKE in solve_table(entries, hold_out(entries, 0.1, 0), Settings(clock=clock_of(60))).remarks
    assert copies_of_gaps(np.array([[True], [False], [False], [True]]), clock_of(4), 0) == []


def test_a_column_keeps_half_of_its_known_cells() -> None:
    observed = np.ones((200, 2), bool)
    observed[50:53, 0] = observed[:170, 1] = False
    for copies in copies_of_gaps(observed, clock_of(200), 0):
        assert (copies.hidden.sum(0) <= (1 - KEPT) * observed.sum(0)).all()


def test_a_column_that_a_group_lacks_is_no_gap() -> None:
    observed = np.ones((40, 2), bool)
    observed[:20, 0] = False
    assert copies_of_gaps(observed, clock_of(40, 2), 0) == []


def test_distance_is_the_variance_of_a_random_walk_between_what_is_known() -> None:
    observed = np.ones((40, 1), bool)
    observed[5:17] = observed[38:] = False
    _, place = interpolated(np.zeros((40, 1)), observed, clock_of(40))
    # d (13 - d) / 13 is 0.9, 1.7, 2.3, 2.8, 3.1, 3.2 and back; at the end d itself
    assert place[5:17, 0].tolist() == [1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 2, 1]
    assert place[38:, 0].tolist() == [2, 3]


def test_each_class_has_the_quantile_of_its_errors_and_one_without_any_that_of_the_nearer() -> None:
    generator = np.random.default_rng(0)
    place = generator.integers(0, 3, 30_000)
    sizes = np.abs(generator.normal(size=30_000)) * np.array([1.0, 2.0, 5.0])[place]
    errors = Errors(sizes, generator.integers(0, 2, 30_000), place, np.arange(30_000))
    np.testing.assert_allclose(spread(errors, (3, CLASSES)), np.tile([1.0, 2.0, 5.0, 5.0, 5.0], (3, 1)), rtol=0.06)
    assert (surplus(errors, spread(errors, (3, CLASSES))) == 1).all()


def test_few_errors_of_zero_and_columns_that_are_told_exactly_do_not_make_others_sure() -> None:
    generator = np.random.default_rng(3)
    sizes, place = np.abs(generator.normal(size=40)), np.zeros(40, int)
    for zeros, col in (
        (1, 0),
        (20, 1),
    ):  # one rounded value of this column; many cells of a column that is the time itself
        errors = Errors(
            np.r_[sizes, np.zeros(zeros)],
            np.r_[np.zeros(40, int), np.full(zeros, col)],
            np.r_[place, np.full(zeros, 2)],
            np.arange(40 + zeros),
        )
        factors = spread(errors, (2, CLASSES))
        assert factors[0].min() > factors[0, 0] / 3
    assert factors[1, 2] < 1e-3, "the exact column itself is known to be exact"


def test_few_copies_widen_intervals_the_more_the_errors_in_one_go_together() -> None:
    generator = np.random.default_rng(1)
    copy, zero = np.repeat(np.arange(12), 11), np.zeros(132, int)
    independent = np.abs(generator.normal(size=132))
    alike = np.abs(generator.normal(size=12))[copy]
    for sizes, least, most in ((independent, 1.0, 1.1), (alike, 1.1, 2.0)):
        errors = Errors(sizes, zero, zero, copy)
        factors = np.full((1, 2), np.quantile(sizes, 0.9) / Z)
        (own, further) = surplus(errors, factors)
        assert least <= own <= most and further == own
        single = Errors(sizes, zero, zero, np.arange(132))
        assert (surplus(single, factors) == 1).all()


def test_the_promise_for_one_dark_sensor_of_many_is_that_of_its_gaps() -> None:
    """Copies once filled a column of many, and single cells, which have known neighbours, spoke for its gaps."""
    generator = np.random.default_rng(4)
    walk = generator.normal(size=(400, 12)).cumsum(0) / 5
    missing = np.zeros(walk.shape, bool)
    for start in range(20, 380, 80):
        missing[start : start + 24, 3] = True
    entries = Entries.from_dense(np.where(missing, np.nan, walk))
    clock = clock_of(400)
    solved = solve_table(entries, hold_out(entries, 0.1, 0), Settings(clock=clock))
    assert set(solved.held_out.cols.tolist()) == {3}
    rows, cols = np.nonzero(missing)
    errors = solved.completion.predict(rows, cols) - walk[missing]
    deviations = solved.completion.deviation(rows, cols)
    assert 0.6 < solved.held_out.rmse / np.sqrt(np.mean(errors**2)) < 1.6
    assert np.mean(np.abs(errors) <= Z * deviations) > 0.8
    gaps = deviations.reshape(-1, 24)
    assert (gaps[:, 12] > 1.3 * gaps[:, 0]).all()  # the middle is less certain than the edge
    np.testing.assert_allclose(solved.completion.deviations(entries, clock)[missing], deviations, rtol=1e-9)

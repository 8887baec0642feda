"""The figure of what was filled, in order of time."""

import numpy as np
import pandas as pd

from lowdim.report.completion import in_time
from lowdim.tables import Filled, table_of_frame


def filled_in(table):
    """Every hole filled by its row number, give or take one."""
    return {
        (row, place): Filled(row, table.columns[place].name, float(row), row - 1.0, row + 1.0, None)
        for row, place in table.holes()
    }


def frame(rows=40):
    values = np.arange(rows) ** 2.0
    return pd.DataFrame({"time": pd.date_range("2024-01-01", periods=rows, freq="D"), "a": values, "b": values[::-1]})


def test_known_and_filled_cells_stand_at_their_times():
    holed = frame()
    holed.loc[[3, 4, 20], "a"] = np.nan
    table = table_of_frame(holed.iloc[::-1])
    (drawn,) = in_time(table, filled_in(table))
    known, filled = drawn.series
    assert (drawn.title, drawn.x_label) == ("a", "days since 2024-01-01 00:00:00")
    np.testing.assert_array_equal(known.x, np.arange(40))
    np.testing.assert_array_equal(known.y, holed["a"])
    np.testing.assert_array_equal(filled.x, [3, 4, 20])
    np.testing.assert_array_equal(filled.y, [36, 35, 19])  # their rows, in reverse order
    np.testing.assert_array_equal(np.array([filled.low, filled.high]), [[35, 34, 18], [37, 36, 20]])


def test_of_many_rows_those_around_the_first_hole_are_drawn():
    holed = frame(2_000)
    holed.loc[1_900, "a"] = np.nan
    holed.loc[[1, 2], "b"] = np.nan
    table = table_of_frame(holed)
    b, a = in_time(table, filled_in(table))
    assert (a.title, b.title) == ("a", "b")
    assert len(a.series[0].x) == len(b.series[0].x) == 600
    assert 1_900 in a.series[0].x and list(a.series[1].x) == [1_900] and list(b.series[1].x) == [1, 2]


def test_without_one_order_nothing_is_drawn():
    holed = frame()
    holed.loc[3, "a"] = np.nan
    unordered = table_of_frame(holed.drop(columns="time"))
    panel = table_of_frame(holed.assign(who=["x", "y"] * 20), time="time", entity="who")
    assert in_time(unordered, filled_in(unordered)) == in_time(panel, filled_in(panel)) == []
    full = table_of_frame(frame())
    assert in_time(full, {}) == []

"""Times: what comes round with the day, the week or the year is found, and a hole is filled by it; absent rows are named."""

import numpy as np
import pandas as pd
import pytest

import lowdim
from lowdim.completion import DeepMatrixCompletion
from lowdim.errors import InputError
from lowdim.tables import table_of_frame
from lowdim.tables._cycles import CYCLES, _mean_around, comes_round, phases

DAY, WEEK, YEAR = CYCLES.values()
HOURS = np.arange(480) / 24


def hourly(seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    noise = random.normal(size=(2, HOURS.size))
    return pd.DataFrame(
        {
            "time": pd.date_range("2024-01-01", periods=HOURS.size, freq="h"),
            "warm": 8 * np.maximum(np.sin(2 * np.pi * HOURS), 0) + noise[0],
            "other": np.cumsum(noise[1]),
        }
    )


@pytest.mark.parametrize(
    ("days", "length"),
    [(HOURS, DAY), (HOURS, WEEK), (np.arange(300.0), WEEK), (np.arange(120) * YEAR / 12, YEAR)],
    ids=["hours of a day", "hours of a week", "days of a week", "months of a year"],
)
def test_a_cycle_is_one_and_a_drift_is_none(days: np.ndarray, length: float) -> None:
    random = np.random.default_rng(0)
    wave = np.maximum(np.sin(2 * np.pi * days / length), 0)
    walk, noise = np.cumsum(random.normal(size=days.size)), random.normal(size=days.size)
    several = days[-1] > 4 * length
    assert comes_round(days, wave + 3 * days + 0.2 * noise, length) == several
    holed = np.where(random.random(days.size) < 0.3, np.nan, wave + 0.2 * noise)
    shuffled = random.permutation(days.size)
    assert comes_round(days[shuffled], holed[shuffled], length) == several
    for other in (3 * days, np.exp(days / days[-1]), walk, noise, walk + days, np.full(days.size, np.nan), 0 * days):
        assert not comes_round(days, other, length)


def test_days_without_an_hour_have_no_time_of_the_day() -> None:
    assert not comes_round(np.arange(200.0), np.random.default_rng(0).normal(size=200), DAY)
    assert not comes_round(np.array([]), np.array([]), DAY)


def test_the_mean_around_a_point_of_a_line_is_the_line() -> None:
    """What lies on both ends of the window counts half: else the mean lies beside it."""
    for days in (np.arange(40.0), np.arange(40) / 3 + 0.01):
        means = _mean_around(days, 5 * days, 4.0)
        whole = (days - days[0] >= 2) & (days[-1] - days >= 2)
        np.testing.assert_allclose(means[whole], 5 * days[whole], atol=1e-9)


def test_the_last_moment_of_a_cycle_stands_beside_the_first() -> None:
    np.testing.assert_allclose(phases(np.array([0.0, 0.25, 7.0]), DAY), [[0, 1], [1, 0], [0, 1]], atol=1e-12)


def test_the_cycles_that_others_follow_enter_the_model_with_their_date() -> None:
    frame = hourly()
    table = table_of_frame(frame)
    assert table.names == ["time", "time modulo 1 (sine)", "time modulo 1 (cosine)", "warm", "other"]
    assert [block.tolist() for block in table.blocks] == [[0, 1, 2]] * 3 + [[3], [4]]
    assert any("time of the day in 'time' enters the model: 'warm'" in note for note in table.notes)
    np.testing.assert_allclose(table.matrix[:, 1], np.sin(2 * np.pi * HOURS), atol=1e-9)
    np.testing.assert_array_equal(table.like(frame.iloc[7:9]).matrix, table.matrix[7:9])
    assert table_of_frame(frame[["time", "other"]]).names == ["time", "other"]


def test_a_gap_is_filled_by_the_same_hours_of_other_days() -> None:
    full = hourly()
    holed, gap = full.copy(), slice(200, 212)
    holed.loc[holed.index[gap], "warm"] = np.nan
    model = DeepMatrixCompletion(random_state=0).fit(holed)
    filled = model.transform(holed)
    assert filled.dtypes.equals(holed.dtypes) and list(filled.columns) == list(holed.columns)
    wrong = (filled["warm"] - full["warm"]).to_numpy()[gap]
    line = (holed["warm"].interpolate() - full["warm"]).to_numpy()[gap]
    assert np.sqrt(np.mean(wrong**2)) < 0.4 * min(np.sqrt(np.mean(line**2)), full["warm"].std())
    # an hour whose date is missing, too
    holed.loc[holed.index[300], ["time", "warm"]] = [pd.NaT, np.nan]
    assert DeepMatrixCompletion(random_state=0).fit_transform(holed).notna().all(axis=None)


@pytest.mark.parametrize("index", ["times", "periods"])
def test_an_index_of_times_is_the_order_in_time(index: str) -> None:
    full = hourly().set_index("time")
    full.index = full.index.to_period("h") if index == "periods" else full.index
    holed, gap = full.copy(), slice(200, 212)
    holed.iloc[gap, 0] = np.nan
    table = table_of_frame(holed)
    assert table.time == "time" and table.columns[-1].cycles == (DAY,)
    filled = DeepMatrixCompletion(random_state=0).fit_transform(holed)
    pd.testing.assert_index_equal(filled.index, holed.index)
    assert list(filled.columns) == ["warm", "other"] and filled.dtypes.equals(holed.dtypes)
    wrong = (filled["warm"] - full["warm"]).to_numpy()[gap]
    assert np.sqrt(np.mean(wrong**2)) < 0.4 * full["warm"].std()
    unnamed = holed.rename_axis(None).rename(columns={"other": "index"})
    assert [column.name for column in table_of_frame(unnamed).columns] == ["warm", "index", "index (index)"]
    if index == "times":
        unnamed.index = pd.DatetimeIndex([pd.NaT, *unnamed.index[1:]])
        assert [column.name for column in table_of_frame(unnamed).columns] == ["warm", "index"]


def test_no_row_is_refused() -> None:
    with pytest.raises(InputError, match="No column can be completed"):
        table_of_frame(hourly().set_index("time").iloc[:0])


def test_the_error_of_a_date_is_its_own() -> None:
    holed = hourly()
    holed.loc[holed.index[::50], "time"] = pd.NaT
    found = lowdim.complete(holed).to_frame().set_index("column")
    assert 0 < found.loc["time", "checked cells"] <= len(holed)


def test_rows_that_are_absent_are_named() -> None:
    frame = hourly().drop(index=range(100, 124))
    note = "24 rows are absent from the even steps of 'time', between 2024-01-05 03:00:00 and 2024-01-06 04:00:00"
    assert any(note in one for one in table_of_frame(frame).notes)
    assert any("25 rows" in one and "in 2 places" in one for one in table_of_frame(frame.drop(index=300)).notes)
    working = pd.date_range("2024-01-01", periods=100, freq="B")
    months = pd.date_range("2015-01-01", periods=100, freq="MS")
    for times in (
        hourly()["time"][:100],
        working,
        months,
        pd.DatetimeIndex(np.sort(pd.to_datetime(HOURS[:100] ** 2, unit="D"))),
    ):
        even = pd.DataFrame({"time": np.asarray(times), "value": np.arange(100.0) ** 2})
        assert not any("absent" in one for one in table_of_frame(even).notes)
    panel = pd.DataFrame(
        {"who": np.repeat(list("abcd"), 20), "year": [*range(2000, 2020)] * 4, "value": np.arange(80.0) ** 2}
    )
    assert not any("absent" in one for one in table_of_frame(panel).notes)
    panel["year"] += 40 * (panel["who"] == "b")
    assert not any("absent" in one for one in table_of_frame(panel).notes)
    uneven = np.arange(100) + np.random.default_rng(0).uniform(-0.3, 0.3, 100)
    uneven[50:] += 5
    frame = pd.DataFrame({"time": pd.to_datetime(uneven, unit="D"), "value": np.arange(100.0) ** 2})
    assert not any("absent" in one for one in table_of_frame(frame).notes)
    panel["year"] -= 40 * (panel["who"] == "b")
    note = "1 row is absent from the even steps of 'year', between 2004 and 2006"
    assert any(note in one for one in table_of_frame(panel.drop(index=25)).notes)


@pytest.mark.parametrize("even", [True, False])
def test_a_series_keeps_its_order_where_some_times_are_unknown(even: bool) -> None:
    random = np.random.default_rng(3)
    steps = np.ones(240) if even else random.integers(1, 9, 240)
    days = pd.Series(pd.Timestamp("2024-01-01") + pd.to_timedelta(np.cumsum(steps), "D"))
    walk = pd.Series(np.cumsum(random.normal(size=240)))
    unknown = days.index.isin(random.choice(np.arange(1, 239), 24, replace=False))
    frame = pd.DataFrame({"day": days.mask(unknown), "walk": walk.mask(days.index.to_series().between(100, 107))})
    model = DeepMatrixCompletion()
    completed = model.fit_transform(frame)
    gap = slice(100, 108)
    by_line = frame["walk"].interpolate()
    assert np.abs(completed["walk"] - walk)[gap].mean() < 1.2 * np.abs(by_line - walk)[gap].mean()
    late = (completed["day"] - days)[unknown].dt.total_seconds().abs() / 86400
    assert late.max() <= (0 if even else 8), "between its neighbours"
    width = pd.Series(np.asarray(model.transform(frame, return_std=True)[1])[unknown, 0])
    assert (width < 1e-3).all() if even else (width.median() > 0.5)

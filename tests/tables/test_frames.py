"""pandas and polars frames of columns of any kind: as numbers, and back in the same types."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from lowdim.errors import InputError, UsageError
from lowdim.tables import is_frame, is_plain, read_file, rows_are_named, table_of_frame, to_pandas, with_filled

DAYS = ["2024-01-01", None, "2024-01-03", "2024-01-04", "2024-01-04", "2024-01-06"]
LETTERS = ["a", "b", None, "a", "b", "a"]


def of_pandas() -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "x": [1.5, np.nan, 3.5, 4.5, 2.5, 0.5],
            "half": np.array([1.5, np.nan, 3.5, 4.5, 2.5, 0.5], np.float32),
            "n": pd.array([1, 2, None, 4, 4, 3], "Int64"),
            "small": pd.array([1, 2, None, 4, 4, 3], "UInt8"),
            "day": pd.to_datetime(DAYS),
            "zone": pd.to_datetime(DAYS).tz_localize("Europe/Berlin"),
            "category": pd.Categorical(LETTERS, categories=["b", "a", "never"]),
            "ordered": pd.Categorical(LETTERS, ordered=True),
            "string": pd.array(LETTERS, "string"),
            "object": pd.Series(LETTERS, dtype=object),
            "flag": pd.array([True, None, False, True, True, False], "boolean"),
            "whole": [3, 1, 4, 1, 5, 9],
            "sparse": pd.arrays.SparseArray([1.0, np.nan, 2.0, 3.0, 4.0, 5.0]),
        }
    )
    return frame.set_index(pd.Index(list("uvwxyz"), name="key"))


def of_polars() -> pl.DataFrame:
    columns: dict[str, Any] = {
        "x": [1.5, None, 3.5, 4.5, 2.5, 0.5],
        "n": pl.Series([1, 2, None, 4, 4, 3], dtype=pl.Int16),
        "text": LETTERS,
        "category": pl.Series(LETTERS, dtype=pl.Categorical),
        "chosen": pl.Series(LETTERS, dtype=pl.Enum(["b", "a"])),
        "flag": [True, None, False, True, True, False],
        "day": pl.Series([day and date.fromisoformat(day) for day in DAYS]),
    }
    return pl.DataFrame(columns)


def completed(frame: Any) -> Any:
    table = table_of_frame(to_pandas(frame))
    matrix = table.matrix
    return with_filled(frame, table.filled(np.where(np.isnan(matrix), np.nanmean(matrix, axis=0), matrix)))


def test_pandas_keeps_types_index_and_known_cells() -> None:
    frame = of_pandas()
    result = completed(frame)
    assert (result.dtypes == frame.dtypes).all() and result.index.equals(frame.index)
    assert not result.isna().any().any()
    for name in frame:
        known = frame[name].notna()
        assert (result.loc[known, name].astype(object) == frame.loc[known, name].astype(object)).all(), name
    assert result.loc["v", "day"] == pd.Timestamp("2024-01-04") and result.loc["w", "n"] == 3
    assert result.loc["w", "category"] == "a" and result.loc["v", "flag"]


def test_polars_keeps_types_and_known_cells() -> None:
    frame = of_polars()
    result = completed(frame)
    assert result.schema == frame.schema and result.null_count().sum_horizontal().item() == 0
    for name in frame.columns:
        known = frame[name].is_not_null()
        assert result[name].filter(known).equals(frame[name].filter(known))
    assert result["day"][1] == date(2024, 1, 4) and result["text"][2] == "a"


@pytest.mark.parametrize("frame", [of_pandas(), of_polars()], ids=["pandas", "polars"])
def test_other_rows_of_the_same_columns(frame: Any) -> None:
    table = table_of_frame(to_pandas(frame))
    np.testing.assert_array_equal(table.like(to_pandas(frame)).matrix, table.matrix)
    rows = to_pandas(frame[:2])
    np.testing.assert_array_equal(table.like(rows).matrix, table.matrix[:2])


def test_a_level_that_was_not_there_is_unknown_inside_and_kept_outside() -> None:
    table = table_of_frame(pd.DataFrame({"place": ["a", "b", "a", "b"], "x": [1.0, 2.0, 3.0, 4.5]}))
    other = table.like(pd.DataFrame({"place": ["c", "a"], "x": [1.0, np.nan]}))
    assert np.isnan(other.matrix[0, :2]).all() and other.columns[0].known.all()
    assert [place for _, place in other.filled(np.ones((2, 3)))] == [1]


def test_kinds_can_be_said_and_are_checked() -> None:
    frame = pd.DataFrame({"a": [1, 2, 1, 2], "b": ["u", "v", "w", "x"], "c": [0.5, 1.5, 2.5, 3.5]})
    assert [column.kind for column in table_of_frame(frame).columns] == ["integer", "id", "number"]
    assert table_of_frame(frame, kinds={"a": "category"}).names == ["a=1", "a=2", "c"]
    assert table_of_frame(frame, passed=["c"]).names == ["a"]
    with pytest.raises(UsageError, match="no column 'd'"):
        table_of_frame(frame, passed=["d"])
    with pytest.raises(UsageError, match="no kind 'colour'"):
        table_of_frame(frame, kinds={"a": "colour"})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="cannot be read as number"):
        table_of_frame(frame, kinds={"b": "number"})
    with pytest.raises(InputError, match="infinite"):
        table_of_frame(pd.DataFrame({"a": [1.0, np.inf]}))
    with pytest.raises(InputError, match="more than one column 'a'"):
        to_pandas(pd.DataFrame(np.ones((2, 2)), columns=["a", "a"]))


def test_what_a_frame_is() -> None:
    assert is_frame(of_pandas()) and is_frame(of_polars())
    assert not is_frame(np.ones((2, 2))) and not is_frame([[1.0]])
    assert is_plain(pd.DataFrame({"a": [1.0], "b": [2]}))
    assert not is_plain(of_pandas()) and not is_plain(of_polars())


@pytest.mark.parametrize(
    ("times", "why"),
    [
        (["2020-01-01"] * 6, "'t' gives no order in time: all its cells are '2020-01-01'"),
        (
            ["2020-01-01", "2020-01-02", "later"] * 2,
            "are not all dates of one form, nor all numbers; it holds '2020-01-01' and 'later'",
        ),
    ],
)
def test_a_column_that_gives_no_order_in_time(times: list[str], why: str) -> None:
    frame = pd.DataFrame({"t": times, "a": [1.0, 2.0, float("nan"), 4.0, 5.0, 6.0]})
    with pytest.raises(UsageError, match=why):
        table_of_frame(frame, time="t")


def test_the_order_in_time_is_found_or_named() -> None:
    days = pd.date_range("2024-01-01", periods=6)
    frame = pd.DataFrame({"day": days, "who": list("aabbab"), "x": [1.0, np.nan, 3.0, 4.0, 5.0, 6.5]})
    found = table_of_frame(frame)
    assert found.time == "day" and found.clock is not None
    np.testing.assert_allclose(np.diff(found.clock[:, 1]), 1)
    panel = table_of_frame(frame, entity="who")
    assert panel.clock is not None and panel.clock[:, 0].tolist() == [0, 0, 1, 1, 0, 1]
    backwards = table_of_frame(frame.iloc[::-1])
    assert backwards.clock is not None and (np.diff(backwards.clock[:, 1]) == -1).all()
    assert table_of_frame(frame.iloc[[3, 0, 4, 1, 5, 2]]).clock is None
    counted = table_of_frame(frame.assign(day=range(6)), time="day")
    assert counted.columns[0].kind == "id" and counted.clock is not None
    assert counted.clock[:, 1].tolist() == [0, 1, 2, 3, 4, 5]
    later = panel.like(frame.iloc[3:])
    assert later.clock is not None and later.clock.shape == (3, 2)
    with pytest.raises(UsageError, match=r"gives no order in time.*it holds 'a' and 'b'"):
        table_of_frame(frame, time="who")
    with pytest.raises(UsageError, match="needs the column with the times"):
        table_of_frame(frame.drop(columns="day"), entity="who")
    with pytest.raises(UsageError, match="no column 'dya'"):
        table_of_frame(frame, time="dya")


def test_years_and_panels_have_an_order_without_being_named() -> None:
    years = pd.DataFrame({"Year": range(1990, 1996), "x": [1.0, np.nan, 3.0, 4.0, 5.0, 6.5]})
    assert table_of_frame(years).time == "Year"
    assert not any("stay empty" in note for note in table_of_frame(years).notes)
    for none in (years.rename(columns={"Year": "count"}), years.assign(Year=[*range(5), 1995])):
        assert table_of_frame(none.assign(y=range(3, 9))).time is None
    panel = pd.DataFrame({"country": list("aaabbb"), "year": [2001, 2002, 2003] * 2, "x": years["x"]})
    found = table_of_frame(panel)
    assert (found.time, found.entity) == ("year", "country")
    assert found.clock is not None
    assert found.clock[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert table_of_frame(panel.iloc[::-1]).time is None
    days = panel.assign(year=[pd.Timestamp(year, 1, 1) for year in panel["year"]]).rename(columns={"year": "when"})
    assert table_of_frame(days).entity == "country"


TEXTS = {
    "when": ["03/14/2024", None, "05/06/2024", "01/02/2024", "12/31/2023", "03/02/2024"],
    "price": ["€ 1.200,50", "€ 900,00", None, "€ 1.000,25", "€ 20,00", "€ 30,10"],
    "count": ["1", "-", "3", "4", "4", "2"],
    "code": ["007", "008", None, "007", "008", "007"],
    "kind": ["a", "b", "a", "-", "a", "b"],
}


@pytest.mark.parametrize("frame", [pd.DataFrame(TEXTS), pl.DataFrame(TEXTS)], ids=["pandas", "polars"])
def test_texts_are_read_as_those_of_a_file_are(frame: Any, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(pd.DataFrame(TEXTS).to_csv(index=False, sep=";").encode())
    file = read_file(tmp_path / "t.csv").table()
    table = table_of_frame(to_pandas(frame))
    assert [column.kind for column in table.columns] == ["date", "number", "integer", "category", "category"]
    assert [column.kind for column in table.columns] == [column.kind for column in file.columns]
    np.testing.assert_allclose(table.matrix, file.matrix)
    assert "taken as missing: '-' (2)" in table.notes and "taken as missing: '-' (2)" in file.notes
    result = to_pandas(completed(frame))
    for name, texts in TEXTS.items():
        assert [got for got, text in zip(result[name], texts, strict=True) if text not in (None, "-")] == [
            text for text in texts if text not in (None, "-")
        ]
    assert result["when"][1].count("/") == 2 and result["price"][2].startswith("€ ") and result["count"][1] == "3"


def test_texts_of_other_rows_are_read_as_those_of_the_first() -> None:
    table = table_of_frame(pd.DataFrame(TEXTS))
    np.testing.assert_array_equal(table.like(pd.DataFrame(TEXTS)).matrix, table.matrix)
    alone = table.like(
        pd.DataFrame({name: texts[3:4] for name, texts in TEXTS.items()})
    )  # of which the day could be the month
    np.testing.assert_array_equal(alone.matrix, table.matrix[3:4])
    other = table.like(
        pd.DataFrame({"when": ["2024-01-02"], "price": ["5 kg"], "count": ["x"], "code": ["007"], "kind": ["a"]})
    )
    assert np.isnan(other.matrix[0, :3]).all() and all(column.known.all() for column in other.columns)


def test_what_may_stand_for_a_missing_cell_is_said() -> None:
    frame = pd.DataFrame({"sex": ["m", "f", "Unknown"] * 4, "x": [-999.0, 1.5, 2.5, 3.5] * 3, "y": np.arange(12) / 7})
    notes = table_of_frame(frame).notes
    assert "'Unknown' in 'sex' is read as a value; where it means missing, `na` 'sex=Unknown' says so" in notes
    assert "-999 in 'x' lies far from all other values; where it means missing, `na` 'x=-999' says so" in notes


def test_times_that_are_unknown_lie_between_their_neighbours() -> None:
    days = pd.Series(pd.date_range("2024-01-01", periods=12))
    frame = pd.DataFrame({"day": days, "x": np.r_[np.arange(11.0) ** 2, np.nan]}).assign(y=1.5 * np.arange(12) % 5)
    holed = frame.assign(day=days.where(~days.index.isin([0, 4, 5, 11])))
    found = table_of_frame(holed)
    assert found.time == "day" and any("unknown (4)" in note for note in found.notes)
    assert found.clock is not None and (np.diff(found.clock[:, 1]) == 1).all()
    written = found.filled(np.zeros((12, 3)))
    assert [str(written[row, 0].value)[:10] for row in (0, 4, 11)] == ["2024-01-01", "2024-01-05", "2024-01-12"]
    backwards = table_of_frame(holed.iloc[::-1])
    assert backwards.clock is not None and (np.diff(backwards.clock[:, 1]) == -1).all()
    shuffled = holed.iloc[[3, 0, 4, 1, 5, 2, 6, 7, 8, 9, 10]]
    assert table_of_frame(shuffled).time is None, "no order"
    asked = table_of_frame(shuffled, time="day").clock
    assert asked is not None and np.isnan(asked[:, 1]).tolist() == shuffled["day"].isna().tolist(), "nor between which"
    assert table_of_frame(frame.assign(day=days.where(days.index % 3 == 0))).time is None, "most are unknown"
    assert table_of_frame(holed[:10]).time is None, "too few to tell order from chance"
    years = [1990, np.nan, 1992, 1993, 1994]
    panel = pd.DataFrame({"who": list("aaaaabbbbb"), "year": years * 2, "x": [*range(9), np.nan]})
    found = table_of_frame(panel.astype({"year": "Int64"}))
    assert (found.time, found.entity) == ("year", "who") and found.clock is not None
    assert found.clock[:, 1].tolist() == [1990, 1991, 1992, 1993, 1994] * 2


def test_few_whole_numbers_are_filled_between_the_least_and_the_largest() -> None:
    frame = pd.DataFrame(
        {"stars": pd.array([5, 1, 1, 5, None, None], "Int64"), "count": pd.array([6, 7, 8, 9, 10, None], "Int64")}
    )
    table = table_of_frame(frame)
    filled = table.filled(np.array([[5, 6], [1, 7], [1, 8], [5, 9], [6.4, 10], [-1, 12.2]]), np.ones((6, 2)))
    assert [filled[4, 0].value, filled[5, 0].value] == [5, 1]
    assert filled[5, 1].value == 12  # none of its values comes again: no scale
    assert filled[4, 0].low < 5 < filled[4, 0].high
    other = table.like(pd.DataFrame({"stars": pd.array([2, None], "Int64"), "count": pd.array([1, 2], "Int64")}))
    assert other.filled(np.array([[2.0, 1.0], [9.0, 2.0]]))[1, 0].value == 5, (
        "the bounds are those of the table that was fitted"
    )


def test_large_whole_numbers_of_polars() -> None:
    frame = pl.DataFrame(
        {"id": pl.Series([2**63 + place for place in range(6)] + [None], dtype=pl.UInt64), "x": range(7)}
    )
    assert to_pandas(frame)["id"].iloc[0] == 2**63 and to_pandas(frame)["id"].isna().sum() == 1


@pytest.mark.parametrize("dtype", ["Int64", "float64", "object", "polars"])
def test_dates_as_numbers_are_filled_with_dates(dtype: str) -> None:
    months = [202011, 202012, None, 202103]
    if dtype == "polars":
        frame: Any = pl.DataFrame({"m": months, "x": [1.5, None, 3.5, 2.5]})
    else:
        frame = pd.DataFrame({"m": pd.Series(months, dtype=dtype), "x": [1.5, np.nan, 3.5, 2.5]})
    assert table_of_frame(to_pandas(frame)).columns[0].kind == "date"
    result = completed(frame)
    assert list(result["m"]) == [202011, 202012, 202101, 202103]
    assert result["m"].dtype == frame["m"].dtype


def test_an_array_like_frame_with_months_is_a_table() -> None:
    frame = pd.DataFrame({"m": [202011.0, np.nan, 202101.0, 202102.0], "x": [1.5, 2.5, 3.5, 2.5]})
    assert rows_are_named(frame) and not rows_are_named(frame.assign(m=[1.5, 2.5, np.nan, 4.5]))

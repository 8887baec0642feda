"""Files as other people write them: each is read as what it says, and a filled cell looks like its neighbours."""

import bz2
import lzma
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from lowdim.errors import InputError, UsageError
from lowdim.tables import Source, read_file, table_of_frame


def read(folder: Path, name: str, content: str | bytes) -> Source:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_file(path)


def filled(source: Source) -> str:
    """The table with the mean of each column in its holes (of levels, the most frequent)."""
    table = source.table()
    matrix = table.matrix
    means = np.nanmean(matrix, axis=0)
    return source.written(
        table.filled(np.where(np.isnan(matrix), means, matrix), rows=~np.isnan(matrix).all(1))
    ).decode()


NUMBERS = {  # cells of a column, and the mean of the first two as it stands there
    "currency": (["$1.50", "$2.50"], "$2.00"),
    "sign before currency": (["-$4.00", "-$6.00"], "-$5.00"),
    "percent": (["10.5%", "11.5%"], "11.0%"),
    "euro behind": (["3 €", "5 €"], "4 €"),
    "unit": (["1.5 cm", "2.5 cm"], "2.0 cm"),
    "parentheses": (["(10.00)", "4.00"], "(3.00)"),
    "grouped currency": (['"$1,200.00"', '"$2,400.00"'], '"$1,800.00"'),
    "grouped in Switzerland": (["1\N{RIGHT SINGLE QUOTATION MARK}200.50", "2\N{RIGHT SINGLE QUOTATION MARK}400.50"],
                               "1\N{RIGHT SINGLE QUOTATION MARK}800.50"),
    "grouped in India": (['"6,17,000.50"', '"1,06,17,000.50"'], '"56,17,000.50"'),
    "plus": (["+1.0", "+3.0"], "+2.0"),
    "minus sign": (["\N{MINUS SIGN}1.0", "\N{MINUS SIGN}3.0"], "\N{MINUS SIGN}2.0"),
    "exponents": (["1.5E+09", "2.5E+09"], "2.0E+09"),
    "some exponents": (["0.0001", "3.00e-04"], "0.0002"),
    "whole": (["3.0", "8.0"], "6.0"),
    "quoted": (["'1.5'", "'2.5'"], "'2.0'"),
    "grouped by blanks that do not break": (["1\N{NO-BREAK SPACE}234", "2\N{NARROW NO-BREAK SPACE}234"], "1\N{NO-BREAK SPACE}734"),
    "short": (["$1.2M", "$350K"], "$775K"),
    "short in words": (["1.5 million", "350 thousand"], "925 thousand"),
    "short or not": (["950", "1.2K"], "1.1K"),
    "short with a currency behind": (["12.5 Tsd. €", "14.5 Tsd. €"], "13.5 Tsd. €"),
    "in pounds": (["£1.2m", "£2.2m"], "£1.7m"),
    "one or several": (["1 year", "5 years"], "3 years"),
    "unit spelt in two ways": (["12 kg", "14KG"], "13 kg"),
    "long unit": (["15 minutes", "25 minutes"], "20 minutes"),
    "unit of units": (["5 Mbit/s", "7 Mbit/s"], "6 Mbit/s"),
    "area": (["45 m2", "55 m2"], "50 m2"),
    "minus behind the currency": (["$-5.00", "$7.00"], "$1.00"),
    "out of": (["4 out of 5", "2 out of 5"], "3 out of 5"),
    "share": (["4.5/5", "2.5/5"], "3.5/5"),
    "share of stars": (["4/5 stars", "2/5 stars"], "3/5 stars"),
    "protected from Excel": (['="5.1"', '="7.1"'], '="6.1"'),
    "protected and quoted": (['"=""5.1"""', '"=""7.1"""'], '"=""6.1"""'),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_written_as_they_are(tmp_path: Path, name: str) -> None:
    (first, second), expected = NUMBERS[name]
    source = read(tmp_path, "a.csv", f"x,y\n{first},1.5\n{second},2.5\n,3.5\n")
    assert filled(source).splitlines()[-1] == f"{expected},3.5"


DATES = {
    "compact": (["20240101", "20240105", "20240103"], "20240103"),
    "month": (["2024-01", "2024-03", "2024-02"], "2024-02"),
    "words": (['"January 1, 2024"', '"January 5, 2024"', '"January 3, 2024"'], '"January 3, 2024"'),
    "two-digit years": (["01.02.24", "05.02.24", "03.02.24"], "03.02.24"),
    "no zeros": (["1/5/2024", "1/9/2024", "12/25/2024"], "5/4/2024"),
    "half days": (["01/05/2024 01:00 PM", "01/05/2024 03:00 PM", "01/05/2024 02:00 PM"], "01/05/2024 02:00 PM"),
    "offset": (["2024-01-01T00:00:00+02:00", "2024-01-01T02:00:00+02:00", "2024-01-01T01:00:00+02:00"], "2024-01-01T01:00:00+02:00"),
    "milliseconds": (["2024-01-01 00:00:00.250", "2024-01-01 00:00:00.750", "2024-01-01 00:00:00.500"], "2024-01-01 00:00:00.500"),
    "two forms": (["2024-01-01", "2024-01-05", "03/01/2024"], "2024-01-22"),
    "times": (["08:30", "10:30", "09:30"], "09:30"),
    "durations": (["1:00:00", "30:00:00", "2:00:00"], "11:00:00"),
    "quarters": (["2021Q1", "2021Q4", "2022Q3"], "2021Q4"),
    "quarters first": (["Q1 2021", "Q4 2021", "Q4 2022"], "Q4 2021"),
    "quarters of short years": (["1Q05", "4Q05", "3Q06"], "4Q05"),
    "quarters in words": (["1. Quartal 2021", "4. Quartal 2021", "3. Quartal 2022"], "4. Quartal 2021"),
    "halves": (["2021-H1", "2021-H2", "2022-H1"], "2021-H2"),
    "weeks": (["2020-W51", "2021-W01", "2020-W53"], "2020-W53"),
    "weeks of calendars": (["KW 5/2021", "KW 9/2021", "KW 7/2021"], "KW 7/2021"),
    "days of weeks": (["2021-W05-1", "2021-W05-3", "2021-W05-2"], "2021-W05-2"),
    "months as numbers": (["202111", "202201", "202112"], "202112"),
    "months as floats": (["202111.0", "202201.0", "202112.0"], "202112.0"),
    "months behind a point": (["2021.11", "2022.01", "2021.12"], "2021.12"),
    "months before a point": (["10.2021", "12.2021", "11.2021"], "11.2021"),
    "minutes as numbers": (["202112312358", "202201010002", "202201010000"], "202201010000"),
    "German": (["12. Mai 2021", "16. Mai 2021", "14. Mai 2021"], "14. Mai 2021"),
    "German months": (["März 2021", "Mai 2021", "April 2021"], "April 2021"),
    "French": (["12 mars 2021", "16 mars 2021", "14 mars 2021"], "14 mars 2021"),
    "French months": (["janv. 2021", "mai 2021", "mars 2021"], "mars 2021"),
    "Spanish": (["12 de mayo de 2021", "16 de mayo de 2021", "14 de mayo de 2021"], "14 de mayo de 2021"),
    "capitals": (["12MAR2021", "16MAR2021", "14MAR2021"], "14MAR2021"),
}  # fmt: skip


@pytest.mark.parametrize("name", DATES)
def test_dates_and_times_are_written_as_they_are(tmp_path: Path, name: str) -> None:
    cells, expected = DATES[name]
    source = read(
        tmp_path, "a.csv", "t,y\n" + "".join(f"{cell},{place}.5\n" for place, cell in enumerate(cells)) + ",9.5\n"
    )
    assert source.table().columns[0].kind == "date"
    assert filled(source).splitlines()[-1] == f"{expected},9.5"


@pytest.mark.parametrize(
    ("name", "cells"),
    [("x", ["2021Q1", "2021Q5", "2022Q1"]), ("x", ["2021-W53", "2021-W02", "2021-W04"]), ("x", ["2009-10", "2010-11", "2011-12"]),
     ("x", ["9 AM", "10 AM", "11 AM"]), ("x", ["4th", "5th", "6th"]), ("x", ["4 of 5", "7 of 5", "3 of 5"]), ("x", ["01.05", "31.12", "08.07"]), ("x", ["030 123 456", "040 555 666", "040 123 666"]), ("customer_id", ["202111", "202201", "202112"])],
)  # fmt: skip
def test_what_only_looks_like_dates_or_numbers_is_left(tmp_path: Path, name: str, cells: list[str]) -> None:
    source = read(
        tmp_path, "a.csv", f"{name},y,z\n" + "".join(f"{cell},{i}.5,{i * i}\n" for i, cell in enumerate(cells))
    )
    assert not source.table().columns[0].modelled


def test_months_as_numbers_are_filled_with_months_and_others_among_them_stay(tmp_path: Path) -> None:
    cells = ["0", *(f"{2020 + i // 12}{i % 12 + 1:02d}" for i in range(24)), ""]
    source = read(tmp_path, "a.csv", "m,y\n" + "".join(f"{cell},{i * i}.5\n" for i, cell in enumerate(cells)))
    column = source.table().columns[0]
    assert (
        column.kind == "date"
        and "read as %Y%m" in column.why
        and "'0' in 1 cells, which stay as they are" in column.why
    )
    assert filled(source).splitlines()[1] == "0,0.5" and filled(source).splitlines()[-1].startswith("202201,")
    marked = read(tmp_path, "b.csv", "m,y\n202101,1.5\n0,2.5\n202103,4.5\n0,2\n202102,3\n-1,3.5\n")
    assert marked.table().columns[0].kind == "date"
    money = read(tmp_path, "c.csv", 'm,y\n"202,101",1.5\n"202,103",2.5\n,3.5\n')
    assert money.table().columns[0].kind == "integer"
    weeks = read(tmp_path, "w.csv", "week,y\n202152,1.5\n202202,2.5\n,3.5\n")
    assert filled(weeks).splitlines()[-1] == "202201,3.5"


@pytest.mark.parametrize(
    ("cells", "units"),
    [(["70 kg", "154 lbs"], "'kg', 'lbs'"), (["5 ft", "1.5 m"], "'ft', 'm'"), (["$5", "€6"], "'$', '€'"), (["45%", "0.45"], "'%', none"),
     (["2", "1.5M"], "none, 'M'"), (["800m", "5k"], "'m', 'k'"), (["300 K", "31"], "'K', none"), (["350 KB", "1.2 MB"], "'KB', 'MB'")],
)  # fmt: skip
def test_numbers_in_several_units_are_left_and_said(tmp_path: Path, cells: list[str], units: str) -> None:
    text = "x,y,z\n" + "".join(f"{cells[i % 2]},{i}.5,{i * i}\n" for i in range(8)) + ",8.5,3\n"
    source = read(tmp_path, "a.csv", text)
    assert str(source.table().columns[0]) == f"'x' (text: numbers in several units: {units})" and filled(source) == text
    frame = pd.DataFrame({"x": cells * 4, "y": np.arange(8.0), "z": np.arange(8) ** 2})
    assert table_of_frame(frame).columns[0].why == f"numbers in several units: {units}"


def test_a_column_may_have_another_decimal_sign_than_the_others(tmp_path: Path) -> None:
    source = read(tmp_path, "a.csv", "x;y\n€ 1,50;1.5M\n€ 2,50;250K\n;2.5M\n")
    assert filled(source).splitlines()[-1] == "€ 2,00;2.5M"
    assert source.table().columns[0].why == "',' before decimals"
    assert not read(tmp_path, "b.csv", 'x,y\n"1,3",1.5\n"2,4",2.5\n').table().columns[0].modelled


def test_short_numbers_are_said(tmp_path: Path) -> None:
    source = read(tmp_path, "a.csv", "x,y\n1.2M,1.5\n350K,2.5\n2M,3.5\n,4.5\n")
    assert source.table().columns[0].why == "read as 1,000,000 for 'M' and 1,000 for 'K'"
    assert filled(source).splitlines()[-1] == "1.2M,4.5"


@pytest.mark.parametrize(
    "sign", ["\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}", "'", "\N{RIGHT SINGLE QUOTATION MARK}"]
)
@pytest.mark.parametrize("separator", [",", ";"])
def test_signs_between_thousands_beside_a_decimal_comma(tmp_path: Path, sign: str, separator: str) -> None:
    quote = '"' if separator == "," else ""
    cells = [f"{quote}{number}{sign}234,5{quote}" for number in (1, 2, 3)]
    source = read(tmp_path, "a.csv", f"x{separator}y\n{cells[0]}{separator}1\n{cells[2]}{separator}4\n{separator}9\n")
    assert filled(source).splitlines()[-1] == f"{cells[1]}{separator}9"


def test_an_ambiguous_date_is_said(tmp_path: Path) -> None:
    table = read(tmp_path, "a.csv", "t,y\n01/02/2024,1.5\n03/04/2024,2.5\n,3\n").table()
    assert table.columns[0].why == "read as %m/%d/%Y, %d/%m/%Y fits as well"
    table = read(tmp_path, "a.csv", "t,y\n01/02/2024,1.5\n23/04/2024,2.5\n,3\n").table()
    assert table.columns[0].why == ""


def test_whole_numbers_that_are_names_are_no_numbers(tmp_path: Path) -> None:
    cells = {
        "order": 10**17 + 7919 * np.arange(9),
        "zip": [f"0{place}440" for place in range(9)],
        "phone": 5_550_000 + np.arange(9) ** 2,
    }
    frame = pd.DataFrame({**cells, "x": np.arange(9) ** 2, "y": [1.5, None, *range(7)]}).astype({"zip": str})
    frame.loc[3, "zip"] = None
    frame["phone"] = frame["phone"].astype("Int64")
    frame.loc[4, "phone"] = None
    table = read(tmp_path, "a.csv", frame.to_csv(index=False)).table()
    assert [column.modelled for column in table.columns] == [False, False, False, True, True]


def test_marks_of_missing_numbers(tmp_path: Path) -> None:
    marks = ["n/a", "NONE", "missing", "Unknown", "#DIV/0!", "(blank)", "*", "\N{EN DASH}", "not available", "\\N"]
    source = read(
        tmp_path, "a.csv", "x,y\n1.5,1\n2.5,4\n" + "".join(f"{mark},{place**2}\n" for place, mark in enumerate(marks))
    )
    assert source.table().columns[0].kind == "number"
    assert filled(source).splitlines()[3:] == [f"2.0,{place**2}" for place in range(len(marks))]
    odd = read(tmp_path, "b.csv", "x,y,z\n1.5,1,3\n2.5,4,7\nbroken,9,8\n5.5,,2\n").table()
    assert not odd.columns[0].modelled and "numbers but for 'broken' in 1 cells" in odd.columns[0].why


LINES = {
    "comments": "# exported, by me\n# on Monday\nx,y\n1.5,2\n,4\n2.5,9\n# end, of it\n",
    "comments between": "x,y\n1.5,2\n# a remark, here\n,4\n2.5,9\n",
    "title": "Report 2024\n\nx,y,z\n1.5,2,1\n,4,5\n2.5,9,3\n",
    "wide title": "Report 2024,,\nx,y,z\n1.5,2,1\n,4,5\n2.5,9,3\n",
    "separator named": "sep=;\nx;y\n1.5;2\n;4\n2.5;9\n",
    "units": "x,y\ncm,kg\n1.5,2\n,4\n2.5,9\n",
    "separator at the end": "x,y\n1.5,2,\n,4,\n2.5,9,\n",
    "empty last column": "x,y,\n1.5,2,\n,4,\n2.5,9,\n",
    "totals": "x,y,what\n1.5,2,a\n,4,b\n2.5,9,b\n400.0,1500,Total\n",
    "two colons": "1.5::2::7\n::4::8\n2.5::9::1\n",
    "records": '[{"x": 1.5, "y": 2},\n {"x": null, "y": 4},\n {"x": 2.5, "y": 9}]\n',
    "a record on each line": '{"x": 1.5, "y": 2}\n{"x": null, "y": 4}\n{"x": 2.5, "y": 9}\n',
}


@pytest.mark.parametrize("name", LINES)
def test_lines_that_are_no_rows(tmp_path: Path, name: str) -> None:
    source = read(tmp_path, "a.csv", LINES[name])
    np.testing.assert_array_equal(source.table().matrix[:3, :2], [[1.5, 2], [np.nan, 4], [2.5, 9]])
    old, new = LINES[name].splitlines(), filled(source).splitlines()
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    before, after = changed[0]
    assert len(changed) == 1 and after == (before.replace("null", "2.0") if "null" in before else f"2.0{before}")


def test_lines_that_end_early(tmp_path: Path) -> None:
    source = read(tmp_path, "a.csv", "x,y,z\n1.5,2.5,3.5\n2.5\n3.5,4.5\n4.5,,0.5\n")
    assert source.form == "2 lines that end early"
    assert filled(source) == "x,y,z\n1.5,2.5,3.5\n2.5,3.5,2.0\n3.5,4.5,2.0\n4.5,3.5,0.5\n"
    with pytest.raises(InputError, match="line 3: 1 fields"):  # which of its cells is missing cannot be told
        read(tmp_path, "b.txt", "x   y\n1.5 2.5\n    3.5\n")


def test_a_key_that_a_record_lacks(tmp_path: Path) -> None:
    source = read(
        tmp_path,
        "a.jsonl",
        '{"x": 1.5, "k": "a", "n": 1}\n{"k": "b", "n": 4}\n{"x": 2.5, "n": 9}\n{"x": 2.0, "k": "a", "n": 7}\n{"x": 2.0, "k": "b", "n": 7}\n',
    )
    assert filled(source).splitlines()[1:3] == ['{"k": "b", "n": 4, "x": 2.0}', '{"x": 2.5, "n": 9, "k": "a"}']
    with pytest.raises(InputError, match="line 2: not a list of JSON records"):
        read(tmp_path, "b.json", '{"x": 1,\n "y" 2}')


def test_years_name_columns(tmp_path: Path) -> None:
    assert read(tmp_path, "a.csv", "2019,2020\n1.5,2.5\n,3.5\n").names == ("2019", "2020")
    assert read(tmp_path, "b.csv", "2019,2020\n2021,2022\n,2024\n").form == "no header"


def test_one_word_in_several_spellings_is_one_level(tmp_path: Path) -> None:
    column = (
        read(tmp_path, "a.csv", "k,x\nHigh,1.5\nhigh,2.5\nHIGH,3.5\nhigh,4\nlow,5\nLow,6\nlow,7\n").table().columns[0]
    )
    assert column.kind == "category" and column.levels == ("high", "low")


def test_a_single_column_has_nothing_to_be_filled_from(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="Only 'x' can be completed, and no other column says anything about it: 'name'"
    ):
        read(tmp_path, "a.csv", "name,x\na,1.5\nb,\nc,2.5\n").table()


@pytest.mark.parametrize(
    ("suffix", "pack", "unpack"), [("bz2", bz2.compress, bz2.decompress), ("xz", lzma.compress, lzma.decompress)]
)
def test_compressed_files_stay_compressed(tmp_path: Path, suffix: str, pack, unpack) -> None:
    source = read(tmp_path, f"a.csv.{suffix}", pack(b"x,y\n1.5,2\n,4\n2.5,9\n"))
    table = source.table()
    written = source.written(table.filled(np.nan_to_num(table.matrix, nan=2.0)))
    assert unpack(written) == b"x,y\n1.5,2\n2.0,4\n2.5,9\n" and source.suffix == f".csv.{suffix}"


def test_files_that_pandas_reads_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pandas.read_stata\(.*to_parquet"):
        read(tmp_path, "a.dta", b"<stata_dta>\0\0")


def test_a_sheet_below_a_title_beside_another_sheet(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active["A1"] = "Cover"
    sheet = book.create_sheet("Data")
    sheet["B2"] = "Survey"
    sheet.merge_cells("B2:D2")
    for row, cells in enumerate([("x", "y", "sum"), (1.5, 2, "=B4+C4"), (None, 4, "=B5+C5"), (2.5, "n/a", "=B6+C6")]):
        for column, cell in enumerate(cells):
            sheet.cell(3 + row, 2 + column).value = cell
    path = tmp_path / "a.xlsx"
    book.save(path)
    source = read_file(path)
    table = source.table()
    assert source.form == "the sheet 'Data' of an Excel file" and [column.name for column in table.columns] == [
        "x",
        "y",
        "sum",
    ]
    path.write_bytes(source.written(table.filled(np.where(np.isnan(table.matrix), [[2.0, 3.0]], table.matrix))))
    again = openpyxl.load_workbook(path)
    assert [[cell.value for cell in row] for row in again["Data"]["B3:D6"]] == [
        ["x", "y", "sum"], [1.5, 2, "=B4+C4"], [2.0, 4, "=B5+C5"], [2.5, 3, "=B6+C6"],
    ]  # fmt: skip
    assert again.worksheets[0]["A1"].value == "Cover"


def test_parquet_keeps_levels_and_types(tmp_path: Path) -> None:
    levels = pd.Categorical(["low", None, "high", "low", "high"], categories=["low", "mid", "high"], ordered=True)
    table = pyarrow.table(
        {
            "k": pyarrow.array(levels),
            "n": pyarrow.array([1, 5, None, 3, 3], pyarrow.uint8()),
            "price": pyarrow.array(
                [Decimal("1.50"), None, Decimal("2.50"), None, Decimal("2.00")], pyarrow.decimal128(8, 2)
            ),
            "list": [[1]] * 5,
        }
    )
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(table, path)
    table = pyarrow.parquet.read_table(path)
    source = read_file(path)
    found = source.table()
    path.write_bytes(
        source.written(found.filled(np.where(np.isnan(found.matrix), np.nanmean(found.matrix, 0), found.matrix)))
    )
    again = pyarrow.parquet.read_table(path)
    assert again.schema.equals(table.schema)
    assert again["k"].to_pandas().cat.categories.tolist() == ["low", "mid", "high"] and again["n"].to_pylist() == [
        1,
        5,
        3,
        3,
        3,
    ]
    assert again["price"].to_pylist() == [
        Decimal("1.50"),
        Decimal("2.00"),
        Decimal("2.50"),
        Decimal("2.00"),
        Decimal("2.00"),
    ]


def test_row_names_of_r_have_no_name(tmp_path: Path) -> None:
    source = read(tmp_path, "r.txt", '"x" "y"\n"1" 1.5 2.5\n"2" NA 3.5\n"3" 4.5 NA\n')
    assert list(source.names) == ["", "x", "y"]
    assert source.table().columns[0].kind == "id"
    assert filled(source).splitlines()[2] == '"2" 3.0 3.5'
    with pytest.raises(InputError, match="3 fields, but line 1 has 2"):
        read(tmp_path, "bad.csv", "x,y\n1,2,3\n1,2\n")


def test_units_stand_above_numbers_alone(tmp_path: Path) -> None:
    source = read(tmp_path, "u.csv", "x,y,who\ncm,kg,\n1,2,a\n2,3,b\n,4,a\n")
    assert [column.kind for column in source.table().columns[:2]] == ["integer", "integer"]
    assert "line 2 left out" in source.form
    below = read(tmp_path, "b.csv", "x,y,who\nlow,5,b\n1,2,a\n2,3,b\n3,4,a\n")
    assert "left out" not in below.form


def test_a_first_line_that_comes_again_is_no_header(tmp_path: Path) -> None:
    source = read(tmp_path, "h.csv", "u1,a7,4\nu1,a8,3\nu2,a7,5\nu3,a9,1\n")
    assert list(source.names) == ["column 1", "column 2", "column 3"]
    assert list(read(tmp_path, "n.csv", "u1,a7,4\nu2,a8,x\nu1,a7,5\n").names) == ["u1", "a7", "4"]


def test_a_filled_cell_has_the_blanks_of_its_neighbours(tmp_path: Path) -> None:
    assert filled(read(tmp_path, "a.csv", "x, y\n1, 2\n3, \n5, 4\n")).splitlines()[2] == "3, 3"
    assert filled(read(tmp_path, "b.csv", "x | y | z\n1 | 2 | 3\n4 |  | 6\n7 | 5 | 7\n")).splitlines()[2] == "4 | 4 | 6"


def test_a_mark_of_one_column_is_a_value_of_others(tmp_path: Path) -> None:
    rows = [(1, 5), (9, 9), (2, 7), (9, 6), (3, 8), (9, 6), (4, 5)]
    text = "q,age\n" + "".join(f"{q},{age}\n" for q, age in rows)
    table = read(tmp_path, "a.csv", text).table()
    assert any("9 in 'q' stands apart" in note and "'q=9'" in note for note in table.notes)
    marked = read(tmp_path, "b.csv", text).table(missing=["q=9"])
    assert [int((~column.known).sum()) for column in marked.columns] == [3, 0]
    pd.DataFrame(rows, columns=["q", "age"]).to_excel(tmp_path / "c.xlsx", index=False)
    sheet = read_file(tmp_path / "c.xlsx").table(missing=["q=9"])
    assert [int((~column.known).sum()) for column in sheet.columns] == [3, 0]


@pytest.mark.parametrize(
    ("lowest", "said"), [("-1 -1 -1 -1", True), ("-1 4 5 6", False), ("-1 -1 -1 -2", False), ("0 0 0 0", False)]
)
def test_a_frequent_minus_one_is_asked_about(tmp_path: Path, lowest: str, said: bool) -> None:
    ages = [*lowest.split(), "31", "42", "31", "27", "55", "38", "60", "23", ""]
    rows = "".join(f"{age},{place % 7}.5\n" for place, age in enumerate(ages))
    notes = read(tmp_path, "a.csv", "age,x\n" + rows).table().notes
    assert any("-1 in 'age' stands apart" in note and "'age=-1'" in note for note in notes) == said


def test_refused_answers_in_columns_without_negative_numbers_are_missing(tmp_path: Path) -> None:
    answers = [1, 2, 3, 4, 5, -9, -8, -9, 2, -8, -9, -8, 4]
    text = "q,x\n" + "".join(f"{answer},{place}\n" for place, answer in enumerate(answers))
    table = read(tmp_path, "a.csv", text).table()
    assert int((~table.columns[0].known).sum()) == 6
    assert any("-8, -9 in 'q' (6 cells)" in note for note in table.notes)


def test_a_table_without_holes_may_mean_something_else(tmp_path: Path) -> None:
    pairs = "".join(f"{i},{j},{i * j % 5 + 1}\n" for i in range(1, 8) for j in range(1, 6))
    notes = read(tmp_path, "pairs.csv", "c0,c1,c2\n" + pairs).table().notes
    assert any("`row` 'c0' `col` 'c1' `value` 'c2'" in note for note in notes)
    notes = read(tmp_path, "zeros.csv", "c0,c1,c2\n1,2,3\n2,3,1\n3,2,2\n" + 9 * "0,0,0\n").table().notes
    assert any("0 stands in 75%" in note and "`na` 0" in note for note in notes)


def test_the_sheet_with_the_table_is_taken_or_the_one_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    with pd.ExcelWriter(path) as book:
        pd.DataFrame({"note": ["from the station", "of 2007"]}).to_excel(book, sheet_name="Notes", index=False)
        pd.DataFrame({"x": [1.5, None, 3.5], "y": [2, 4, 6]}).to_excel(book, sheet_name="Data", index=False)
        pd.DataFrame({"a": [1.0, 2.0, 5.0], "b": [2, None, 7]}).to_excel(book, sheet_name="More", index=False)
    source = read_file(path)
    assert list(source.names) == ["x", "y"]
    assert source.form == "the sheet 'Data' of an Excel file; others are 'Notes' and 'More', `sheet` names one"
    assert list(read_file(path, sheet="More").names) == ["a", "b"]
    assert list(read_file(path, sheet="Notes").names) == ["note"]
    with pytest.raises(UsageError, match=r"no sheet 'Dat'\. Did you mean Data"):
        read_file(path, sheet="Dat")
    (tmp_path / "t.csv").write_text("x,y\n1,2\n")
    with pytest.raises(UsageError, match="Excel file"):
        read_file(tmp_path / "t.csv", sheet="Data")


ROWS = [f"K{i:03d},{i}.5,{2 * i}.25,{'east' if i % 2 else 'west'},2024-01-{i % 28 + 1:02d}" for i in range(40)]


@pytest.mark.parametrize("place", [0, 20, 40, "between", "beside"])
def test_totals_stand_anywhere(tmp_path: Path, place: int | str) -> None:
    """The first row, the last, or several between; and statistics beside them, which elsewhere may be names."""
    rows = [row if i % 7 else f"K{i:03d},,{2 * i}.25,west,2024-01-05" for i, row in enumerate(ROWS)]
    total, more = "TOTAL,9000.0,,,", "Max,39.5,,,"
    if place == "between":
        lines = [*rows[:13], "Subtotal,90.0,,,", *rows[13:26], "Subtotal,270.0,,,", *rows[26:], total]
        out = {14, 28, 43}
    elif place == "beside":
        lines, out = [*rows, total, more, "", "Source: own data,,,,"], {41, 42, 43}
    else:
        lines, out = [*rows[:place], total, *rows[place:]], {place + 1}
    table = read(tmp_path, "a.csv", "\n".join(["id,x,y,side,day", *lines])).table()
    assert (
        f"rows that hold totals of others, or notes, stay as they are: {', '.join(map(str, sorted(out)))}"
        in table.notes
    )
    assert {row + 1 for row, _ in table.holes()} & out == set() or not np.isfinite(
        table.matrix[[row - 1 for row in out]]
    ).any()
    assert table.matrix[:, 0][np.isfinite(table.matrix[:, 0])].max() < 40
    (alone,) = [
        column
        for column in read(tmp_path, "b.csv", "\n".join(["id,x,y,side,day", *rows, more])).table().columns
        if column.name == "x"
    ]
    assert alone.numbers[-1] == 39.5  # without a total beside it, a row of that name


def test_levels_called_total_are_no_totals(tmp_path: Path) -> None:
    rows = [f"{('Male', 'Female', 'Total')[i % 3]},{i},{'' if i % 5 == 0 else 2 * i}" for i in range(60)]
    table = read(tmp_path, "a.csv", "\n".join(["sex,age,n", *rows])).table()
    assert not any("totals" in note for note in table.notes) and np.isfinite(table.matrix[:, -1]).sum() == 48


def test_words_among_numbers_stay_and_the_holes_are_filled(tmp_path: Path) -> None:
    words = {3: "ask Bob", 17: "<0.5", 20: "k.A.", 21: "#NV"}
    rows = [f"{words.get(i, '' if i in (5, 9) else f'{i}.5')},{3 * i}.25" for i in range(40)]
    source = read(tmp_path, "a.csv", "\n".join(["x,y", *rows, ""]))
    table = source.table()
    column = table.columns[0]
    assert column.kind == "number" and "'ask Bob', '<0.5' in 2 cells, which stay as they are" in str(column)
    assert [row for row, _ in table.holes()] == [5, 9, 20, 21]
    matrix = np.where(np.isnan(table.matrix), 7.0, table.matrix)
    text = source.written(table.filled(matrix)).decode().splitlines()
    assert [line.split(",")[0] for line in (text[4], text[18], text[6], text[21])] == ["ask Bob", "<0.5", "7.0", "7.0"]
    assert np.isnan(table.matrix[[3, 17], 0]).all()
    half = read(
        tmp_path,
        "b.csv",
        "\n".join(
            [
                "x,y",
                *(
                    f"{'ask ' + 'abcdefghij'[i // 10] + 'abcdefghij'[i % 10] if i % 3 else f'{i}.5'},{3 * i}.25"
                    for i in range(40)
                ),
            ]
        ),
    )
    assert half.table().columns[0].kind != "number"  # too many of them
    typed = pd.DataFrame({"x": [*map(float, range(38)), "k.A.", "low"], "t": [pd.Timestamp(2024, 1, 1 + i % 28) if i else "-" for i in range(40)], "y": np.arange(40.0)})  # fmt: skip
    first, times, _ = table_of_frame(typed).columns
    assert (first.kind, times.kind) == ("integer", "date")
    assert [int(row) for row in np.flatnonzero(~first.known)] == [38] and not times.known[0]


def test_a_line_of_groups_above_the_names(tmp_path: Path) -> None:
    rows = [f"P{i},{50 + i},{'' if i == 4 else 170 + i},{100 + i}" for i in range(12)]
    source = read(tmp_path, "a.csv", "\n".join([",Body,,Blood", "id,weight,height,pressure", *rows, ""]))
    assert list(source.names) == ["id", "weight", "height", "pressure"] and "line 1 left out" in source.form
    unnamed = read(tmp_path, "b.csv", "\n".join(["id,weight,,", *rows, ""]))
    assert list(unnamed.names) == ["id", "weight", "column 3", "column 4"]
    words = read(tmp_path, "c.csv", "name,,city\nAnn,x,Rome\nBob,y,Paris\nCid,x,Rome\n")
    assert list(words.names) == ["name", "column 2", "city"]


def test_one_nine_far_above_all_others_is_asked_about(tmp_path: Path) -> None:
    rows = [f"{1000 + 37 * (i % 20)},{i}" for i in range(40)]
    rows[4], rows[9], rows[12] = "99999,4", "9999,9", ",12"
    notes = read(tmp_path, "a.csv", "\n".join(["income,n", *rows])).table().notes
    assert sorted(note.split()[0] for note in notes if "'income' stands apart" in note) == ["9999", "99999"]
    rows[4], rows[9] = "1999,4", "2999,9"
    assert not any("apart" in note for note in read(tmp_path, "b.csv", "\n".join(["income,n", *rows])).table().notes)


@pytest.mark.parametrize(
    ("label", "exact"),
    [
        ("Total général", False), ("Deutschland insgesamt", False), ("All", False), ("合计", False), ("Σ", False), ("", True),
        ("Everything", True),
    ],
)  # fmt: skip
def test_a_row_that_holds_the_sums_of_others_is_told_by_its_numbers(tmp_path: Path, label: str, exact: bool) -> None:
    rows = [[f"R{i}", f"{i + 1}.5", "" if i % 7 == 3 else f"{(5 * i) % 23}.25"] for i in range(20)]
    known = [sum(float(row[place] or 0) for row in rows) for place in (1, 2)]
    more = 0 if exact else 40  # what was known to whom summed
    for line in ([label, f"{known[0]}", f"{known[1] + more}"], [label, "19.5", "12.25"]):
        lines = [",".join(row) for row in [["region", "a", "b"], *rows, line]]
        table = read(tmp_path, "a.csv", "\n".join(lines)).table()
        left = [note for note in table.notes if note.endswith("stay as they are: 21")]
        assert len(left) == (line[1] != "19.5")


def test_sums_of_parts_stand_below_each_part(tmp_path: Path) -> None:
    lines, number = ["region,a,b"], 0
    for part in range(4):
        lines += [f"P{part}{i},{i + part}.5,{'' if i == 2 else f'{3 * i}.25'}" for i in range(1, 6)]
        lines.append(
            f"P{part} Total,{sum(i + part + 0.5 for i in range(1, 6))},{sum(3 * i + 0.25 for i in range(1, 6))}"
        )
        number += 6
    table = read(tmp_path, "a.csv", "\n".join(lines)).table()
    assert "rows that hold totals of others, or notes, stay as they are: 6, 12, 18, 24" in table.notes
    assert [row + 1 for row, _ in table.holes() if np.isfinite(table.matrix[row]).any()] == [2, 8, 14, 20]


@pytest.mark.parametrize(
    "note", ["Source: World Bank,,", "* provisional,,", '"Source: Office, 2023",,', "Source: Office, 2023"]
)
@pytest.mark.parametrize("first", ["region", "number"])
def test_a_note_below_the_rows_is_no_row(tmp_path: Path, note: str, first: str) -> None:
    rows = [
        f"{('North', 'South')[i % 2] if first == 'region' else i * i},{i}.5,{'' if i % 5 == 2 else 2 * i}"
        for i in range(20)
    ]
    source = read(tmp_path, "a.csv", "\n".join([f"{first},a,b", *rows, note, ""]))
    assert source.table().columns[0].kind == ("category" if first == "region" else "integer")
    assert filled(source).splitlines()[-1] == note


TITLES = {
    "of several fields": ("Account,DE12\nFrom,2023-01-01\n\nday,in,out\n", ["day", "in", "out"]),
    "of the World Bank": ('"Source","Indicators",\n\n"Updated","2023-05-10",\n\nday,2001,2002,\n', ["day", "2001", "2002", "column 4"]),
    "filled with separators": ('"Title, of data",,\n"In EUR",,\nday,in,out\n', ["day", "in", "out"]),
    "groups of equal names": (",2021,,2022,\nday,in,out,in,out\n", ["day", "2021 in", "2021 out", "2022 in", "2022 out"]),
    "groups, each named": (",2021,2021,2022,2022\nday,in,out,in,out\n", ["day", "2021 in", "2021 out", "2022 in", "2022 out"]),
}  # fmt: skip


@pytest.mark.parametrize("name", TITLES)
def test_lines_above_the_names(tmp_path: Path, name: str) -> None:
    head, names = TITLES[name]
    comma = "," if names[-1] == "column 4" else ""
    width = len(names) - bool(comma)
    rows = [
        ",".join([f"D{i}", *(f"{i * k}.5" if (i + k) % 7 else "" for k in range(1, width))]) + comma for i in range(20)
    ]
    text = head + "\n".join([*rows, ""])
    source = read(tmp_path, "a.csv", text)
    assert list(source.names) == names and len(source.cells) == 20
    assert not {column.kind for column in source.table().columns} - {"id", "number", "empty"}
    assert filled(source).startswith(head + "D0,0.5")


BELOW = {
    "narrower": "\nitem,price\na,3\nb,4\n",
    "padded": ",,\nitem,price,\na,3,\nb,4,\n",
    "as wide": "\nitem,price,tax\na,3,1\nb,4,2\n",
    "of numbers": "\na,b,c\n7,3,1\n8,4,2\n",
    "of numbers, at once": "a,b,c\n7,3,1\n8,4,2\n",
    "wider": "\na,b,c,d\n7,3,1,5\n8,4,2,6\n",
    "longer": "\na,b\n" + 30 * "7,3\n",
    "with a title": "\nTable 2: prices\nitem,price,tax\na,3,1\nb,4,2\n",
    "of one column": "\nprices\n3\n4\n",
    "of words that come again": "\nitem,price,kind\na,3,new\nb,4,new\n",
    "and a third": "\nitem,price\na,3\n\na,b,c\n7,3,1\n",
}


@pytest.mark.parametrize("name", BELOW)
def test_another_table_below_is_left_and_said(tmp_path: Path, name: str) -> None:
    rows = [f"{(7 * i) % 11},{'' if i == 3 else i * i},{i}.5" for i in range(10)]
    text = "\n".join(["x,y,z", *rows, BELOW[name]])
    source = read(tmp_path, "a.csv", text)
    assert f"another table from line {12 if 'at once' in name else 13} on" in source.form
    assert [(column.name, column.kind) for column in source.table().columns] == [
        ("x", "integer"),
        ("y", "integer"),
        ("z", "number"),
    ]
    assert filled(source) == text.replace("10,,3.5", "10,31,3.5")


@pytest.mark.parametrize(
    "more", ["\n7,3,1.5\n", "\nx,y,z\n7,3,1.5\n", "\nSource: own\n", "\nTotal,276,50.0\n", "\nn/a,NaN,?\n7,3,1.5\n"]
)
def test_what_follows_a_gap_may_be_the_same_table(tmp_path: Path, more: str) -> None:
    rows = [f"{(7 * i) % 11},{'' if i == 3 else i * i},{i}.5" for i in range(10)]
    assert "another" not in read(tmp_path, "a.csv", "\n".join(["x,y,z", *rows, more])).form


def test_another_table_below_one_of_words(tmp_path: Path) -> None:
    rows = [f"N{i},{'ABC'[i % 3]}x,{'uv'[i % 2]}w" for i in range(12)]
    source = read(tmp_path, "a.csv", "\n".join(["name,city,kind", *rows, "", "item,price", "a,3", "b,4", ""]))
    assert source.form == "another table from line 15 on, left as it is"


def test_a_header_that_comes_again_is_no_row(tmp_path: Path) -> None:
    rows = [f"{('Ann', 'Bob', 'Cid')[i % 3]},{i}.5,{'' if i % 5 == 2 else 2 * i}" for i in range(30)]
    source = read(tmp_path, "a.csv", "\n".join(["name,a,b", *rows[:15], "name,a,b", *rows[15:], ""]))
    assert source.form == "line 17 left out" and len(source.cells) == 30
    assert source.table().columns[0].levels == ("Ann", "Bob", "Cid")
    assert filled(source).splitlines()[16] == "name,a,b"


@pytest.mark.parametrize(
    "name", ["customer_id", "invoice number", "Matrikelnummer", "Kunden-Nr.", "#", "mobile number", "Handy"]
)
def test_numbers_that_name_rows_are_never_filled(tmp_path: Path, name: str) -> None:
    rows = [
        f"{'' if i == 5 and name != 'Kunden-Nr.' else 4_917_000 + 37 * i * i},{i}.5,{'' if i == 3 else 2 * i}"
        for i in range(12)
    ]
    table = read(tmp_path, "a.csv", "\n".join([f"{name},a,b", *rows])).table()
    assert not table.columns[0].modelled and {place for _, place in table.holes()} == {2}


def test_signs_of_offices_for_no_number(tmp_path: Path) -> None:
    rows = [f"{('..', ':', '/')[i % 3] if i % 4 == 0 else f'{i}.5'},{i % 3}:30,{i}" for i in range(24)]
    table = read(tmp_path, "a.csv", "\n".join(["a,t,b", *rows])).table()
    assert [column.kind for column in table.columns] == ["number", "date", "integer"]
    assert np.isnan(table.matrix[:, 0]).sum() == 6


def test_one_column_says_whether_the_day_stands_first(tmp_path: Path) -> None:
    rows = [f"0{i % 9 + 1}/02/2024,{i % 28 + 1}/02/2024,{i}.5" for i in range(28)]
    table = read(tmp_path, "a.csv", "\n".join(["start,end,x", *rows])).table()
    assert (table.columns[0].numbers == table.columns[1].numbers)[:9].all()
    frame = pd.DataFrame([row.split(",") for row in rows], columns=["start", "end", "x"])
    assert (table_of_frame(frame).columns[0].numbers == table.columns[0].numbers).all()
    comma = read(tmp_path, "b.csv", "start;x\n01/02/2024;1,5\n03/02/2024;2,5\n").table().columns[0]
    assert np.diff(comma.numbers[:, 0]) == [2] and comma.why == "read as %d/%m/%Y, %m/%d/%Y fits as well"


def test_dates_for_no_date(tmp_path: Path) -> None:
    rows = [
        f"{'9999-12-31' if i % 5 == 2 else f'2023-{i % 12 + 1:02d}-05'},{'0000-00-00' if i % 7 == 2 else f'2023-{i % 12 + 1:02d}-05'},{i}.5"
        for i in range(30)
    ]
    table = read(tmp_path, "a.csv", "\n".join(["until,since,x", *rows])).table()
    assert [column.kind for column in table.columns] == ["date", "date", "number"]
    assert any(note.startswith("9999-12-31 in 'until' stands apart from all other values") for note in table.notes)
    assert np.isnan(table.columns[1].numbers).sum() == 4 and "taken as missing: '0000-00-00' (4)" in table.notes


def test_dates_end_with_the_year_9999(tmp_path: Path) -> None:
    """What is filled in, and the ends of its interval, may lie beyond."""
    rows = [f"{'9999-12-31' if i % 2 else '' if i == 2 else '2023-01-05'},{i}.5" for i in range(20)]
    for column in (
        read(tmp_path, "a.csv", "\n".join(["until,x", *rows])).table().columns[0],
        table_of_frame(
            pd.DataFrame({"until": [datetime(9999, 12, 31), datetime(2023, 1, 5)] * 9, "x": range(18)})
        ).columns[0],
        table_of_frame(pd.DataFrame({"until": [date(9999, 12, 31), date(2023, 1, 5)] * 9, "x": range(18)})).columns[0],
    ):
        assert column.kind == "date"
        assert [str(column.write(day))[:10] for day in (1e9, 1e6, -1e9)] == ["9999-12-31", "4707-11-29", "0001-01-01"]


def sheet(folder: Path, rows: list[list[object]]) -> Source:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(folder / "a.xlsx")
    return read_file(folder / "a.xlsx")


@pytest.mark.parametrize("groups", [[None, 2021, None, 2022, None], [None, "2021", "2021", "2022", "2022"]])
def test_a_sheet_as_people_have_it(tmp_path: Path, groups: list[object]) -> None:
    """Groups of equal names, the names once more between the rows, sums below them."""
    rows = [[f"P{i}", i + 0.5, None if i % 5 == 2 else 2.0 * i, float(i % 3), 1.5 * i] for i in range(20)]
    names: list[object] = ["id", "in", "out", "in", "out"]
    sums = ["Gesamtergebnis", *(sum(row[place] or 0 for row in rows) for place in range(1, 5))]
    source = sheet(tmp_path, [groups, names, *rows[:10], names, *rows[10:], sums])
    table = source.table()
    assert source.names == ["id", "2021 in", "2021 out", "2022 in", "2022 out"]
    assert [column.kind for column in table.columns] == ["id", "number", "integer", "integer", "number"]
    assert "rows that hold totals of others, or notes, stay as they are: 22" in table.notes
    assert np.isnan(table.matrix[[10, 21]]).all() and np.isfinite(table.matrix[:10, 0]).all()


def test_a_few_lines_above_a_larger_table_are_none(tmp_path: Path) -> None:
    rows = [[(7 * i) % 11, None if i == 3 else i + 0.5] for i in range(12)]
    head: list[list[object]] = [["Station", "Berlin"], ["Elevation", 34], [], ["day", "rain"]]
    book = sheet(tmp_path, [*head, *rows])
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in [*head, *rows]]
    text = read(tmp_path, "a.csv", "\n".join(lines))
    for source in (book, text):
        assert list(source.names) == ["day", "rain"] and len(source.cells) == 12
    assert text.form == "lines 1, 2 left out" and filled(text).splitlines()[7] == "10,6.2"


def test_another_table_below_in_a_sheet(tmp_path: Path) -> None:
    rows = [
        [202101 + i if i != 4 else None, f"2021-Q{i % 4 + 1}" if i != 5 else None, "1.2M" if i % 2 else "350K", i * i]
        for i in range(10)
    ]
    source = sheet(tmp_path, [["m", "q", "k", "n"], *rows, [], ["item", "price"], ["a", 3]])
    assert source.form == "the sheet 'Sheet' of an Excel file; another table from row 13 on is left as it is"
    table = source.table()
    assert [column.kind for column in table.columns] == ["date", "date", "integer", "integer"] and len(
        source.cells
    ) == 10
    matrix = np.where(np.isnan(table.matrix), np.nanmean(table.matrix, axis=0), table.matrix)
    (tmp_path / "b.xlsx").write_bytes(source.written(table.filled(matrix)))
    cells = openpyxl.load_workbook(tmp_path / "b.xlsx").active
    assert (cells["A6"].value, cells["B7"].value, cells["A13"].value) == (202105, "2021-Q2", "item")


def test_a_sheet_with_dates_for_no_date(tmp_path: Path) -> None:
    rows = [[f"P{i}", datetime(9999, 12, 31) if i % 3 else datetime(2023, 1, i + 1), 1.5 * i] for i in range(20)]
    notes = sheet(tmp_path, [["id", "until", "x"], *rows]).table().notes
    assert "9999-12-31 in 'until' stands apart from all other dates; where it means none, make it missing" in notes

"""The same small table in the forms in which files arrive: read alike, and given back with nothing but its holes changed."""

import gzip
import io
import os
import threading
import zipfile
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lowdim.errors import InputError
from lowdim.tables import Source, Table, read_file

ROWS = [
    ("39.1", "18.7", "", "3750", "2007"),
    ("39.5", "", "186.0", "3800", "2007"),
    ("", "18.0", "195.0", "", "2008"),
    ("36.7", "19.3", "193.0", "3450", "2009"),
]
NAMES = ("length", "depth", "flipper", "mass", "year")
EXPECTED = np.array([[float(cell) if cell else np.nan for cell in row] for row in ROWS])


def text(separator: str = ",", decimal: str = ".", end: str = "\n", missing: str = "", quote: str = "") -> str:
    lines = [separator.join(f"{quote}{name}{quote}" for name in NAMES)]
    for row in ROWS:
        cells = [(cell or missing).replace(".", decimal) if cell else missing for cell in row]
        lines.append(separator.join(f"{quote}{cell}{quote}" for cell in cells))
    return end.join(lines) + end


def zipped(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inner.csv", content)
    return packed.getvalue()


FORMS = {
    "plain.csv": text().encode(),
    "european.csv": text(";", ",").encode(),
    "semicolon.csv": text(";").encode(),
    "tab.tsv": text("\t").encode(),
    "bar.csv": text("|").encode(),
    "blanks.txt": text(" ", missing="NA").encode(),
    "quoted.csv": text(quote='"', end="\r\n").encode(),
    "old-mac.csv": text(end="\r").encode(),
    "bom.csv": b"\xef\xbb\xbf" + text().encode(),
    "utf16.csv": text().encode("utf-16"),
    "latin.csv": text().replace("length", "Länge").encode("latin-1"),
    "comment.csv": ("# from the station\n" + text()).encode(),
    "not-available.csv": text(missing="n.a.").encode(),
    "dash.csv": text(missing="-").encode(),
    "no-end.csv": text().rstrip("\n").encode(),
    "blank-lines.csv": text(end="\n\n").encode(),
    "no-header.csv": text().split("\n", 1)[1].encode(),
    "packed.csv.gz": gzip.compress(text().encode()),
    "packed.zip": zipped(text().encode()),
}


def read(folder: Path, name: str, content: bytes) -> Source:
    path = folder / name
    path.write_bytes(content)
    return read_file(path)


def filled_with_means(table: Table, source: Source) -> bytes:
    matrix = table.matrix
    return source.written(table.filled(np.where(np.isnan(matrix), np.nanmean(matrix, axis=0), matrix)))


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_numbers(tmp_path: Path, name: str) -> None:
    np.testing.assert_array_equal(read(tmp_path, name, FORMS[name]).table().matrix, EXPECTED)


@pytest.mark.parametrize("name", FORMS)
def test_only_holes_are_changed(tmp_path: Path, name: str) -> None:
    source = read(tmp_path, name, FORMS[name])
    content = filled_with_means(source.table(), source)
    again = read(tmp_path, f"again-{name}", content)
    assert again.suffix == source.suffix
    complete, known = again.table().matrix, ~np.isnan(EXPECTED)
    assert not np.isnan(complete).any()
    np.testing.assert_array_equal(complete[known], EXPECTED[known])
    if name.endswith(("csv", "txt", "tsv")):
        old, new = FORMS[name], content
        assert source.written({}) == old
        for value in (b"38.4", b"18.7", b"191.0", b"3667"):  # the means, in the form of their columns
            value = value.replace(b".", b",") if name == "european.csv" else value
            assert value.decode() in new.decode("utf-16" if name == "utf16.csv" else "latin-1")
        assert len(new.splitlines()) == len(old.splitlines())


def test_what_is_not_usual_is_said(tmp_path: Path) -> None:
    assert read(tmp_path, "a.csv", FORMS["plain.csv"]).form == ""
    assert read(tmp_path, "b.csv", FORMS["european.csv"]).form == "separated by semicolon, a decimal comma"
    assert read(tmp_path, "c.csv", FORMS["no-header.csv"]).form == "no header"


def test_a_sentinel_is_missing_where_it_is_frequent_and_far(tmp_path: Path) -> None:
    lines = ["a,b"] + [f"{place**2},{-999 if place % 3 == 0 else place * 2}" for place in range(30)]
    source = read(tmp_path, "a.csv", "\n".join(lines).encode())
    table = source.table()
    assert np.isnan(table.matrix).sum() == 10 and "-999 in 'b' (10 cells)" in table.notes[0]
    assert not np.isnan(source.table(sentinels=False).matrix).any()
    near = ["a,b"] + [f"{place**2},{99 if place % 3 == 0 else place * 5}" for place in range(30)]
    assert not read(tmp_path, "b.csv", "\n".join(near).encode()).table().notes  # 99 lies among the others


@pytest.mark.parametrize("digits", ["9" * 5000, "\u00b2" * 17, "9007199254740993", "00123"])
def test_numbers_of_too_many_digits_are_no_numbers(tmp_path: Path, digits: str) -> None:
    lines = ["a,b", *(f"{k},{k * k}" for k in range(12)), f"{digits},5"]
    (column, _) = read(tmp_path, "a.csv", "\n".join(lines).encode()).table().columns
    assert column.kind in ("id", "text", "category")


def test_thousands(tmp_path: Path) -> None:
    source = read(tmp_path, "a.csv", b'a,b\n"1,200",2\n"2,400",4\n,6\n"4,800",8\n')
    np.testing.assert_array_equal(source.table().matrix, [[1200, 2], [2400, 4], [np.nan, 6], [4800, 8]])
    assert b'"2,800",6' in filled_with_means(source.table(), source)
    german = read(tmp_path, "b.csv", b"a;b\n1.200,5;2,5\n2.400,5;4,5\n;6,5\n")
    np.testing.assert_array_equal(german.table().matrix, [[1200.5, 2.5], [2400.5, 4.5], [np.nan, 6.5]])
    assert b"1.800,5;6,5" in filled_with_means(german.table(), german)


MIXED = """id,when,place,price,left,member,remark
C1,2024-01-31,north,1.50,3,True,good
C2,2024-02-28,south,2.25,4,False,quite good
C3,,north,,5,True,bad
C4,2024-03-01,,2.75,,,"good, in parts"
C5,2024-03-02,north,3.00,7,True,
"""


def test_columns_of_any_kind(tmp_path: Path) -> None:
    source = read(tmp_path, "a.csv", MIXED.encode())
    table = source.table()
    assert [column.kind for column in table.columns] == [
        "id",
        "date",
        "category",
        "number",
        "integer",
        "boolean",
        "text",
    ]
    assert table.names == ["when", "place=north", "place=south", "price", "left", "member"]
    matrix = table.matrix
    assert matrix[0, 0] == (datetime(2024, 1, 31) - datetime(1970, 1, 1)).days
    content = filled_with_means(table, source).decode()
    assert "C3,2024-02-22,north,2.38,5,True,bad" in content
    assert 'C4,2024-03-01,north,2.75,5,True,"good, in parts"' in content
    assert content.endswith("C5,2024-03-02,north,3.00,7,True,\n")  # free text keeps its holes
    asked = source.table(kinds={"left": "category"}, passed=["price"])
    assert [column.kind for column in asked.columns][3:5] == ["text", "category"]
    only = source.table(only=["price", "left"])
    assert only.names == ["price", "left"]


def test_a_probability_and_an_interval_come_with_each_filled_cell(tmp_path: Path) -> None:
    table = read(tmp_path, "a.csv", MIXED.encode()).table()
    matrix = np.where(np.isnan(table.matrix), 0.25, table.matrix)
    filled = table.filled(matrix, np.ones_like(matrix))
    assert filled[3, 2].value == "north" and filled[3, 2].probability == pytest.approx(0.5)
    assert filled[2, 3].value == "0.25" and filled[2, 3].low == pytest.approx(0.25 - 1.6449, abs=1e-4)
    assert filled[3, 5].value == "False" and filled[3, 5].probability == pytest.approx(0.75)


def test_an_empty_row_stays_empty_and_is_named(tmp_path: Path) -> None:
    source = read(tmp_path, "a.csv", b"a,b\n5,2\n2,4\n,\n3,\n")
    table = source.table()
    assert table.notes == ("rows without any value stay empty: 3",)
    matrix = table.matrix
    filled = table.filled(np.where(np.isnan(matrix), 9.0, matrix), rows=~np.isnan(matrix).all(axis=1))
    assert source.written(filled) == b"a,b\n5,2\n2,4\n,\n3,9\n"


def test_an_index_and_a_counting_column_pass_through(tmp_path: Path) -> None:
    for header in ("", "customer_id", "n"):
        table = read(tmp_path, "a.csv", f"{header},x,y\n0,1.5,2\n1,2.5,\n2,3.5,4\n".encode()).table()
        assert [column.kind for column in table.columns] == ["id", "number", "integer"]
    assert read(tmp_path, "b.csv", b"year,x\n2000,1.5\n2002,2.5\n2003,\n").table().columns[0].kind == "integer"


@pytest.mark.parametrize("suffix", [".parquet", ".xlsx"])
def test_typed_files_keep_their_types(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame(
        {
            "x": [1.5, np.nan, 3.5, 4.5, 2.5, 0.5],
            "n": pd.array([1, 2, None, 4, 4, 3], "Int64"),
            "when": pd.to_datetime(["2024-01-01", None, "2024-01-03", "2024-01-04", "2024-01-04", "2024-01-06"]),
            "what": pd.Categorical(["a", "b", None, "a", "b", "a"]),
            "flag": pd.array([True, None, False, True, True, False], "boolean"),
        }
    )
    path = tmp_path / f"table{suffix}"
    (frame.to_parquet if suffix == ".parquet" else frame.to_excel)(path, index=False)
    source = read_file(path)
    table = source.table()
    matrix = table.matrix
    (tmp_path / f"again{suffix}").write_bytes(
        source.written(table.filled(np.where(np.isnan(matrix), np.nanmean(matrix, 0), matrix)))
    )
    again = (pd.read_parquet if suffix == ".parquet" else pd.read_excel)(tmp_path / f"again{suffix}")
    assert not again.isna().any().any()
    for name in frame:
        known = frame[name].notna()
        assert (again.loc[known, name].astype(object) == frame.loc[known, name].astype(object)).all()
    if suffix == ".parquet":
        assert (
            list(again.dtypes.astype(str).str.lower())[:2] == ["float64", "int64"] and again["what"].dtype == "category"
        )


def test_a_pipe_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(FORMS["plain.csv"],), daemon=True)
    writer.start()
    np.testing.assert_array_equal(read_file(pipe).table().matrix, EXPECTED)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(FORMS["packed.csv.gz"])))
    np.testing.assert_array_equal(read_file("-").table().matrix, EXPECTED)


BROKEN = {
    "empty.csv": (b"", "is empty"),
    "blank.csv": (b"\n\n", "is empty"),
    "ragged.csv": (b"a,b\n1,2\n3,4,5\n", "line 3: 3 fields"),
    "header.csv": (b"a,b\n", "no rows"),
    "twice.csv": (b"a,a\n1,2\n", "comes twice"),
    "open.csv": (b'a,b\n"1,2\n3,4\n', "line 2"),
    "zeros.csv": (b"a,b\n\x00\x00,1\n", "zero bytes"),
    "infinite.csv": (b"a,b\n1,inf\n2,3\n", "infinite"),
    "words.csv": (b"a,b\nx,y\nz,w\n", "No column can be completed"),
    "columns.json": (b'{"a": [1, 2], "b": [2, null]}', "one record that holds whole columns"),
    "cut.csv.gz": (gzip.compress(FORMS["plain.csv"])[:-9], "damaged"),
    "cut.zip": (zipped(FORMS["plain.csv"])[:-30], "damaged"),
    "cut.parquet": (b"PAR1xxxx", "cannot be read as a table: .*Parquet"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str) -> None:
    content, message = BROKEN[name]
    with pytest.raises(InputError, match=message):
        read(tmp_path, name, content).table()
    with pytest.raises(InputError):
        read_file(tmp_path / "missing.csv")
    with pytest.raises(InputError):
        read_file(tmp_path)

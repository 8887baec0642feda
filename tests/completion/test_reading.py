"""Files of triplets, tables and pictures: what is read, and errors that name the place."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from PIL import Image

from lowdim.completion.entries._inputs import read_matrix, read_picture, sample_picture, to_png
from lowdim.completion.entries._reading import has_triplets, is_ratings, read_pairs, read_triplets, triplets_in
from lowdim.errors import InputError, UsageError
from lowdim.tables import GivenSource, read_file
from lowdim.tables._wide import wide_ratings


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_triplets_with_text_ids(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "user,item,rating\nbob,x,3\nann,y,4.5\nbob,y,0\n")
    read = read_triplets(path, None, None, None)
    assert read.row_ids.tolist() == ["ann", "bob"]
    assert read.column_ids.tolist() == ["x", "y"]
    assert read.names == ("user", "item", "rating")
    assert read.entries.values.tolist() == [4.5, 3.0, 0.0]


def test_named_columns_in_any_order_and_other_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "t.tsv", "when\tstars\tfilm\twho\n1\t5\tf\tp\n2\t1\tg\tq\n")
    read = read_triplets(path, "who", "film", "stars")
    assert read.entries.shape == (2, 2)
    assert not has_triplets(path)


def test_the_same_from_parquet_and_npz(tmp_path: Path) -> None:
    frame = pd.DataFrame({"row": ["b", "a"], "col": [7, 10], "value": [1.5, 2.5]})
    frame.to_parquet(tmp_path / "t.parquet")
    np.savez(tmp_path / "t.npz", row=np.array(["b", "a"]), col=np.array([7, 10]), value=np.array([1.5, 2.5]))
    for name in ("t.parquet", "t.npz"):
        read = read_triplets(tmp_path / name, None, None, None)
        assert read.row_ids.tolist() == ["a", "b"]
        assert read.column_ids.tolist() == ["10", "7"]
        assert read.entries.values.tolist() == [2.5, 1.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,item,rating\na,b,3\na,c\n", r"line 3: 2 fields, but the header has 3"),
        ("user,item,rating\na,b,3\na,c,good\n", r"line 3: 'good' in column 'rating' is not a number"),
        ("user,item,rating\n\na,b,\n\na,c,\n", r"line 3: the value in column 'rating' is missing"),
        ("user,item,rating\na,b,inf\n", r"line 2: the value in column 'rating' is infinite"),
        ("user,item,rating\n,b,1\n", r"line 2: the id in column 'user' is empty"),
        ("user,item,rating\na,b,3\nc,b,1\na,b,4\n", r"line 4: 'a', 'b' has the value 4.0, but 3.0 in line 2"),
        ("user,item,rating\na,b,3\na\0,b,3\n", r"line 3: the id in column 'user' holds a zero byte"),
        ("user;item;rating\na;b;3\n", r"line 1: one column when split at a comma.*`delimiter` ';'"),
        ("user,item,user\na,b,3\n", r"line 1: the column 'user' comes twice"),
        ("user,item,rating\n", "has a header but no rows"),
        ("", "is empty"),
        ('user,item,rating\n"a,b,3\n', r"line 2: unexpected end of data"),
        ("user,thing,rating\na,b,3\n", r"no column named col or cols or column or item …; say which with `col`"),
    ],
)
def test_bad_triplets_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_triplets(write(tmp_path, "t.csv", text), None, None, None)


def test_pairs_without_a_value_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user,item,rating\na,b,3\na,c,\nd,b,1\nd,c,NA\n")
    triplets = read_triplets(path, None, None, None)
    assert triplets.entries.size == 2
    assert triplets.asked is not None
    assert [ids.tolist() for ids in triplets.asked] == [["a", "d"], ["c", "c"]]


def test_marks_of_ratings_that_are_not_known(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "user,item,rating\na,99,3\na,c,99\nd,99,1\n")
    for mark in ("99", "rating=99"):
        read = read_triplets(path, None, None, None, missing=[mark])
        assert read.entries.size == 2 and read.asked is not None
        assert [ids.tolist() for ids in read.asked] == [["a"], ["c"]]
    np.savez(tmp_path / "t.npz", row=[0, 0, 1], col=[99, 1, 1], value=[3.0, 99.0, 1.0])
    assert read_triplets(tmp_path / "t.npz", None, None, None, missing=["99"]).entries.size == 2


@pytest.mark.parametrize("nothing", [float("nan"), None, pd.NA])
def test_frames_of_ratings_with_holes(nothing: object) -> None:
    frame = pd.DataFrame({"user": ["a", "b", "b"], "item": [1, 1, 2], "rating": [3.0, nothing, 1.0]})
    read = triplets_in(GivenSource(frame), "user", "item", "rating")
    assert read.entries.size == 2 and read.asked is not None and read.asked[0].tolist() == ["b"]
    frame = pd.DataFrame({"user": ["a", nothing, "b"], "item": [1, 1, 2], "rating": [3.0, 2.0, 1.0]})
    with pytest.raises(InputError, match="user has an empty id"):
        triplets_in(GivenSource(frame), "user", "item", "rating")


def test_a_wrong_column_name_offers_close_ones(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "user,item,rating\na,b,3\n")
    with pytest.raises(InputError, match=r"no column 'ratng'. Did you mean rating"):
        read_triplets(path, None, None, "ratng")


def test_files_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"user,item,rating\n\xff\xfe,b,1\n")
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_triplets(path, None, None, None)
    (tmp_path / "t.parquet").write_bytes(b"not parquet")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_triplets(tmp_path / "t.parquet", None, None, None)
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        has_triplets(tmp_path / "t.parquet")
    np.savez(tmp_path / "t.npz", row=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="pickled objects"):
        read_triplets(tmp_path / "t.npz", None, None, None)


def test_pairs(tmp_path: Path) -> None:
    path = write(tmp_path, "p.csv", "item,user\nx,bob\n")
    rows, cols = read_pairs(path, "user", "item")
    assert (rows.tolist(), cols.tolist()) == (["bob"], ["x"])


def test_pictures(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    mask = np.zeros((6, 8), np.uint8)
    mask[2, 3] = 255
    (tmp_path / "p.png").write_bytes(to_png(pixels))
    Image.fromarray(mask).save(tmp_path / "m.png")
    picture = read_picture(tmp_path / "p.png", tmp_path / "m.png")
    assert picture.entries.shape == (6, 24)
    assert picture.entries.size == 6 * 24 - 3
    completed = np.full((6, 24), 300.0)
    completed[2, 3] = 9.6
    filled = picture.filled(completed)
    assert filled[2, 3].tolist() == [10, 255, 255]
    np.testing.assert_array_equal(np.delete(filled.reshape(-1, 3), 19, 0), np.delete(pixels.reshape(-1, 3), 19, 0))
    transparent = np.dstack([pixels, 255 - mask])
    Image.fromarray(transparent).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png", None).missing, mask > 0)


def test_bad_pictures(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(to_png(np.zeros((4, 4, 3), np.uint8)))
    (tmp_path / "m.png").write_bytes(to_png(np.zeros((4, 5, 1), np.uint8)))
    (tmp_path / "x.png").write_bytes(b"x")
    with pytest.raises(InputError, match="No pixel of"):
        read_picture(tmp_path / "p.png", None)
    with pytest.raises(InputError, match="5 x 4, the picture 4 x 4"):
        read_picture(tmp_path / "p.png", tmp_path / "m.png")
    with pytest.raises(InputError, match="cannot be read as a picture"):
        read_picture(tmp_path / "x.png", None)
    with pytest.raises(UsageError, match="Did you mean flower"):
        sample_picture("flowr", 0.5, 0)


@pytest.mark.parametrize(
    ("ratings", "written"),
    [
        (["3/5", "1 / 5", "5/5"], "3.52/5"),
        (["3,0/5", "1,0/5", "4,5/5"], "3,52/5"),
        (["3 stars", "1 star", "5 stars"], "3.52 stars"),
        (["★★★", "★", "★★★★★"], "★★★★"),
        (["★★★☆☆", "★☆☆☆☆", "★★★★½"], "★★★½☆"),
    ],
)
def test_ratings_as_people_write_them(tmp_path: Path, ratings: list[str], written: str) -> None:
    lines = "".join(f"u{row}\tf\t{rating}\n" for row, rating in enumerate(ratings))
    path = write(tmp_path, "t.tsv", f"user\titem\trating\n{lines}")
    for read in (read_triplets(path, None, None, None), triplets_in(read_file(path), None, None, None)):
        assert read.entries.values.tolist() in ([3, 1, 5], [3, 1, 4.5])
        assert read.write is not None
        assert read.write(3.518) == written


def test_the_line_of_a_rating_of_another_form_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "user,item,rating\na,b,3/5\na,c,4/5\nd,c,good\n")
    with pytest.raises(InputError, match=r"line 4: 'good' in column 'rating'.*3/5, 4 stars"):
        triplets_in(read_file(path), None, None, None)


def test_users_items_ratings_and_times_without_a_header(tmp_path: Path) -> None:
    lines = [f"{user}\t{item}\t{1 + user * item % 5}" for user in range(1, 9) for item in range(20, 26)]
    timed = [f"{line}\t{880000000 + 7 * row}" for row, line in enumerate(lines)]
    for name, rows in (("u.txt", lines), ("v.txt", timed)):
        source = read_file(write(tmp_path, name, "\n".join(rows)))
        assert is_ratings(source)
        assert triplets_in(source, None, None, None).entries.shape == (8, 6)
    others = {
        "a pair twice": [*timed, timed[0]],
        "no times": [f"{line}\t{row}" for row, line in enumerate(lines)],
        "a hole": [*timed[:-1], timed[-1].rsplit("\t", 2)[0] + "\t\t880000000"],
        "many levels": [f"{row}\t{row % 7}\t{row * 3}" for row in range(40)],
    }
    for rows in others.values():
        assert not is_ratings(read_file(write(tmp_path, "w.txt", "\n".join(rows))))


def test_arrays_of_training_and_test(tmp_path: Path) -> None:
    train = {"rows": np.array([3, 3, 1]), "columns": np.array([0, 2, 2]), "values": np.array([1.0, 2.0, 3.0])}
    test = {"rows": np.array([1]), "columns": np.array([0]), "values": np.array([4.0])}
    parts = {f"{half}_{name}": array for half, own in (("train", train), ("test", test)) for name, array in own.items()}
    np.savez(tmp_path / "t.npz", **parts)
    read = read_triplets(tmp_path / "t.npz", None, None, None)
    assert read.entries.size == 3
    assert read.asked is not None
    assert [ids.tolist() for ids in read.asked] == [["1"], ["0"]]
    assert read.truth is not None
    assert read.truth.tolist() == [4.0]


def test_arrays_of_a_test_that_measure_nothing_are_said(tmp_path: Path) -> None:
    known = {"train_rows": np.arange(4), "train_columns": np.array([0, 1, 0, 1]), "train_values": np.arange(4.0)}
    test = {"test_rows": np.array([0, 1]), "test_columns": np.array([0, 0]), "test_values": np.array([0.0, 3.0])}
    np.savez(tmp_path / "a.npz", **known, **test)
    read = read_triplets(tmp_path / "a.npz", None, None, None)
    assert read.truth is not None and read.truth.tolist() == [3.0]
    assert read.notes == ("1 of 2 test entries are among the known ones, and measure nothing",)
    del test["test_values"]
    np.savez(tmp_path / "b.npz", **known, **test)
    read = read_triplets(tmp_path / "b.npz", None, None, None)
    assert read.truth is None and read.asked is not None and read.asked[0].tolist() == ["0", "1"]
    np.savez(tmp_path / "c.npz", **known | {"train_rows": np.arange(3)})
    with pytest.raises(InputError, match="'rows' 3, 'columns' 4, 'values' 4: these must be as many"):
        read_triplets(tmp_path / "c.npz", None, None, None)


def test_a_sparse_matrix_holds_ratings_and_a_lone_array_a_matrix(tmp_path: Path) -> None:
    matrix = np.array([[0.0, 3.0], [5.0, 0.0]])
    scipy.sparse.save_npz(tmp_path / "s.npz", scipy.sparse.csr_matrix(matrix))
    assert read_matrix(tmp_path / "s.npz") is None
    assert read_triplets(tmp_path / "s.npz", None, None, None).entries.values.tolist() == [3.0, 5.0]
    np.save(tmp_path / "a.npy", matrix)
    np.savez(tmp_path / "a.npz", matrix)
    for name in ("a.npy", "a.npz"):
        np.testing.assert_array_equal(read_matrix(tmp_path / name), matrix)
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "c.npy", np.arange(3.0))
    (tmp_path / "d.npy").write_bytes(b"")
    for name in "bcd":
        with pytest.raises(InputError):
            read_matrix(tmp_path / f"{name}.npy")


@pytest.mark.parametrize(("odd", "said"), [("-1", True), ("99", True), ("0", True), ("6", False)])
def test_a_rating_that_may_be_none_is_asked_about(tmp_path: Path, odd: str, said: bool) -> None:
    rows = [f"u{i % 9},m{i // 9},{odd if i % 2 else i % 5 + 1}" for i in range(40)]
    read = read_triplets(write(tmp_path, "a.csv", "\n".join(["User ID,Movie ID,Rating", *rows])), None, None, None)
    assert [note.startswith(f"{odd} in 'Rating' stands in 20 entries") for note in read.notes] == [True] * said
    unknown = read_triplets(tmp_path / "a.csv", None, None, None, missing=[odd])
    assert unknown.asked is not None and len(unknown.asked[0]) == 20 and not unknown.notes


def test_ids_are_the_same_with_blanks_and_as_decimals(tmp_path: Path) -> None:
    read = read_triplets(
        write(tmp_path, "a.csv", "user,item,rating\na,7.0,1\n a,8.0,2\na ,9.0,3\nb,7.0,2\n"), None, None, None
    )
    assert read.row_ids.tolist() == ["a", "b"] and read.column_ids.tolist() == ["7", "8", "9"]
    assert read_pairs(write(tmp_path, "p.csv", "user,item\nb ,8\n"), "user", "item")[0].tolist() == ["b"]


@pytest.mark.parametrize(("form", "written"), [("{}/5", "3.26/5"), ("{} stars", "3.26 stars"), ("*", "★★★☆☆")])
def test_a_wide_table_of_ratings_in_words(tmp_path: Path, form: str, written: str) -> None:
    frame = wide_frame()
    shown = {value: form.format(value) if form != "*" else "★" * value + "☆" * (5 - value) for value in range(1, 6)}
    texts = frame.iloc[:, 1:].map(lambda value: "" if np.isnan(value) else shown[int(value)])
    source = read_file(write(tmp_path, "a.csv", texts.assign(user=frame["user"])[frame.columns].to_csv(index=False)))
    wide = wide_ratings(source, source.table())
    assert wide.is_one and not wide.others and wide.written(0, 3.26) == written
    np.testing.assert_array_equal(wide.numbers, frame.iloc[:, 1:].to_numpy())


def test_names_in_a_message_are_a_few() -> None:
    frame = pd.DataFrame(np.ones((2, 120)), columns=[f"film {place}" for place in range(120)])
    with pytest.raises(InputError, match=r"film 7, … \(120 in all\)\.$"):
        triplets_in(GivenSource(frame), None, None, None)


def wide_frame(**others: Any) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    values = generator.integers(1, 6, (40, 12)).astype(float)
    values[generator.random(values.shape) < 0.7] = np.nan
    values[:, 3] = np.where(np.isnan(values[:, 3]), np.nan, 5)  # all who have seen it agree
    frame = pd.DataFrame(values, columns=[f"film {place}" for place in range(12)])
    frame.insert(0, "user", [f"u{row}" for row in range(40)])
    return frame.assign(**others)


@pytest.mark.parametrize(
    ("frame", "one"),
    [
        (wide_frame(), True),
        (wide_frame().assign(user=range(7, 47)), True),
        (wide_frame().iloc[:, 1:], True),
        (wide_frame().iloc[:, :8], False),
        (wide_frame(**{"film 2": [1.5, *[np.nan] * 39]}), True),
        (wide_frame(**{"film 2": [1.2, *[np.nan] * 39]}), False),
        (wide_frame(**{"film 2": [1, 90, *[np.nan] * 38]}), False),
        (wide_frame().fillna(dict.fromkeys([f"film {place}" for place in range(8)], 3.0)), False),
    ],
)
def test_a_table_of_users_by_items_is_one_of_ratings(frame: pd.DataFrame, one: bool) -> None:
    source = GivenSource(frame)
    wide = wide_ratings(source, source.table())
    assert wide.is_one is one
    assert not (one and wide.others)


def test_what_ratings_would_leave_out_is_known() -> None:
    source = GivenSource(wide_frame(age=list(range(20, 60)), sex=["m", "f"] * 20))
    wide = wide_ratings(source, source.table())
    assert wide.is_one
    assert wide.others == ("age", "sex")

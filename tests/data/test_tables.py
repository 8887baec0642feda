"""Tables of labels in the forms in which they arrive, and labels as people write them."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lowdim.data import Dataset, dataset_from_arrays, load_data
from lowdim.data._labels import encode_labels
from lowdim.errors import InputError

TEXTS = ['say "no"', "a, b", "ä; c", "d\te", "line\nbreak", "x", "y", "z"]
LABELS = ["ja", "nein"] * 4
FRAME = pd.DataFrame({"Text": TEXTS, " Label ": LABELS})


def content(data: Dataset) -> list[tuple[str, str]]:
    split = data["all"]
    return [(split.load(index), data.classes[split.labels[index]]) for index in range(len(split))]


def table(**options: object) -> bytes:
    return FRAME.to_csv(index=False, **options).encode()  # type: ignore[call-overload]


def zipped(data: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("t.csv", data)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", table()),
        ("t.csv", table(quoting=1)),
        ("t.csv", table(sep=";")),
        ("t.csv", table(sep="|").replace(b"\n", b"\r\n").replace(b"line\r\nbreak", b"line\nbreak")),
        ("t.tsv", table(sep="\t")),
        ("t.tsv", table(sep="\t", quoting=1)),
        ("t.csv", table().decode().encode("cp1252")),
        ("t.csv", table().decode().encode("utf-16")),
        ("t.csv.gz", gzip.compress(table(), mtime=0)),
        ("t.tsv.gz", gzip.compress(table(sep="\t"), mtime=0)),
        ("t.zip", zipped(table())),
    ],
)
def test_every_form_gives_the_same_texts_and_labels(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    found = load_data(str(tmp_path / name), whole=True)
    assert found.name == "t"
    assert content(found) == list(zip(TEXTS, LABELS, strict=True))


def test_json_lines_and_typed_files(tmp_path: Path) -> None:
    rows = [{"text": text, "label": number % 2} for number, text in enumerate(TEXTS)]
    lines = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "t.jsonl").write_text(f"{lines}\n\n")
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pd.DataFrame(rows).assign(label=lambda frame: frame.label.astype(float)).to_parquet(tmp_path / "t.parquet")
    pd.DataFrame(rows).to_excel(tmp_path / "t.xlsx", index=False)
    for name in ("t.jsonl", "t.jsonl.gz", "t.parquet", "t.xlsx"):
        found = content(load_data(str(tmp_path / name), whole=True))
        assert found == [(text, str(number % 2)) for number, text in enumerate(TEXTS)], name
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n[1]\n')
    with pytest.raises(InputError, match=r"t\.jsonl, line 2: an object"):
        load_data(str(tmp_path / "t.jsonl"))
    (tmp_path / "t.jsonl").write_text('{"text": "a"')
    with pytest.raises(InputError, match=r"t\.jsonl cannot be read as JSON lines"):
        load_data(str(tmp_path / "t.jsonl"))


@pytest.mark.parametrize("first", ['"no" is a word', '"opened', '"', '#1 "x"'])
def test_quotation_marks_that_make_no_table_are_text(tmp_path: Path, first: str) -> None:
    """Many files separated by tabs know no quoting."""
    texts = [first, "plain words", 'say "yes"', "last"]
    rows = [f"{text}\t{label}" for text, label in zip(texts, "abab", strict=True)]
    (tmp_path / "t.tsv").write_text("\n".join(["text\tlabel", *rows, ""]))
    assert content(load_data(str(tmp_path / "t.tsv"), whole=True)) == list(zip(texts, "abab", strict=True))


def test_splits_in_any_case_and_val_only_where_there_is_no_test(tmp_path: Path) -> None:
    def split(*values: str) -> Dataset:
        rows = "".join(f"{value},{'ab'[number % 2]},text {number}\n" for number, value in enumerate(values))
        (tmp_path / "t.csv").write_text(f"Split,Class,Sentence\n{rows}")
        return load_data(str(tmp_path / "t.csv"))

    data = split("Train", "TRAINING", "Test", "val", "val", "train")
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 3, "test": 1}
    assert "not used: val (2 rows)" in data.notes
    data = split("train", "train", "Dev", "validation", "dev")
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 2, "test": 2}
    assert "not used: validation (1 rows)" in data.notes
    with pytest.raises(InputError, match="'tarin'; expected train and test"):
        split("train", "tarin")


def test_labels_that_are_missing_or_differ_by_little_are_named(tmp_path: Path) -> None:
    labels = ["pos", "pos ", "Pos", "nan", "", "1", "1.0", "neg", "neg", "pos"]
    rows = "".join(f"text {number},{label}\n" for number, label in enumerate(labels))
    (tmp_path / "t.csv").write_text(f"text,label\n{rows}")
    data = load_data(str(tmp_path / "t.csv"))
    assert data.classes == ("1", "1.0", "Pos", "neg", "pos")
    assert sum(map(len, data.splits.values())) == 8
    notes = "\n".join(data.notes)
    assert "blanks around labels are no part of them: 'pos '" in notes
    assert "number alone: '1' and '1.0', 'Pos' and 'pos'" in notes
    assert "left out, without a label: row 5: text 3, row 6: text 4" in notes
    assert load_data(str(tmp_path / "t.csv"), whole=True)["all"].labels.tolist() == [4, 4, 2, -1, -1, 0, 1, 3, 3, 4]


def test_arrays_are_told_the_same() -> None:
    x = np.arange(8.0).reshape(4, 2)
    data = dataset_from_arrays(x, ["cat ", "Cat", "cat", "dog"], x, ["cat", "dog", "dog", "dog"])
    assert data.classes == ("Cat", "cat", "dog")
    assert "'cat '" in data.notes[0]
    assert "'Cat' and 'cat'" in data.notes[1]
    for label in ("", "nan", " "):
        with pytest.raises(InputError, match=r"1 of 8 labels are empty or 'nan' \(the first: number 2\)"):
            dataset_from_arrays(x, ["a", "b", label, "a"], x, ["a"] * 4)
    assert dataset_from_arrays(x, ["nan", "b", "b", "nan"], x, ["b"] * 4, classes=["b", "nan"]).classes == ("b", "nan")


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["1.0", "2", "10.0"], ("1", "2", "10")),
        (["1.0", "2", "x"], ("1.0", "2", "x")),
        (["1.50", "2"], ("1.50", "2")),
        (["-3", "-3.", "4"], ("-3", "4")),
    ],
)
def test_whole_numbers_are_one_class_however_they_are_written(values: list[str], classes: tuple[str, ...]) -> None:
    assert encode_labels(values)[1] == classes


def test_folders_tables_and_arrays_have_one_order_of_classes(tmp_path: Path) -> None:
    names = [str(number) for number in range(12)]
    for name in names:
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.fromarray(np.full((4, 4), int(name), np.uint8)).save(tmp_path / "photos" / name / "0.png")
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"text,{name}\n" for name in reversed(names)))
    folder = load_data(str(tmp_path / "photos"))
    assert folder.classes == load_data(str(tmp_path / "t.csv")).classes == encode_labels(names)[1] == tuple(names)
    assert [np.asarray(folder["train"].load(index)).max() for index in range(12)] == list(range(12))
    (note,) = [note for note in folder.notes if "order of their numbers" in note]
    assert "(0, 1, 2, 3, …), not of their letters (0, 1, 10, 11, …)" in note
    (tmp_path / "photos" / "11").rename(tmp_path / "photos" / "x")
    assert load_data(str(tmp_path / "photos")).classes == tuple(sorted([*names[:11], "x"]))


def test_a_column_of_values_is_no_column_of_labels(tmp_path: Path) -> None:
    rows = "".join(f"text {number},{number * 7},{'ab'[number % 2]},{number % 4}\n" for number in range(40))
    (tmp_path / "t.csv").write_text(f"text,label,topic,stars\n{rows}")
    with pytest.raises(InputError, match=r"'label' has 40 different values in 40 rows.*topic \(2 values\), stars"):
        load_data(str(tmp_path / "t.csv"))
    assert load_data(str(tmp_path / "t.csv"), label_column="stars").classes == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    "wrap", [lambda cell: cell, lambda cell: {"bytes": cell, "path": "a.png"}], ids=["bytes", "datasets"]
)
def test_pictures_inside_a_table_are_refused_in_one_line(tmp_path: Path, wrap) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)).save(buffer, "png")
    pd.DataFrame({"image": [wrap(buffer.getvalue())] * 4, "label": list("abab")}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"row 0: .* is no path\. Pictures inside a table") as refused:
        load_data(str(tmp_path / "t.parquet"))
    assert len(str(refused.value)) < 400


def test_texts_that_a_file_keeps_as_bytes_are_texts(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": [b"one", "zw\u00f6lf".encode()] * 2, "label": [b"cat", b"dog"] * 2})
    frame.to_parquet(tmp_path / "t.parquet")
    data = load_data(str(tmp_path / "t.parquet"), whole=True)
    assert data.classes == ("cat", "dog") and data["all"].load(1) == "zw\u00f6lf"


def test_pictures_outside_the_folder_of_the_table_are_read_where_that_is_allowed(tmp_path: Path) -> None:
    for number in range(4):
        path = tmp_path / "pictures" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(path)
    (tmp_path / "labels").mkdir()
    file, root = tmp_path / "labels" / "t.csv", tmp_path / "pictures"
    for form in ("{}.png", f"{root}/{{}}.png", "../pictures/{}.png"):
        rows = "".join(f"{form.format(number)},{number % 2}\n" for number in range(4))
        file.write_text(f"File,label\n{rows}")
        data = load_data(str(file), path_root=root, whole=True)
        assert [int(np.asarray(data["all"].load(number)).max()) for number in range(4)] == [0, 1, 2, 3]
    with pytest.raises(InputError, match=r"leads out of .* `path_root`"):
        load_data(str(file))
    with pytest.raises(InputError, match="leads out of"):
        load_data(str(file), path_root=tmp_path / "labels")


def test_rows_without_a_text_are_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('text,label\n"",a\nred one,a\n  ,b\nblue two,b\nnan,\nfour,\n')
    labelled, whole = load_data(str(tmp_path / "x.csv"), test_share=0), load_data(str(tmp_path / "x.csv"), whole=True)
    assert [labelled["train"].load(index) for index in range(2)] == ["red one", "blue two"]
    assert [whole["all"].load(index) for index in range(3)] == ["red one", "blue two", "four"]
    for data in (labelled, whole):
        assert "left out, without a text: row 2: , row 4: , row 6: nan" in data.notes
    assert "left out, without a label: row 7: four" in labelled.notes
    (tmp_path / "x.csv").write_text("text,label\n,a\n,b\n")
    with pytest.raises(InputError, match="no row with a text"):
        load_data(str(tmp_path / "x.csv"))


def test_pairs_need_one_text_of_two(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b,label\nq one,,x\n,,y\nq two,r two,y\n")
    data = load_data(str(tmp_path / "x.csv"), text_column="a,b", test_share=0)
    assert [data["train"].load(index) for index in range(2)] == [("q one", ""), ("q two", "r two")]


def test_other_columns_of_texts_are_named(tmp_path: Path) -> None:
    FRAME.assign(title=[f"title number {n}" for n in range(8)], code="k l", n=range(8)).to_csv(
        tmp_path / "x.csv", index=False
    )
    assert "texts: 'Text'; not used: 'title'" in load_data(str(tmp_path / "x.csv")).notes
    assert not any("texts: " in note for note in load_data(str(tmp_path / "x.csv"), text_column="title").notes)


def test_a_name_that_comes_twice_needs_another(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,text,label\na,b,c\nd,e,f\n")
    with pytest.raises(InputError, match=r"'text' comes twice. Give each a name of its own\.$"):
        load_data(str(tmp_path / "x.csv"))


@pytest.mark.parametrize(
    "written, said",
    [
        ("in a\\1 b.png", "with their backslashes as slashes"),
        ("in a/1 b.png ", "without the blanks around them"),
        ("in%20a/1%20b.png", "with their %20 and the like as what they stand for"),
        ("a/1 b.png", ""),
    ],
)
def test_paths_are_found_as_other_programs_write_them(tmp_path: Path, written: str, said: str) -> None:
    for name in ("in a/1 b.png", "a/1 b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    rows = [f'"{written}",{label}\n' for label in "xxyy"]
    (tmp_path / "x.csv").write_text("path,label\n" + "".join(rows))
    data = load_data(str(tmp_path / "x.csv"), test_share=0)
    assert data["train"].load(3).size == (4, 4)
    assert [note for note in data.notes if note.startswith("paths are read")] == (
        [f"paths are read {said}"] if said else []
    )

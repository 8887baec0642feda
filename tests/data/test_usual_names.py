"""Data under the names and in the ranges that people save it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lowdim
from lowdim.data import load_data
from lowdim.errors import InputError

generator = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        ("X", "y"),
        ("x", "Y"),
        ("features", "labels"),
        ("data", "target"),
        ("embeddings", "label"),
        ("X_train", "y_train"),
    ],
)
def test_an_archive_under_usual_names_is_read(tmp_path: Path, inputs: str, labels: str) -> None:
    x, y = generator.standard_normal((10, 3)), np.arange(10) % 2
    np.savez(tmp_path / "d.npz", **{labels: y, inputs: x, "extra": np.ones(2)})  # type: ignore[arg-type]
    data = load_data(tmp_path / "d.npz")
    assert data.kind == "features" and len(data["train"]) == 8 and len(data["test"]) == 2
    assert f"read: {inputs}, {labels}; not used: extra" in data.notes


@pytest.mark.parametrize("names", ["{}_{}", "{1}_{0}"])
def test_an_archive_with_parts_under_usual_names_is_read(tmp_path: Path, names: str) -> None:
    images = generator.integers(0, 255, (6, 5, 5), dtype=np.uint8)
    arrays = {"images": images, "labels": np.arange(6) % 2}
    parts = {names.format(kind, part): array for kind, array in arrays.items() for part in ("train", "test", "val")}
    np.savez(tmp_path / "d.npz", **parts)  # type: ignore[arg-type]
    data = load_data(tmp_path / "d.npz")
    assert data.own_split and data.kind == "image" and len(data["test"]) == 6
    assert "not used:" in data.notes[0] and "val" in data.notes[0]


@pytest.mark.parametrize(
    ("pixels", "said"),
    [(np.float32([0, 0.5, 1]), True), (np.float64([0, 128, 255]), False), (np.int64([0, 128, 255]), False)],
)
@pytest.mark.parametrize("shape", [(6, 4, 4), (6, 4, 4, 3)])
def test_pictures_with_other_pixels_than_bytes_are_read(
    tmp_path: Path, pixels: np.ndarray, said: bool, shape: tuple[int, ...]
) -> None:
    array = np.resize(pixels, shape)
    np.savez(tmp_path / "d.npz", x_train=array, y_train=np.arange(6) % 2)
    data = load_data(tmp_path / "d.npz")
    assert data.kind == "image"
    assert sorted(np.unique(np.asarray(data["train"].load(0)))) == [0, 128, 255]
    assert any("from 0 to 1 are read as 0 to 255" in note for note in data.notes) is said


@pytest.mark.parametrize("pixels", [[0.0, 16.0], [-1.0, 1.0], [0.5, 200.0]])
def test_pictures_of_which_the_range_is_unclear_are_refused(tmp_path: Path, pixels: list[float]) -> None:
    np.savez(tmp_path / "d.npz", x_train=np.resize(pixels, (6, 4, 4)), y_train=np.arange(6) % 2)
    with pytest.raises(InputError, match=r"run from .* Scale them to 0\.\.1"):
        load_data(tmp_path / "d.npz")


def test_a_table_of_numbers_with_labels_is_features(tmp_path: Path) -> None:
    rows = generator.standard_normal((20, 3))
    frame = pd.DataFrame(rows, columns=list("abc")).assign(label=["cat", "dog"] * 10)
    frame.to_csv(tmp_path / "f.csv", index=False)
    data = load_data(tmp_path / "f.csv")
    assert data.kind == "features" and data.classes == ("cat", "dog")
    item = data["train"].items[0]
    np.testing.assert_allclose(data["train"].load(0), rows[int(item.removeprefix("row ")) - 2])
    frame.assign(note="seen").to_csv(tmp_path / "g.csv", index=False)
    with pytest.raises(InputError, match="'note' holds text"):
        load_data(tmp_path / "g.csv")


def test_a_table_to_classify_is_read_like_the_one_that_was_learned(tmp_path: Path) -> None:
    rows = generator.standard_normal((40, 3)) + 4 * np.eye(3)[np.arange(40) % 2]
    frame = pd.DataFrame(rows, columns=list("abc")).assign(Topic=["cat", "dog"] * 20)
    frame.to_csv(tmp_path / "f.csv", index=False)
    lowdim.finetune("features", tmp_path / "f.csv", label_column="Topic", out=tmp_path / "run")
    delta = tmp_path / "run" / "delta"
    found = lowdim.predict(delta, tmp_path / "f.csv", split="all")
    assert found["accuracy"] > 0.9, "the column Topic holds the labels again"
    frame.drop(columns="Topic").to_csv(tmp_path / "new.csv", index=False)
    new = lowdim.predict(delta, tmp_path / "new.csv")
    assert [one["class"] for one in new["predictions"]] == [one["class"] for one in found["predictions"]]
    assert lowdim.predict(delta, frame)["predictions"][0]["class"] == found["predictions"][0]["class"]


def test_texts_to_classify_need_no_option(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text('Question\nwhere is it ?\n"who, and why ?"\n')
    usual = {"text_column": "Question", "label_column": "Topic"}
    data = load_data(tmp_path / "new.csv", whole=True, usual=usual)
    assert (
        data.kind == "text" and data["all"].load(1) == "who, and why ?" and data.columns == {"text_column": "Question"}
    )

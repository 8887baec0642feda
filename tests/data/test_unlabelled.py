"""Data to classify: whole where it has no split of its own, and with or without labels."""

from pathlib import Path

import numpy as np
import pytest
from tests.data.test_forms import picture

from lowdim.data import load_data
from lowdim.errors import InputError


def test_data_without_a_split_comes_whole_with_its_labels(tmp_path: Path) -> None:
    for name, count in (("a", 5), ("b", 3)):
        for index in range(count):
            picture(tmp_path / "p" / name / f"{index}.png")
    data = load_data(str(tmp_path / "p"), whole=True)
    assert {name: len(split) for name, split in data.splits.items()} == {"all": 8}
    assert not data.own_split
    assert data["all"].labels.tolist() == [0] * 5 + [1] * 3
    drawn = load_data(str(tmp_path / "p"))
    assert set(drawn.splits) == {"train", "test"} and not drawn.own_split
    np.savez(tmp_path / "f.npz", x_train=np.eye(6), y_train=list("aabbab"))
    assert load_data(str(tmp_path / "f.npz"), whole=True)["all"].labels.tolist() == [0, 0, 1, 1, 0, 1]
    (tmp_path / "t.csv").write_text("text,label\nx,u\ny,v\nz,u\n")
    assert load_data(str(tmp_path / "t.csv"), whole=True)["all"].labels.tolist() == [0, 1, 0]


def test_a_split_of_its_own_stays(tmp_path: Path) -> None:
    for part in ("train", "test"):
        picture(tmp_path / "p" / part / "a" / "0.png")
    (tmp_path / "t.csv").write_text("text,label,split\nx,u,train\ny,v,test\n")
    for spec in (str(tmp_path / "p"), str(tmp_path / "t.csv"), "digits"):
        data = load_data(spec, whole=True)
        assert set(data.splits) == {"train", "test"} and data.own_split


def test_a_class_of_one_sample_each_leaves_no_empty_test_split(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / name / "0.png")
    assert set(load_data(str(tmp_path)).splits) == {"train"}


def test_loose_pictures_have_no_label(tmp_path: Path) -> None:
    for name in ("new/1.png", "new/2.png", "new/2024/may/3.png"):
        picture(tmp_path / name)
    (tmp_path / "new" / "notes.txt").write_text("not a picture")
    (tmp_path / "outside.png").symlink_to(tmp_path / "new" / "1.png")
    picture(tmp_path / "secret.png")
    (tmp_path / "new" / "link.png").symlink_to(tmp_path / "secret.png")
    data = load_data(str(tmp_path / "new"), whole=True)
    assert list(data["all"].items) == ["1.png", "2.png", "2024/may/3.png"]
    assert data["all"].labels.tolist() == [-1, -1, 0] and data.classes == ("2024",)
    assert data["all"].load(2).size == (16, 20)
    assert "1 file that is no picture" in " ".join(data.notes)
    assert "1 link that leaves the folder" in " ".join(data.notes)
    with pytest.raises(InputError, match="holds no picture"):
        load_data(str(tmp_path / "new" / "2024" / "may"))


def test_a_flat_folder_and_one_picture(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.JPG")
    data = load_data(str(tmp_path), whole=True, limit=1)
    assert (len(data["all"]), data.classes) == (1, ())
    data = load_data(str(tmp_path / "b.JPG"), whole=True)
    assert list(data["all"].items) == ["b.JPG"] and data["all"].labels.tolist() == [-1]
    assert data["all"].load(0).size == (16, 20)
    with pytest.raises(InputError, match="no data lowdim reads"):
        load_data(str(tmp_path / "b.JPG"))


def test_a_table_and_arrays_without_labels(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text\nx\ny\n")
    data = load_data(str(tmp_path / "t.csv"), whole=True)
    assert data["all"].labels.tolist() == [-1, -1] and data["all"].load(1) == "y"
    with pytest.raises(InputError, match="no column 'topic'"):
        load_data(str(tmp_path / "t.csv"), whole=True, label_column="topic")
    np.savez(tmp_path / "f.npz", x_train=np.eye(3))
    data = load_data(str(tmp_path / "f.npz"), whole=True)
    assert data["all"].labels.tolist() == [-1] * 3 and data["all"].load(1).tolist() == [0, 1, 0]


def test_nothing_to_classify(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Expected [^ ]*/\*\.jpg, "):
        load_data(str(tmp_path), whole=True)
    (tmp_path / "t.csv").write_text("text\n")
    with pytest.raises(InputError, match="no rows"):
        load_data(str(tmp_path / "t.csv"), whole=True)

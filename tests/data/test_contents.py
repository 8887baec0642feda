"""What is found again is what has the same bytes: names of paths and times of change decide nothing."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lowdim._files import RunFolder
from lowdim._preprocessing import Preprocessing
from lowdim.cli._inputs import data_identity
from lowdim.data import Split, dataset_from_arrays, load_data
from lowdim.data._contents import first_copies
from lowdim.errors import UsageError
from lowdim.features import SplitSource
from lowdim.ranking import candidates_of, rank, read_candidates


def bitmaps(folder: Path, value: int, *, classes: tuple[str, ...] = ("a", "b")) -> Path:
    """Two pictures of each class, whose files have the same sizes whatever they show."""
    for place, name in enumerate(classes):
        for index in range(2):
            path = folder / name / f"{index}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 4, 3), value + 10 * place + index, np.uint8)).save(path)
    return folder


def replaced(path: Path, data: bytes) -> None:
    """The file with other bytes of the same number, and the same times."""
    times = path.stat()
    assert len(data) == times.st_size
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def identity(spec: Path | str) -> object:
    return data_identity(load_data(spec, whole=True))


def test_a_touch_and_the_spelling_of_a_path_change_nothing(tmp_path, monkeypatch):
    first = identity(bitmaps(tmp_path / "photos", 0))
    for path in (tmp_path / "photos").rglob("*.bmp"):
        path.touch()
    monkeypatch.chdir(tmp_path / "photos" / "a")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    shutil.copytree(tmp_path / "photos", tmp_path / "copy")
    for spelling in ("..", "../../photos/", tmp_path / "link", tmp_path / "copy", "../../photos/b/.."):
        assert identity(spelling) == first


def test_a_changed_byte_changes_everything_at_equal_size_and_times(tmp_path):
    folder = bitmaps(tmp_path / "photos", 0)
    data = load_data(str(folder), whole=True)
    config, features = {"data": {"name": "x", "splits": data_identity(data)}}, SplitSource(data["all"], Preprocessing())
    before = features.digest()
    with RunFolder(tmp_path / "run", "measure", config):
        pass
    path = folder / "b" / "1.bmp"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    replaced(path, bytes(content))
    data = load_data(str(folder), whole=True)
    assert SplitSource(data["all"], Preprocessing()).digest() != before
    now = {"data": {"name": "x", "splits": data_identity(data)}}
    with pytest.raises(UsageError, match="the content is another one"), RunFolder(tmp_path / "run", "measure", now):
        pass


def test_names_of_classes_belong_to_a_result(tmp_path):
    x, y = np.eye(4), [0, 1, 0, 1]
    assert data_identity(dataset_from_arrays(x, y, classes=["a", "b"])) != data_identity(
        dataset_from_arrays(x, y, classes=["a", "c"])
    )


def test_a_name_is_no_setting_where_a_digest_stands_beside_it(tmp_path):
    with RunFolder(tmp_path / "run", "measure", {"model": {"name": "a.py:f", "fingerprint": "1"}}):
        pass
    with RunFolder(tmp_path / "run", "measure", {"model": {"name": "./a.py:f", "fingerprint": "1"}}):
        pass
    paths = {
        RunFolder(None, "rank", {"model": {"name": name, "fingerprint": "1"}}).path for name in ("a.py:f", "./a.py:f")
    }
    assert len(paths) == 1
    with (
        pytest.raises(UsageError, match=r"model\.fingerprint"),
        RunFolder(tmp_path / "run", "measure", {"model": {"name": "a.py:f", "fingerprint": "2"}}),
    ):
        pass


def test_candidates_are_known_by_the_files_they_name(tmp_path, monkeypatch):
    def known(spec):
        return {key: value for key, value in candidates_of([spec])[0].identity().items() if key != "name"}

    np.savez(tmp_path / "saved.npz", x_train=np.eye(4), y_train=[0, 1, 0, 1])
    (tmp_path / "nets.py").write_text("def make(): ...")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "config.json").write_text("{}")
    for spec in ("{}saved.npz", "{}nets.py:make", "timm:local-dir:{}hub", "hf:{}hub"):
        monkeypatch.chdir(tmp_path)
        first = known(spec.format(""))
        assert known(spec.format("./")) == first == known(spec.format(f"{tmp_path}/"))
        monkeypatch.chdir(tmp_path / "hub")
        assert known(spec.format("../")) == first
    monkeypatch.chdir(tmp_path)
    before = {spec: known(spec) for spec in ("saved.npz", "nets.py:make", "timm:local-dir:hub")}
    content = bytearray((tmp_path / "saved.npz").read_bytes())
    content[-30] ^= 1
    replaced(tmp_path / "saved.npz", bytes(content))
    replaced(tmp_path / "nets.py", b"def make(): 1.0")
    replaced(tmp_path / "hub" / "config.json", b"[]")
    assert all(known(spec) != identity for spec, identity in before.items())


def test_a_candidate_of_another_name_is_another_setting_but_is_not_scored_again(tmp_path):
    def ranked(name):
        (tmp_path / "zoo.toml").write_text(f'[[models]]\nname = "{name}"\nmodel = "digits"\n')
        candidates = read_candidates(tmp_path / "zoo.toml")
        return candidates[0].identity(), rank(candidates, data, probe=False, folder=tmp_path / "kept").places[0]

    data = load_data("digits", limit=60)
    (first, before), (second, after) = ranked("one"), ranked("other")
    assert first != second
    assert (before.evaluation.name, after.evaluation.name) == ("one", "other")
    assert len(list((tmp_path / "kept").glob("*.safetensors"))) == 1
    assert before.evaluation.seconds == after.evaluation.seconds


def test_contents_are_of_bytes_and_types_not_of_values():
    zeros = np.zeros(4)
    kinds = [np.zeros(4, np.float32), np.zeros(8, np.float32), zeros, -zeros, zeros]
    split = Split(name="all", kind="features", labels=np.zeros(5, int), items=list("abcde"), read=kinds.__getitem__)
    assert first_copies(split.contents).tolist() == [0, 1, 2, 3, 2]
    assert (split.take(np.array([4, 0])).contents == split.contents[[4, 0]]).all()


def test_only_the_samples_that_are_taken_are_read():
    read: list[int] = []

    def reader(index):
        read.append(index)
        return np.full(2, float(index))

    split = Split(name="all", kind="features", labels=np.zeros(9, int), items=list("abcdefghi"), read=reader)
    few = split.take(np.array([7, 2])).take(np.array([1]))
    assert len(few.contents) == 1
    assert read == [2]
    assert (few.contents == split.contents[[2]]).all()
    read.clear()
    assert (split.take(np.array([5, 3])).contents == split.contents[[5, 3]]).all()
    assert read == []

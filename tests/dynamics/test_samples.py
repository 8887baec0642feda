"""Inputs and targets from a file."""

import numpy as np
import pytest

from lowdim.dynamics.samples import read_samples
from lowdim.errors import InputError

X, LABELS = np.arange(20.0).reshape(4, 5), np.array([0, 2, 1, 1, 0])
TARGETS = np.eye(3)[:, LABELS]


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": X, "y": TARGETS},
        {"x": X.T, "y": TARGETS.T},
        {"x": X, "y": TARGETS.T},
        {"x": X, "y": LABELS},
        {"x_train": X.T, "y_train": LABELS, "x_test": X.T, "y_test": LABELS},
        {"x_train": X.T.reshape(5, 2, 2), "y_train": LABELS[:, None]},
        {"X": X.T, "y": LABELS.astype(float)},
        {"X": X.T, "y": np.array(["ape", "bee", "cow"])[LABELS]},
    ],
)
def test_the_usual_forms_are_the_same_samples(tmp_path, arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    read = read_samples(tmp_path / "data.npz", (4, 3))
    np.testing.assert_array_equal(read.problem.inputs, X)
    np.testing.assert_array_equal(read.problem.targets, TARGETS)
    assert read.classes().tolist() == LABELS.tolist()
    assert "5 samples of 4 inputs" in read.read and "3 classes" in read.read


@pytest.mark.parametrize(
    ("names", "side", "rows"),
    [(("x", "y"), None, False), (("x_train", "y_train"), None, True), (("x", "y"), "rows", True)],
)
def test_square_inputs_are_read_as_told_or_assumed_with_the_other_way_beside(tmp_path, names, side, rows):
    x = np.arange(9.0).reshape(3, 3)
    np.savez(tmp_path / "data.npz", **dict(zip(names, (x, [0, 1, 1]), strict=True)))
    read = read_samples(tmp_path / "data.npz", (3, 2), side)
    np.testing.assert_array_equal(read.problem.inputs, x.T if rows else x)
    assert f"(as {read.side})" in read.read and read.side == ("rows" if rows else "columns")
    assert (read.other is None) == (side is not None)
    if read.other:
        np.testing.assert_array_equal(read.other.problem.inputs, read.problem.inputs.T)


def test_the_same_samples_either_way_are_no_question(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.eye(3), y=[0, 1, 1])
    assert read_samples(tmp_path / "data.npz", (3, 2)).other is None


def test_square_inputs_lie_as_their_targets_do(tmp_path):
    x, y = np.arange(9.0).reshape(3, 3), np.arange(6.0).reshape(3, 2)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    read = read_samples(tmp_path / "data.npz", (3, 2))
    np.testing.assert_array_equal(read.problem.inputs, x.T)
    assert "as the targets have them" in read.read and read.other is None


def test_one_output_takes_numbers_as_they_are(tmp_path):
    np.savez(tmp_path / "data.npz", x=X, y=LABELS)
    assert read_samples(tmp_path / "data.npz", (4, 1)).problem.targets.tolist() == [LABELS.tolist()]


def test_targets_that_are_no_classes_are_said_when_classes_are_needed(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.eye(2), y=np.full((2, 2), 0.5))
    with pytest.raises(InputError, match="y must hold classes"):
        read_samples(tmp_path / "data.npz", (2, 2)).classes()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.eye(2)}, "no array 'x' .*; it has y"),
        ({"x": np.eye(2), "y": np.array([b"a", b"b"])}, "y in .* holds .S1, not numbers"),
        ({"x": np.eye(2), "y": np.array([0.5, 1.0])}, "one fraction per sample"),
        ({"x": np.eye(2), "y": np.array([0, 9, 1])}, "there are 2 samples"),
        ({"x": np.ones((2, 3)), "y": np.array([0, 9, 1])}, "3 different class numbers, but the last factor has 2 rows"),
        ({"x": np.ones((3, 4)), "y": np.zeros(4)}, "takes 2 inputs"),
        ({"x": np.array([{}], dtype=object), "y": np.eye(1)}, "plain arrays"),
    ],
)
def test_bad_files_are_named(tmp_path, arrays, message):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read_samples(tmp_path / "data.npz", (2, 2))


def test_what_is_no_file_of_arrays(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_samples(tmp_path / "data.npz", (2, 2))
    (tmp_path / "data.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match=r"cannot be read as an \.npz file"):
        read_samples(tmp_path / "data.npz", (2, 2))

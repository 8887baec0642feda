"""Inputs and targets from a file."""

import numpy as np
import pytest

from lowdim.dynamics.samples import read_samples
from lowdim.errors import InputError


def test_class_numbers_and_one_hot_columns_are_the_same_samples(tmp_path):
    x, labels = np.eye(4), np.array([0, 1, 1, 0])
    np.savez(tmp_path / "numbers.npz", x=x, y=labels)
    np.savez(tmp_path / "columns.npz", x=x, y=np.eye(2)[:, labels])
    first, second = read_samples(tmp_path / "numbers.npz"), read_samples(tmp_path / "columns.npz")
    assert first.classes().tolist() == second.classes().tolist() == labels.tolist()
    np.testing.assert_array_equal(first.problem.targets, second.problem.targets)


def test_targets_that_are_no_classes_are_said_when_classes_are_needed(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.eye(2), y=np.full((2, 2), 0.5))
    with pytest.raises(InputError, match="y must hold classes"):
        read_samples(tmp_path / "data.npz").classes()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.eye(2)}, "no array 'x'; it has y"),
        ({"x": np.eye(2), "y": np.array(["a", "b"])}, "y in .* holds <U1, not numbers"),
        ({"x": np.eye(2), "y": np.array([0, -1])}, "class numbers from 0"),
        ({"x": np.eye(2), "y": np.array([0.0, 1.0])}, "class numbers from 0"),
        ({"x": np.eye(2), "y": np.array([0, 9])}, "class numbers from 0"),
        ({"x": np.array([{}], dtype=object), "y": np.eye(1)}, "plain arrays"),
    ],
)
def test_bad_files_are_named(tmp_path, arrays, message):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read_samples(tmp_path / "data.npz")


def test_what_is_no_file_of_arrays(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_samples(tmp_path / "data.npz")
    (tmp_path / "data.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match=r"cannot be read as an \.npz file"):
        read_samples(tmp_path / "data.npz")

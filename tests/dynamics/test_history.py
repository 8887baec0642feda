import numpy as np
import pytest
from safetensors.numpy import save_file

from lowdim.dynamics import WeightHistory
from lowdim.dynamics._weight_files import weight_files
from lowdim.errors import InputError, NonFiniteError


def write(folder, steps, names=("1", "2"), dtype=np.float64):
    random = np.random.default_rng(0)
    for step in steps:
        weights = {name: random.standard_normal((4, 4)).astype(dtype) * float(step) for name in names}
        save_file(weights, folder / f"{step}.safetensors")


def test_steps_come_in_natural_order_and_layers_by_number(tmp_path):
    write(tmp_path, [10, 2, 1])
    history = WeightHistory.from_folder(tmp_path)
    assert history.names == ["1", "2", "10"]
    assert history.shapes == [(4, 4), (4, 4)]
    assert history.precision == np.finfo(np.float64).eps
    assert np.abs(history.weight(2, 2)).max() > np.abs(history.weight(2, 0)).max()


def test_named_weights_and_single_precision(tmp_path):
    write(tmp_path, [0, 1], names=("fc.weight", "head.weight"), dtype=np.float32)
    with pytest.raises(InputError, match=r"fc\.weight.*weights=name"):
        WeightHistory.from_folder(tmp_path)
    history = WeightHistory.from_folder(tmp_path, ["fc.weight", "head.weight"])
    assert history.weight(1, 0).dtype == np.float64
    assert history.precision == np.finfo(np.float32).eps
    with pytest.raises(InputError, match=r"Did you mean head\.weight"):
        WeightHistory.from_folder(tmp_path, ["fc.weight", "head.wieght"])


def test_an_empty_or_missing_folder(tmp_path):
    with pytest.raises(InputError, match=r"no \*\.safetensors file"):
        WeightHistory.from_folder(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        WeightHistory.from_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="empty"):
        WeightHistory.of([])


def test_shapes_that_change_are_named(tmp_path):
    write(tmp_path, [0])
    save_file({"1": np.ones((4, 4)), "2": np.ones((3, 4))}, tmp_path / "1.safetensors")
    with pytest.raises(InputError, match=r"'2' has shape \(3, 4\).*1\.safetensors.*\(4, 4\)"):
        WeightHistory.from_folder(tmp_path)
    history = WeightHistory.of([[np.eye(4), np.eye(4)], [np.eye(4), np.ones((3, 4))]])
    with pytest.raises(InputError, match="factor 2 at step 1"):
        history.weight(2, 1)
    with pytest.raises(InputError, match="step 1 has 1 factors"):
        WeightHistory.of([[np.eye(4), np.eye(4)], [np.eye(4)]])


def test_factors_that_cannot_follow_each_other():
    with pytest.raises(InputError, match="first layer first"):
        WeightHistory.of([[np.ones((3, 4)), np.ones((4, 4))]])
    with pytest.raises(InputError, match="is a matrix"):
        WeightHistory.of([[np.ones((3, 4, 1))]])


def test_damaged_and_non_finite_files(tmp_path):
    write(tmp_path, [0])
    (tmp_path / "1.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"1\.safetensors cannot be read as safetensors"):
        WeightHistory.from_folder(tmp_path)
    save_file({"1": np.full((4, 4), np.nan), "2": np.eye(4)}, tmp_path / "1.safetensors")
    with pytest.raises(NonFiniteError, match=r"factor 1 at step 1"):
        WeightHistory.from_folder(tmp_path).weight(1, 1)
    save_file({"1": np.eye(4, dtype=np.int64), "2": np.eye(4)}, tmp_path / "0.safetensors")
    with pytest.raises(InputError, match="int64"):
        WeightHistory.from_folder(tmp_path)


def test_first_and_last_are_words(tmp_path):
    """In the alphabet, "final" stands before "init"."""
    rng = np.random.default_rng(0)
    for name in ("final", "init", "step-10", "step-9"):
        np.savez(tmp_path / f"{name}.npz", a=rng.standard_normal((3, 3)), b=rng.standard_normal((3, 3)))
    assert [path.stem for path in weight_files(tmp_path)] == ["init", "step-9", "step-10", "final"]
    (tmp_path / "alpha.npz").touch()
    assert len(weight_files(tmp_path)) == 5  # one alone lies among the others
    (tmp_path / "beta.npz").touch()
    with pytest.raises(InputError, match=r"which of alpha\.npz, beta\.npz comes first"):
        weight_files(tmp_path)


@pytest.mark.parametrize("size", [1e80, 1e155, 1e300])
def test_numbers_whose_squares_are_none_are_refused(size: float) -> None:
    history = WeightHistory.of([[np.eye(3)], [size * np.eye(3)]])
    with pytest.raises(NonFiniteError, match=r"factor 1 at .* holds numbers up to 1e[+]"):
        history.weight(1, 1)

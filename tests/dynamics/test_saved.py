"""A run written to a file and read again."""

import numpy as np
import pytest

from lowdim.dynamics import (
    GradientDescent,
    Problem,
    Trajectory,
    initialize,
    low_rank_target,
    orthogonal_inputs,
    simulate,
)
from lowdim.errors import InputError, UsageError


def run(mode, inputs=None, **options):
    random = np.random.default_rng(0)
    problem = Problem(low_rank_target((8, 12), 1, random) @ (np.eye(12) if inputs is None else inputs), inputs)
    return simulate(problem, initialize([12, 12, 12, 8], random, scale=0.5), GradientDescent(0.02), steps=20, mode=mode, record=5, **options)  # fmt: skip


@pytest.mark.parametrize("mode", ["full", "reduced"])
@pytest.mark.parametrize("whitened", [False, True])
@pytest.mark.parametrize("scale", [1.0, np.array([1.0, 0.5])], ids=["one", "batch"])
def test_a_run_comes_back_bit_for_bit(tmp_path, mode, whitened, scale):
    before = run(mode, orthogonal_inputs(12, 20, np.random.default_rng(1)) if whitened else None, scale=scale)
    before.save(tmp_path / "run.npz")
    after = Trajectory.load(tmp_path / "run.npz")
    assert (after.mode, after.finished, after.times.tolist()) == (before.mode, before.finished, before.times.tolist())
    for layer in (1, 2, 3):
        np.testing.assert_array_equal(after.weight(layer), before.weight(layer))
    np.testing.assert_array_equal(after.loss(), before.loss())
    if mode == "reduced":
        np.testing.assert_array_equal(after.rho(1, block="fading"), before.rho(1, block="fading"))


def test_what_is_no_saved_run_is_named(tmp_path):
    with pytest.raises(UsageError, match="flow"):
        run("flow").save(tmp_path / "flow.npz")
    np.savez(tmp_path / "other.npz", x=np.eye(2))
    with pytest.raises(InputError, match="not a saved run: it has x"):
        Trajectory.load(tmp_path / "other.npz")
    run("reduced").save(tmp_path / "run.npz")
    with np.load(tmp_path / "run.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "part.npz", **{name: array for name, array in arrays.items() if name != "direction_2"})
    with pytest.raises(InputError, match="start of its reduction"):
        Trajectory.load(tmp_path / "part.npz")
    np.savez(tmp_path / "new.npz", **(arrays | {"format": np.array(2)}))
    with pytest.raises(InputError, match="newer version"):
        Trajectory.load(tmp_path / "new.npz")

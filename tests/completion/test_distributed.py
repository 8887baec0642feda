"""Several processes find what one finds."""

import json
from pathlib import Path

import numpy as np
import pytest

import runner
from lowdim.completion.entries import Entries

WORKER = """
import json, sys
import numpy as np
import torch.distributed as processes
from lowdim.completion import Entries
from lowdim.completion.distributed import alternate_over_processes, shard_of_rows

folder, rank, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
processes.init_process_group("gloo", init_method=f"file://{folder}/meet{size}", rank=rank, world_size=size)
data = np.load(folder + "/entries.npz")
entries = Entries.from_triplets(data["rows"], data["cols"], data["values"], (300, 200))
own, rows = shard_of_rows(entries, rank, size)
fit = alternate_over_processes(own, 4, sweeps=40, tolerance=1e-7)
np.savez(f"{folder}/out{size}-{rank}.npz", left=fit.left, right=fit.right, first=rows.start)
print(json.dumps([fit.relative_residual, fit.iterations, fit.converged]))
processes.destroy_process_group()
"""


def launch(folder: Path, size: int) -> tuple[np.ndarray, list]:
    started = [
        runner.Script(WORKER, folder, rank, size, folder=folder, log=f"{rank}-of-{size}") for rank in range(size)
    ]
    done = [process.done(120) for process in started]
    assert [one.returncode for one in done] == [0] * size, [one.stderr for one in done]
    outputs = [one.stdout for one in done]
    parts = [np.load(folder / f"out{size}-{rank}.npz") for rank in range(size)]
    for part in parts:
        np.testing.assert_array_equal(part["right"], parts[0]["right"])
    return np.concatenate([part["left"] @ part["right"].T for part in parts]), [
        json.loads(output) for output in outputs
    ]


def test_the_same_result_as_one_process(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(300, 4)) @ generator.normal(size=(4, 200))
    rows, cols = np.nonzero(generator.random((300, 200)) < 0.2)
    np.savez(tmp_path / "entries.npz", rows=rows, cols=cols, values=matrix[rows, cols])
    one, reports = launch(tmp_path, 1)
    two, _ = launch(tmp_path, 2)
    assert np.abs(two - one).max() < 1e-8 * np.abs(one).max()
    assert reports[0][2]
    assert np.linalg.norm(one - matrix) < 1e-6 * np.linalg.norm(matrix)


def test_shards_hold_every_entry_once() -> None:
    pytest.importorskip("torch")
    from lowdim.completion.distributed import shard_of_rows

    generator = np.random.default_rng(1)
    entries = Entries.from_dense(np.where(generator.random((37, 11)) < 0.3, generator.normal(size=(37, 11)), np.nan))
    shards = [shard_of_rows(entries, rank, 3) for rank in range(3)]
    assert [rows.start for _, rows in shards] + [37] == [0] + [rows.stop for _, rows in shards]
    np.testing.assert_array_equal(np.concatenate([shard.values for shard, _ in shards]), entries.values)
    np.testing.assert_array_equal(np.concatenate([shard.rows + rows.start for shard, rows in shards]), entries.rows)


def test_without_a_group_of_processes() -> None:
    pytest.importorskip("torch")
    from lowdim.completion.distributed import alternate_over_processes
    from lowdim.errors import UsageError

    with pytest.raises(UsageError, match="init_process_group"):
        alternate_over_processes(Entries.from_dense([[1.0, 2.0]]), 1)


@pytest.fixture
def alone(tmp_path: Path):
    """A group of this process alone."""
    pytest.importorskip("torch")
    import torch.distributed as processes

    processes.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield processes
    processes.destroy_process_group()


def holed(seed: int = 2) -> Entries:
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(120, 3)) @ generator.normal(size=(3, 80)) + generator.normal(size=(120, 80))
    return Entries.from_dense(np.where(generator.random(matrix.shape) < 0.5, matrix, np.nan))


def test_a_sweep_moves_the_triangles_of_the_normal_equations(alone, monkeypatch: pytest.MonkeyPatch) -> None:
    from lowdim.completion.distributed import alternate_over_processes

    moved, reduce = [], alone.all_reduce
    monkeypatch.setattr(alone, "all_reduce", lambda tensor: moved.append(tensor.numel()) or reduce(tensor))
    entries = holed()
    fit = alternate_over_processes(entries, 4, sweeps=2)
    assert max(moved) == 80 * 5 * 6 // 2  # n (k + 1) (k + 2) / 2
    assert fit.iterations == 2


def test_one_sweep_without_gain_is_no_convergence(alone, monkeypatch: pytest.MonkeyPatch) -> None:
    from lowdim.completion import distributed

    residuals = iter([1.0, 0.9, 0.9, 0.5, 0.5, 0.5, 0.5, 0.1])
    sizes = iter([1.0])

    def total(array: np.ndarray) -> np.ndarray:
        return array if array.size > 1 else np.array([next(sizes, None) or next(residuals) ** 2])

    monkeypatch.setattr(distributed, "_sum", total)
    fit = distributed.alternate_over_processes(holed(), 2)
    assert (fit.iterations, fit.converged, fit.relative_residual) == (7, True, 0.5)
    monkeypatch.setattr(distributed, "_sum", lambda array: array)
    stopped = distributed.alternate_over_processes(holed(), 2, sweeps=1)
    assert not stopped.converged


def test_zeros_over_processes(alone) -> None:
    from lowdim.completion.distributed import alternate_over_processes

    fit = alternate_over_processes(Entries.from_dense(np.zeros((6, 5))), 2)
    assert (fit.relative_residual, fit.converged) == (0.0, True)

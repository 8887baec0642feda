"""Several processes find what one finds."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lowdim.completion._entries import Entries

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
    command = [sys.executable, "-c", WORKER, str(folder)]
    started = [
        subprocess.Popen([*command, str(rank), str(size)], stdout=subprocess.PIPE, text=True) for rank in range(size)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0] * size
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

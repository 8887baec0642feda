"""Packed symmetric matrices against the full ones."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lowdim.completion.solvers.table import _packed as packed


def symmetric(count: int, k: int) -> np.ndarray:
    roots = np.random.default_rng(count).normal(size=(count, k, k + 2))
    return roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(k)


@pytest.mark.parametrize("k", [1, 2, 5, 21])
@pytest.mark.parametrize("count", [1, packed.LANES, packed.LANES + 3])
def test_inverses_and_solutions(count: int, k: int) -> None:
    matrices, right = symmetric(count, k), np.random.default_rng(k).normal(size=(k, count))
    inverse, solution = packed.pack(matrices), right.copy()
    packed.invert_and_solve(inverse, solution)
    np.testing.assert_allclose(packed.unpack(inverse, k), np.linalg.inv(matrices), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(
        solution, np.linalg.solve(matrices, right.T[:, :, None])[:, :, 0].T, rtol=1e-9, atol=1e-11
    )


def test_packing_is_undone_and_sums_over_the_full_matrix_weigh_each_place() -> None:
    matrices = symmetric(3, 4)
    triangles = packed.pack(matrices)
    np.testing.assert_array_equal(packed.unpack(triangles, 4), matrices)
    np.testing.assert_allclose((triangles * packed.weights(4)).sum(0), matrices.sum((1, 2)))
    np.testing.assert_array_equal(triangles[packed.diagonal(4)].T, np.einsum("iaa->ia", matrices))
    vectors = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(packed.unpack(packed.outer(vectors), 3)[1], np.outer(vectors[:, 1], vectors[:, 1]))


def test_no_matrix_and_no_size() -> None:
    packed.invert_and_solve(np.zeros((0, 4)), np.zeros((0, 4)))
    packed.invert_and_solve(np.zeros((3, 0)), np.zeros((2, 0)))


CACHED = """
import numpy as np
from lowdim.completion.solvers.table import _packed as packed
roots = np.random.default_rng(0).normal(size=(50, 9, 11))
matrices, right = packed.pack(roots @ roots.transpose(0, 2, 1)), np.ones((9, 50))
packed.invert_and_solve(matrices, right)
print(matrices.tobytes().hex(), right.tobytes().hex())
"""


def test_what_compiles_first_gives_the_bits_of_what_comes_from_the_cache(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    compiled, cached = (
        subprocess.run(
            [sys.executable, "-c", CACHED], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    )
    assert list(tmp_path.rglob("*.nbc")) and compiled == cached

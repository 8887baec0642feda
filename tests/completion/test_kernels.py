import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowdim import _compiled
from lowdim.completion.entries import Entries


def problem(seed: int, m: int, n: int, k: int, density: float) -> tuple[Entries, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    matrix = np.where(rng.random((m, n)) < density, rng.standard_normal((m, n)), np.nan)
    matrix[0, 0] = 1.0
    return Entries.from_dense(matrix), rng.standard_normal((m, k)), rng.standard_normal((n, k))


def naive(entries: Entries, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, ...]:
    """Dense definition of the products."""
    mask, values = np.zeros(entries.shape), np.zeros(entries.shape)
    mask[entries.rows, entries.cols] = 1
    values[entries.rows, entries.cols] = entries.values
    predicted = mask * (left @ right.T)
    at = entries.rows, entries.cols
    return predicted[at], values @ right, values.T @ left


def ours(entries: Entries, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, ...]:
    return (
        entries.predict(left, right),
        entries.sparse(entries.values.astype(left.dtype)) @ right,
        entries.sparse(entries.values.astype(left.dtype)).T @ left,
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.floats(0, 1))
def test_products_match_their_dense_definition(seed: int, m: int, n: int, k: int, density: float) -> None:
    instance = problem(seed, m, n, k, density)
    for result, expected in zip(ours(*instance), naive(*instance), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)  # sums of at most 9 numbers of size 1


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = problem(0, 300, 200, 4, 0.3)
    serial = ours(*instance)
    monkeypatch.setattr(_compiled, "PARALLEL_WORK", 0)
    for one, two in zip(serial, ours(*instance), strict=True):
        np.testing.assert_array_equal(one, two)


def test_float32_factors_give_float32_results() -> None:
    entries, left, right = problem(1, 20, 30, 3, 0.5)
    left32, right32 = left.astype(np.float32), right.astype(np.float32)
    for result, expected in zip(ours(entries, left32, right32), naive(entries, left, right), strict=True):
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)  # numbers of size 1 to 10


def test_concurrent_callers_and_forked_children_do_not_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compiled, "PARALLEL_WORK", 0)
    instance = problem(2, 300, 200, 4, 0.3)
    expected = instance[0].predict(*instance[1:])
    wrong: list[int] = []

    def call() -> None:
        for _ in range(30):
            if not np.array_equal(instance[0].predict(*instance[1:]), expected):
                wrong.append(1)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


FORK = """
import os, warnings
warnings.simplefilter("ignore")
import numpy as np
from lowdim import _compiled
from lowdim.completion.entries import Entries
_compiled.PARALLEL_WORK = 0
entries = Entries.from_dense(np.ones((40, 30)))
left, right = np.ones((40, 2)), np.ones((30, 2))
entries.predict(left, right)
child = os.fork()
if child == 0:
    os._exit(0 if (entries.predict(left, right) == 2).all() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_works() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0"]


def test_kernels_compile_where_no_cache_can_be_written() -> None:
    code = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []  # as in a read-only install without a home folder\n"
        "from lowdim.completion.entries import Entries\n"
        "import lowdim.completion.solvers.table._learners\n"
        "print(Entries.from_triplets([1, 0], [0, 0], [1.0, 2.0]).values.tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[2.0, 1.0]"

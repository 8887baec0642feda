"""A fit that is interrupted between sweeps and continued gives the answer of the unbroken one."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lowdim.completion import DeepMatrixCompletion, Entries
from lowdim.completion._estimator import fit_with_journal
from lowdim.completion.solvers._solver import Journal


class Stopped(Exception):
    pass


def low_rank(seed: int, noise: float) -> Entries:
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(40, 2)) @ generator.normal(size=(2, 30)) + noise * generator.normal(size=(40, 30))
    return Entries.from_dense(np.where(generator.random(matrix.shape) < 0.5, matrix, np.nan))


CASES: list[tuple[dict[str, Any], float]] = [
    ({"solver": "als"}, 0.3),
    ({"solver": "als", "rank": 2, "tol": 1e-9}, 0.0),
    ({"solver": "ratings"}, 0.3),
    ({"solver": "ratings-quick"}, 0.3),
    ({"solver": "gd", "rank": 2}, 0.0),
    ({"solver": "exact"}, 0.0),
    ({"solver": "exact", "max_rank": 5}, 0.1),
    ({"solver": "table"}, 0.3),
]


@functools.cache
def unbroken(case: int) -> tuple[DeepMatrixCompletion, int]:
    """A fit, and its sweeps."""
    options, noise = CASES[case]
    sweeps = [0]

    def count(done: int, total: int) -> None:
        assert 0 < done <= total
        sweeps[0] += 1

    fitted = fit_with_journal(DeepMatrixCompletion(**options), low_rank(0, noise), Journal(None, count))
    return fitted, sweeps[0]


@pytest.mark.filterwarnings("ignore:The recovery is not sure")
@pytest.mark.parametrize("share", [0.05, 0.7])
@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda case: f"{CASES[case][0]['solver']}-{case}")
def test_continued_fit_is_the_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: int, share: float
) -> None:
    monkeypatch.setattr(
        "os.fsync", lambda descriptor: None
    )  # thousands of writes, of which none must outlive a power cut
    (options, noise), (whole, sweeps) = CASES[case], unbroken(case)
    entries, calls, stop_at = low_rank(0, noise), [0], max(2, round(share * sweeps))

    def count(done: int, total: int) -> None:
        assert 0 < done <= total
        calls[0] += 1

    def stop(done: int, total: int) -> None:
        calls[0] += 1
        if calls[0] == stop_at:
            raise Stopped

    with pytest.raises(Stopped):
        fit_with_journal(DeepMatrixCompletion(**options), entries, Journal(tmp_path, stop, interval=0.0))
    assert list(tmp_path.iterdir())
    calls[0] = 0
    again = fit_with_journal(DeepMatrixCompletion(**options), entries, Journal(tmp_path, count, interval=0.0))
    assert calls[0] == sweeps - stop_at  # what was done is not done again
    rows, cols = np.divmod(np.arange(1200), 30)
    for one, other in zip(
        whole.predict(rows, cols, return_std=True), again.predict(rows, cols, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert (whole.n_iter_, whole.held_out_error_) == (again.n_iter_, again.held_out_error_)


def test_a_quick_fit_writes_nothing(tmp_path: Path) -> None:
    fit_with_journal(DeepMatrixCompletion(solver="als"), low_rank(1, 0.3), Journal(tmp_path))
    assert not list(tmp_path.iterdir())

"""What a fit needs is said before, and is about what it takes."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lowdim import _memory
from lowdim.completion import DeepMatrixCompletion, Entries
from lowdim.completion._engine import complete
from lowdim.completion.entries import _reading as reading
from lowdim.completion.solvers import solver as solver_named
from lowdim.completion.solvers._solver import Settings
from lowdim.errors import ResourceError
from lowdim.tables import read_file


def entries_of(m: int, n: int, share: float, noise: float = 0.1) -> Entries:
    generator = np.random.default_rng(0)
    rows, cols = np.nonzero(generator.random((m, n)) < share)
    left, right = generator.normal(size=(m, 3)), generator.normal(size=(n, 3))
    values = (left[rows] * right[cols]).sum(1) + noise * generator.normal(size=rows.size)
    return Entries.from_triplets(rows, cols, values, (m, n))


@pytest.mark.parametrize(
    ("solver", "m", "n", "share"),
    [
        ("als", 1500, 1000, 0.1), ("als", 3000, 2000, 0.01), ("ratings-quick", 600, 500, 0.1), ("ratings", 300, 250, 0.1),
        ("table", 4000, 60, 0.5), ("table", 1000, 300, 0.5), ("gd", 1000, 800, 0.3), ("exact", 150, 150, 0.3),
    ],
)  # fmt: skip
def test_the_estimate_is_at_least_the_measured_peak_and_of_its_size(solver, m: int, n: int, share: float) -> None:
    noise = 0.0 if solver in {"gd", "exact"} else 0.1
    entries, settings = entries_of(m, n, share, noise), Settings(max_rank=10, iterations=3)
    complete(entries_of(40, 30, 0.8, noise), settings, solver=solver)  # compiles and imports
    tracemalloc.start()
    try:
        complete(entries, settings, solver=solver)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    estimate = solver_named(solver).memory(entries.size, entries.shape, 10)
    assert peak <= estimate <= 5 * peak


@pytest.mark.parametrize("solver", ["als", "table", "auto"])
def test_a_fit_that_would_not_fit_is_refused_before_it_starts(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "available_bytes", lambda: 1000)
    monkeypatch.setattr(Entries, "select", lambda *_: pytest.fail("was started"))
    with pytest.raises(
        ResourceError, match=r"Completing 60 x 50 .* needs 0\.\d+ GiB of memory, but 0\.0 GiB are available"
    ):
        DeepMatrixCompletion(solver=solver).fit(entries_of(60, 50, 0.5))


@pytest.mark.parametrize("ids", ["{}", "a-name-that-is-long-{}"])
def test_the_estimate_for_a_file_of_triplets_is_at_least_its_peak(ids: str, tmp_path: Path) -> None:
    path, generator = tmp_path / "t.csv", np.random.default_rng(0)
    lines = ["row,col,value", *(f"{ids.format(k // 50)},{k % 50},{generator.normal():.3f}" for k in range(10_000))]
    path.write_text("\n".join(lines))
    entries_of(9, 9, 0.5)  # compiles
    peak = peak_of(lambda: reading.read_triplets(path, None, None, None))
    estimate = _memory.bytes_of_text(len(lines) - 1, lines[0].count(",") + 1, path.stat().st_size / len(lines))
    assert peak <= estimate <= 3 * peak


@pytest.mark.parametrize("columns", [4, 60])
def test_the_estimate_for_a_table_is_at_least_its_peak(columns: int, tmp_path: Path) -> None:
    path, generator = tmp_path / "t.csv", np.random.default_rng(0)
    lines = [",".join(f"c{k}" for k in range(columns))]
    lines += [",".join(f"{value:.4f}" for value in row) for row in generator.normal(size=(40_000 // columns, columns))]
    path.write_text("\n".join(lines))
    peak = peak_of(lambda: reading.read_table(read_file(path)))
    estimate = _memory.bytes_of_table(len(lines) * columns, path.stat().st_size)
    assert peak <= estimate <= 3 * peak


def peak_of(read: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    path.write_text("user,item,rating\n" + "2.5ü,2,3\n" * 100_000 + "the end is never reached", encoding="utf-8")
    monkeypatch.setattr(_memory, "available_bytes", lambda: 2**20)
    with pytest.raises(ResourceError, match=r"Reading .*t\.csv, about [\d,]+ lines, needs 0\.\d GiB") as refused:
        reading.read_triplets(path, None, None, None)
    said = int(str(refused.value).split("about ")[1].split()[0].replace(",", ""))
    assert 100_000 <= said <= 101_002  # the header counts too
    with pytest.raises(ResourceError, match=r"Reading .*t\.csv, 100,002 lines, needs 0\.\d GiB"):
        read_file(path)


def test_indices_with_wide_gaps_are_refused_before_the_sides_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "available_bytes", lambda: 2**20)
    monkeypatch.setattr("lowdim.completion.entries._entries._sorted", lambda *_, **__: pytest.fail("was started"))
    with pytest.raises(ResourceError, match=r"2000000000 x 2 with 2 entries needs 29\.8 GiB .*Number only the rows"):
        Entries.from_triplets([0, 1_999_999_999], [0, 1], [1.0, 2.0])


def test_many_pairs_of_ratings_are_predicted_in_little_memory() -> None:
    model = DeepMatrixCompletion(solver="ratings", rank=2).fit(entries_of(60, 50, 0.5))
    rows, cols = np.random.default_rng(0).integers(0, 50, (2, 100_000))
    model.predict(rows[:9], cols[:9], return_std=True)
    tracemalloc.start()
    try:
        model.predict(rows, cols, return_std=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 * rows.size

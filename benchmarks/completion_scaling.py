"""Alternating least squares against the number of entries: see `completion.py`."""

import resource
import time

import numpy as np

from lowdim.completion import DeepMatrixCompletion, Entries
from lowdim.completion.entries._least_squares import pair_products
from lowdim.completion.solvers._als import TwoOrders, alternate, spectral_start
from lowdim.completion.solvers._solver import Settings
from lowdim.completion.solvers.exact._tangent import add_both_products

NOISE = 0.1  # of the deviation of the values


def scaling(sizes: list[float]) -> None:
    print(
        "alternating least squares, rank 10 given, tolerance 1e-4; seconds (processor seconds) from triplets in memory to factors; peak memory"
    )
    for size in map(int, [1e4, *sizes]):
        for noise in (0.0, NOISE):
            one_size(size, noise)


def one_size(size: int, noise: float) -> None:
    m, n = max(size // 100, 50) * (2 if size <= 1e6 else 1), max(size // 200, 30) * (2 if size <= 1e6 else 1)
    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal((side, 10), np.float32) for side in (m, n))
    rows, cols = generator.integers(0, m, size, np.int32), generator.integers(0, n, size, np.int32)
    places = np.unique(rows.astype(np.int64) * n + cols)
    rows, cols = (part.astype(np.int32) for part in np.divmod(places, n))
    del places
    values = pair_products(left, right, rows, cols, False)
    values += np.float32(noise * np.std(values)) * generator.standard_normal(values.size, np.float32)
    begun = time.perf_counter(), time.process_time()
    entries = Entries.from_triplets(rows, cols, values, (m, n))
    del rows, cols, values  # as one would who has no more use for them
    read = since(begun)
    problem = TwoOrders.of(entries, 0.0)
    fit = alternate(problem, *spectral_start(problem, 10, None, 0), biased=False, strength=0.0, settings=Settings())
    taken = since(begun)
    rows, cols = generator.integers(0, m, 200_000), generator.integers(0, n, 200_000)
    truth = pair_products(left, right, rows, cols, False)
    error = np.linalg.norm(pair_products(fit.left, fit.right, rows, cols, False) - truth) / np.linalg.norm(truth)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    begun = time.perf_counter(), time.process_time()
    DeepMatrixCompletion(solver="als", rank=10, biases=False).fit(entries)
    estimator = since(begun) + read
    print(
        f"{size:.0e} entries of {m} x {n}, noise {noise:.0%}: {taken[0]:.2f} s ({taken[1]:.2f}; reading {read[0]:.2f}), {fit.iterations} sweeps, "
        f"error {error:.1e}, {peak:.2f} GB; the estimator, which checks itself, {estimator[0]:.2f} s ({estimator[1]:.2f}), "
        f"{estimator[1] / taken[1]:.2f} times as many processor seconds",
        flush=True,
    )


def since(begun: tuple[float, float]) -> np.ndarray:
    """Seconds and processor seconds."""
    return np.array([time.perf_counter() - begun[0], time.process_time() - begun[1]])


def products() -> None:
    m, n, size, rounds = 20_000, 5_000, 1_000_000, 7
    generator = np.random.default_rng(0)
    places = np.unique(generator.integers(0, m * n, size))
    entries = Entries.from_triplets(places // n, places % n, generator.standard_normal(places.size), (m, n))
    print(f"{m} x {n}, {places.size} entries, seed 0; milliseconds, best of {rounds} alternating rounds")
    for width in (5, 10, 20):
        left, right = generator.standard_normal((m, width)), generator.standard_normal((n, width))
        best = {"kernel": np.inf, "SciPy": np.inf}
        for _ in range(rounds):
            by_row, by_col = np.zeros_like(left), np.zeros_like(right)
            begun = time.perf_counter()
            add_both_products(entries.row_start, entries.cols, entries.values, left, right, by_row, by_col)
            best["kernel"] = min(best["kernel"], time.perf_counter() - begun)
            begun = time.perf_counter()
            sparse = entries.sparse(entries.values)
            found = sparse @ right, sparse.T @ left
            best["SciPy"] = min(best["SciPy"], time.perf_counter() - begun)
            assert np.allclose(found[0], by_row)
            assert np.allclose(found[1], by_col)
        print(f"{width} factors: " + ", ".join(f"{name} {1000 * taken:.1f}" for name, taken in best.items()))

"""Completing real tables, many entries and ratings: lowdim beside the imputers and recommenders that are installed.

    python benchmarks/completion_tables.py tables            # scikit-learn's tables, missing at random and not
    python benchmarks/completion_tables.py speed             # a 500 x 100 table of rank 5, and noise at 20 and 40 dB
    python benchmarks/completion_tables.py scaling 1e5 1e6   # alternating least squares against the number of entries
    python benchmarks/completion_tables.py ratings           # synthetic ratings with biases
    python benchmarks/completion_tables.py folds FOLDER      # u1.base, u1.test, ...: user, item, rating, time; tabs

Every peer runs on the same instance in the same process. Nothing of ours sees a missing entry: all choices are made on entries
held out from those observed. cmfrec and myFM take part where they are installed.
"""

import argparse
import contextlib
import importlib.util
import io
import resource
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer
from threadpoolctl import threadpool_limits

from lowdim.completion import DeepMatrixCompletion, Entries

TABLES = ("wine", "breast_cancer", "diabetes", "digits")


def timed(function: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = function()
    return result, time.perf_counter() - begun


def instance(name: str, share: float, seed: int, at_random: bool) -> tuple[np.ndarray, np.ndarray]:
    """A table without its constant columns, and what is missing; not at random, values above the median go missing twice as often."""
    data = getattr(datasets, f"load_{name}")().data.astype(float)
    data = data[:, data.std(0) > 0]
    probability = np.full(data.shape, share)
    if not at_random:
        probability = np.where(data > np.median(data, 0), 4 / 3 * share, 2 / 3 * share)
    return data, np.random.default_rng(1000 + seed).random(data.shape) < np.minimum(probability, 0.98)


def peers(holed: np.ndarray) -> dict[str, tuple[np.ndarray, float]]:
    mean, scale = np.nanmean(holed, 0), np.nanstd(holed, 0)
    mean, scale = np.nan_to_num(mean), np.where(scale > 0, scale, 1.0)
    standardised = (holed - mean) / scale
    return {
        "iterative": timed(lambda: IterativeImputer(random_state=0, keep_empty_features=True).fit_transform(holed)),
        "neighbours": timed(lambda: KNNImputer(keep_empty_features=True).fit_transform(standardised) * scale + mean),
    }


def tables(seeds: int) -> None:
    print("RMSE in column deviations, mean over seeds; ratio to the better peer (worst seed); seconds; 90 % coverage")
    for at_random in (True, False):
        for name in TABLES:
            for share in (0.2, 0.5, 0.8):
                results = [one_table(name, share, seed, at_random) for seed in range(seeds)]
                mean, best = np.mean(results, 0), None
                best = min(mean[0], mean[1])
                worst = max(row[2] / min(row[0], row[1]) for row in results)
                kind = "at random" if at_random else "above the median twice as often"
                print(
                    f"{name:14} {share:.0%} {kind:31} iterative {mean[0]:.3f} neighbours {mean[1]:.3f} lowdim {mean[2]:.3f} "
                    f"ratio {mean[2] / best:.3f} ({worst:.3f})  s {mean[3]:.2f} {mean[4]:.2f} {mean[5]:.2f}  covered {mean[6]:.3f}",
                    flush=True,
                )


def one_table(name: str, share: float, seed: int, at_random: bool) -> list[float]:
    data, missing = instance(name, share, seed, at_random)
    holed, deviation = np.where(missing, np.nan, data), data.std(0)
    model = DeepMatrixCompletion(clip="observed", keep_empty_features=True)
    ours, seconds = timed(lambda: model.fit_transform(holed))
    others = peers(holed)
    errors = [
        np.sqrt(np.mean((((filled - data) / deviation)[missing]) ** 2))
        for filled in (others["iterative"][0], others["neighbours"][0], ours)
    ]
    rows, cols = np.nonzero(missing)
    values, deviations = model.predict(rows, cols, return_std=True)
    covered = float(np.mean(np.abs(values - data[rows, cols]) <= 1.6449 * deviations))
    return [*errors, others["iterative"][1], others["neighbours"][1], seconds, covered]


def low_rank(m: int, n: int, rank: int, share: float, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(m, rank)) @ generator.normal(size=(rank, n)) / np.sqrt(rank)
    observed = generator.random((m, n)) < share
    return matrix, np.where(observed, matrix + noise * generator.normal(size=(m, n)), np.nan)


def relative(filled: np.ndarray, matrix: np.ndarray, missing: np.ndarray) -> float:
    return float(np.linalg.norm((filled - matrix)[missing]) / np.linalg.norm(matrix[missing]))


def speed(seeds: int) -> None:
    print("500 x 100, rank 5, 60 % missing: relative error on the missing cells; seconds")
    for noise in (0.0, 0.01, 0.1):
        for seed in range(seeds):
            matrix, holed = low_rank(500, 100, 5, 0.4, noise, seed)
            missing = np.isnan(holed)
            model = DeepMatrixCompletion()
            ours, seconds = timed(lambda model=model, holed=holed: model.fit_transform(holed))
            line = f"noise {noise:.0%} seed {seed}  lowdim ({model.solver_}) {relative(ours, matrix, missing):.2e} {seconds:.3f} s"
            for name, (filled, taken) in peers(holed).items():
                line += f"  {name} {relative(filled, matrix, missing):.2e} {taken:.2f} s ({taken / seconds:.0f} x)"
            print(line, flush=True)


def scaling(sizes: list[float]) -> None:
    print(
        "alternating least squares, rank 10 given, tolerance 1e-4; seconds from triplets in memory to factors; peak memory"
    )
    from lowdim.completion._als import TwoOrders, alternate, spectral_start
    from lowdim.completion._completion import Settings
    from lowdim.completion._least_squares import pair_products

    for size in map(int, [1e4, *sizes]):
        m, n = max(size // 100, 50) * (2 if size <= 1e6 else 1), max(size // 200, 30) * (2 if size <= 1e6 else 1)
        generator = np.random.default_rng(0)
        left, right = (generator.standard_normal((side, 10), np.float32) for side in (m, n))
        rows, cols = generator.integers(0, m, size, np.int32), generator.integers(0, n, size, np.int32)
        values = pair_products(left, right, rows, cols, False)
        begun = time.perf_counter()
        entries = Entries.from_triplets(rows, cols, values, (m, n))
        del rows, cols, values  # as one would who has no more use for them
        read = time.perf_counter() - begun
        problem = TwoOrders.of(entries, 0.0)
        fit = alternate(problem, *spectral_start(problem, 10, None, 0), biased=False, strength=0.0, settings=Settings())
        taken = time.perf_counter() - begun
        rows, cols = generator.integers(0, m, 200_000), generator.integers(0, n, 200_000)
        truth = pair_products(left, right, rows, cols, False)
        error = np.linalg.norm(pair_products(fit.left, fit.right, rows, cols, False) - truth) / np.linalg.norm(truth)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{size:.0e} entries of {m} x {n}: {taken:.2f} s (reading {read:.2f}), {fit.iterations} sweeps, error {error:.1e}, {peak:.2f} GB",
            flush=True,
        )


def synthetic_ratings(m: int, n: int, size: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ratings of rank 8 with biases; some people and items take part more than others."""
    generator = np.random.default_rng(seed)
    weights = (generator.dirichlet(np.full(side, 4.0)) for side in (m, n))
    rows, cols = (generator.choice(side, 2 * size, p=weight) for side, weight in zip((m, n), weights, strict=True))
    pairs = generator.permutation(np.unique(rows * n + cols))[:size]
    rows, cols = pairs // n, pairs % n
    left, right = 0.35 * generator.normal(size=(m, 8)), 0.6 * generator.normal(size=(n, 8))
    values = (
        3.5
        + 0.4 * generator.normal(size=m)[rows]
        + 0.5 * generator.normal(size=n)[cols]
        + (left[rows] * right[cols]).sum(1)
    )
    return rows, cols, values + noise * generator.normal(size=pairs.size)


def recommend(train: tuple[np.ndarray, ...], test: tuple[np.ndarray, ...], shape: tuple[int, int]) -> None:
    """Test error and seconds of every method; ours with the coverage of its 90 % intervals."""
    rows, cols, values = test
    low, high = float(train[2].min()), float(train[2].max())
    for solver in ("ratings-quick", "ratings"):
        model = DeepMatrixCompletion(solver=solver, clip=(low, high))
        _, seconds = timed(lambda model=model: model.fit(Entries.from_triplets(*train, shape)))
        predicted, deviation = model.predict(rows, cols, return_std=True)
        covered = np.mean(np.abs(predicted - values) <= 1.6449 * deviation)
        error = np.sqrt(np.mean((predicted - values) ** 2))
        print(
            f"  lowdim {solver:14} {error:.4f} {seconds:.2f} s, 90 % intervals cover {covered:.1%}; biases only {model.biases_error_:.4f}",
            flush=True,
        )
    if importlib.util.find_spec("cmfrec"):
        error, seconds = timed(lambda: np.asarray(_cmfrec(train, rows, cols)))
        print(
            f"  cmfrec (implicit features) {np.sqrt(np.mean((np.clip(error, low, high) - values) ** 2)):.4f} {seconds:.2f} s",
            flush=True,
        )
    if importlib.util.find_spec("myfm"):
        for implicit in (False, True):
            predicted, seconds = timed(lambda implicit=implicit: _myfm(train, rows, cols, shape, implicit))
            error = np.sqrt(np.mean((np.clip(predicted, low, high) - values) ** 2))
            print(f"  myFM{' (implicit features)' if implicit else ''} {error:.4f} {seconds:.2f} s", flush=True)


def _cmfrec(train: tuple[np.ndarray, ...], rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    import pandas as pd
    from cmfrec import CMF

    frame = pd.DataFrame({"UserId": train[0], "ItemId": train[1], "Rating": train[2]})
    model = CMF(k=40, lambda_=10, add_implicit_features=True, w_implicit=0.5, verbose=False, nthreads=2)
    return model.fit(frame).predict(user=rows, item=cols)


def _myfm(
    train: tuple[np.ndarray, ...], rows: np.ndarray, cols: np.ndarray, shape: tuple[int, int], implicit: bool
) -> np.ndarray:
    import myfm
    import scipy.sparse

    m, n = shape
    blocks, groups = [scipy.sparse.eye(m).tocsr(), scipy.sparse.eye(n).tocsr()], [m, n]
    if implicit:
        rated = scipy.sparse.csr_matrix((np.ones(train[0].size), (train[0], train[1])), shape)
        by_row = scipy.sparse.diags(1 / np.sqrt(np.maximum(rated.sum(1).A1, 1))) @ rated
        by_col = scipy.sparse.diags(1 / np.sqrt(np.maximum(rated.sum(0).A1, 1))) @ rated.T
        blocks, groups = (
            [scipy.sparse.hstack([blocks[0], by_row]).tocsr(), scipy.sparse.hstack([blocks[1], by_col]).tocsr()],
            [m, n, n, m],
        )
    relations = lambda r, c: [myfm.RelationBlock(index, block) for index, block in zip((r, c), blocks, strict=True)]  # noqa: E731
    model = myfm.MyFMRegressor(rank=10, random_seed=0)
    with contextlib.redirect_stderr(io.StringIO()):
        model.fit(
            None, train[2], X_rel=relations(train[0], train[1]), n_iter=250, n_kept_samples=230, group_shapes=groups
        )
        return model.predict(None, relations(rows, cols))


def ratings(seeds: int) -> None:
    for m, n, size in ((943, 1682, 100_000), (2000, 1000, 1_000_000)):
        for seed in range(seeds):
            rows, cols, values = synthetic_ratings(m, n, size, 0.9, seed)
            test = np.random.default_rng(seed).random(rows.size) < 0.2
            print(f"{rows.size} ratings of {m} x {n}, rank 8, noise 0.9, seed {seed}: test RMSE")
            recommend((rows[~test], cols[~test], values[~test]), (rows[test], cols[test], values[test]), (m, n))


def folds(folder: Path) -> None:
    """Folds u1 to u5 (or as many as there are) in MovieLens form; indices count from 1."""
    for base in sorted(folder.glob("u[0-9].base")):
        train, test = (np.loadtxt(path, delimiter="\t").T for path in (base, base.with_suffix(".test")))
        shape = int(max(train[0].max(), test[0].max())), int(max(train[1].max(), test[1].max()))
        parts = [((part[0] - 1).astype(int), (part[1] - 1).astype(int), part[2]) for part in (train, test)]
        print(f"{base.stem}: {train.shape[1]} ratings for training, {test.shape[1]} for the test")
        recommend(parts[0], parts[1], shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tables", "speed", "scaling", "ratings", "folds"])
    parser.add_argument("rest", nargs="*", help="sizes for scaling, the folder for folds")
    parser.add_argument("--seeds", type=int, default=None)
    given = parser.parse_args()
    for noise in (0.0, 0.3):  # compiles and imports, outside the timings
        DeepMatrixCompletion().fit(low_rank(100, 40, 2, 0.5, noise, 0)[1])
    with threadpool_limits(1):  # the imputers are many times slower with more threads in the linear algebra
        run(given)


def run(given: argparse.Namespace) -> None:
    if given.what == "tables":
        tables(given.seeds or 5)
    elif given.what == "speed":
        speed(given.seeds or 2)
    elif given.what == "scaling":
        scaling([float(size) for size in given.rest or ["1e5", "1e6"]])
    elif given.what == "ratings":
        ratings(given.seeds or 1)
    else:
        folds(Path(given.rest[0]))


if __name__ == "__main__":
    main()

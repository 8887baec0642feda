"""Completing tables beside the imputers that people use: see `completion.py`.

Every peer runs on the same instance in the same process, with one thread. Nothing of ours sees a missing entry. The error is the root mean
square over the removed cells, each column divided by its deviation over the complete table.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

from lowdim.completion import DeepMatrixCompletion

OURS_FROM = ("wine", "breast_cancer", "diabetes", "iris")
FOLDER = Path(os.environ.get("LOWDIM_DATA", "../shared/data")) / "tables"
ROWS = 900
PATTERNS = ((0.1, "at random"), (0.3, "at random"), (0.6, "at random"), (0.3, "not at random"), (0.3, "in blocks"))
KEPT = 3  # known cells of each column
Array = np.ndarray
Imputer = Callable[[Array], Array]


def timed(function: Callable[[], Array]) -> tuple[Array, float]:
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = function()
    return result, time.perf_counter() - begun


def complete_tables() -> Iterator[tuple[str, Array]]:
    """scikit-learn's tables, and the numbers of those in a folder of CSV files where it is there."""
    for name in OURS_FROM:
        yield name, getattr(datasets, f"load_{name}")().data.astype(float)
    for file in sorted(FOLDER.glob("*.csv")):
        frame = pd.read_csv(file).select_dtypes("number").dropna()
        yield f"{file.stem} (file)", frame.loc[:, frame.nunique() > 1].to_numpy(float)


def instance(data: Array, share: float, pattern: str, seed: int) -> tuple[Array, Array]:
    """At most `ROWS` rows of a table, and the mask of what is removed from them."""
    generator = np.random.default_rng(7_000 + seed)
    data = data[generator.permutation(len(data))[:ROWS]] if len(data) > ROWS else data
    data = data[:, data.std(0) > 0]
    rows, columns = data.shape
    if pattern == "in blocks":
        missing = np.zeros(data.shape, bool)
        while missing.mean() < share:
            height, width = (
                generator.integers(2, max(3, rows // 8 + 1)),
                generator.integers(1, max(2, columns // 4 + 1)),
            )
            top, left = generator.integers(rows), generator.integers(columns)
            missing[top : top + height, left : left + width] = True
    else:
        ranks = data.argsort(0).argsort(0) / (rows - 1)
        uneven = np.where(ranks > 0.5, 1.5 * share, 0.5 * share)
        missing = generator.random(data.shape) < (uneven if pattern == "not at random" else share)
    for column in missing.T:
        gone = generator.permutation(np.flatnonzero(column))
        column[gone[: max(0, KEPT - int((~column).sum()))]] = False
    return data, missing


def soft_impute(holed: Array) -> Array:
    """Mazumder, Hastie and Tibshirani (2010), the strength chosen on a tenth of the known cells."""
    mean, scale = np.nanmean(holed, 0), np.nanstd(holed, 0)
    scale[scale == 0] = 1.0
    values, known = np.nan_to_num((holed - mean) / scale), ~np.isnan(holed)
    test = known & (np.random.default_rng(0).random(holed.shape) < 0.1)

    def fit(observed: Array, strength: float, start: Array) -> Array:
        filled = start
        for _ in range(200):
            left, sizes, right = np.linalg.svd(np.where(observed, values, filled), full_matrices=False)
            new = (left * np.maximum(sizes - strength, 0)) @ right
            if np.linalg.norm(new - filled) < 1e-4 * max(np.linalg.norm(filled), 1e-12):
                return new
            filled = new
        return filled

    largest = np.linalg.norm(np.where(known & ~test, values, 0), 2)
    best, least, filled = largest, np.inf, np.zeros_like(values)
    for strength in largest * np.geomspace(0.9, 0.01, 15):
        filled = fit(known & ~test, strength, filled)
        error = float(np.mean((filled - values)[test] ** 2))
        if error < least:
            best, least = strength, error
    return np.where(known, holed, fit(known, best, np.zeros_like(values)) * scale + mean)


def neighbours(holed: Array) -> Array:
    mean, scale = np.nanmean(holed, 0), np.nanstd(holed, 0)
    scale[scale == 0] = 1.0
    return KNNImputer(keep_empty_features=True).fit_transform((holed - mean) / scale) * scale + mean


def miss_forest(holed: Array) -> Array:
    trees = ExtraTreesRegressor(30, min_samples_leaf=2, max_features=0.5, random_state=0)
    return IterativeImputer(trees, max_iter=4, random_state=0, keep_empty_features=True).fit_transform(holed)


PEERS: dict[str, Imputer] = {
    "mean": lambda holed: np.where(np.isnan(holed), np.nanmean(holed, 0), holed),
    "neighbours": neighbours,
    "iterative": lambda holed: IterativeImputer(random_state=0, keep_empty_features=True).fit_transform(holed),
    "soft-impute": soft_impute,
    "missForest": miss_forest,
}


def error(filled: Array, data: Array, missing: Array) -> float:
    return float(np.sqrt(np.mean((((filled - data) / data.std(0))[missing]) ** 2)))


def tables(seeds: int) -> None:
    from threadpoolctl import threadpool_limits

    print(
        f"error of lowdim over that of missForest, and over the best of all peers; {seeds} seeds, at most {ROWS} rows, one thread"
    )
    every: dict[str, list[tuple[float, float, float, float]]] = {}
    with threadpool_limits(1):
        for name, data in complete_tables():
            for share, pattern in PATTERNS:
                rows = [one_table(data, share, pattern, seed) for seed in range(seeds)]
                errors = np.exp(np.mean(np.log([row[0] for row in rows]), axis=0))
                seconds, covered = np.mean([row[1] for row in rows], axis=0), float(np.mean([row[2] for row in rows]))
                names = [*PEERS, "lowdim"]
                against, best = errors[-1] / errors[-2], errors[-1] / errors[:-1].min()
                speed = seconds[-1] / seconds[-2]
                every.setdefault(f"{share:.0%} {pattern}", []).append((against, best, speed, covered))
                shown = "  ".join(f"{peer} {value:.3f}" for peer, value in zip(names, errors, strict=True))
                print(
                    f"{name:22} {share:.0%} {pattern:13} {shown}  / missForest {against:.3f}  / best {best:.3f}  "
                    f"time / missForest {speed:.2f}  covered {covered:.3f}",
                    flush=True,
                )
    for setting, rows in every.items():
        against, best, speed, covered = np.array(rows).T
        print(
            f"{setting:22} geometric mean / missForest {np.exp(np.log(against).mean()):.3f} (worst {against.max():.3f})  / best "
            f"{np.exp(np.log(best).mean()):.3f}  time {np.exp(np.log(speed).mean()):.2f}  covered {covered.mean():.3f}"
        )


def one_table(data: Array, share: float, pattern: str, seed: int) -> tuple[list[float], list[float], float]:
    """Errors and seconds of the peers and of lowdim (last), and the share of the removed cells in our 90 % intervals."""
    data, missing = instance(data, share, pattern, seed)
    holed = np.where(missing, np.nan, data)
    results = [timed(lambda impute=impute: impute(holed)) for impute in PEERS.values()]
    model = DeepMatrixCompletion(keep_empty_features=True)
    results.append(timed(lambda: model.fit_transform(holed)))
    rows, columns = np.nonzero(missing)
    values, deviations = model.predict(rows, columns, return_std=True)
    covered = float(np.mean(np.abs(values - data[missing]) <= 1.6449 * deviations))
    return [error(filled, data, missing) for filled, _ in results], [seconds for _, seconds in results], covered


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
            for name in ("iterative", "neighbours"):
                filled, taken = timed(lambda name=name, holed=holed: PEERS[name](holed))
                line += f"  {name} {relative(filled, matrix, missing):.2e} {taken:.2f} s ({taken / seconds:.0f} x)"
            print(line, flush=True)

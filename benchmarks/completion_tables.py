"""Completing tables beside scikit-learn's imputers: see `completion.py`.

Every peer runs on the same instance in the same process. Nothing of ours sees a missing entry: all choices are made on entries held
out from those observed.
"""

import time
import warnings
from collections.abc import Callable

import numpy as np
from sklearn import datasets
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

from lowdim.completion import DeepMatrixCompletion

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
                    f"ratio {mean[2] / best:.3f} ({worst:.3f})  s {mean[3]:.3f} {mean[4]:.3f} {mean[5]:.3f}  covered {mean[6]:.3f}",
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

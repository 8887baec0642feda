"""Do intervals from several completed tables cover what they should? See `completion.py`.

A regression of the last column on the others is estimated from completed tables of 30 % missing cells; the cells of every second column go
missing the more often, the higher an always known column is. One run is one data set; coverage is that of 95 % intervals, over runs and
coefficients.
"""

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer

from lowdim.completion import DeepMatrixCompletion, pool

Array = np.ndarray
ROWS, COLUMNS, TABLES, SHARE = 200, 6, 10, 0.3


def regression(generator: np.random.Generator) -> tuple[Array, Array]:
    """Rows of correlated columns, the last a linear function of the others with noise; and the coefficients."""
    mixing = generator.normal(size=(2, COLUMNS - 1))
    inputs = generator.normal(size=(ROWS, 2)) @ mixing + 0.7 * generator.normal(size=(ROWS, COLUMNS - 1))
    coefficients = generator.normal(size=COLUMNS - 1)
    output = inputs @ coefficients + np.std(inputs @ coefficients) * generator.normal(size=ROWS)
    return np.column_stack([inputs, output]), coefficients


def holes(data: Array, generator: np.random.Generator) -> Array:
    """Cells missing at random given the first column, which is always known."""
    rank = data[:, 0].argsort().argsort() / (len(data) - 1)
    share = np.full(data.shape, SHARE)
    share[:, 1::2] = 2 * SHARE * rank[:, None]
    share[:, 0] = 0
    return generator.random(data.shape) < share


def least_squares(table: Array) -> tuple[Array, Array]:
    """Coefficients of the last column on the others, and their squared standard errors."""
    inputs = np.column_stack([table[:, :-1], np.ones(len(table))])
    inverse = np.linalg.inv(inputs.T @ inputs)
    found = inverse @ inputs.T @ table[:, -1]
    noise = np.sum((table[:, -1] - inputs @ found) ** 2) / (len(table) - inputs.shape[1])
    return found[:-1], (noise * np.diag(inverse))[:-1]


def ours(holed: Array, seed: int) -> list[Array]:
    return DeepMatrixCompletion(solver="table", random_state=seed).fit(holed).sample(holed, TABLES)


def single(holed: Array, seed: int) -> list[Array]:
    return 2 * [DeepMatrixCompletion(solver="table", random_state=seed).fit_transform(holed)]


def iterative(holed: Array, seed: int) -> list[Array]:
    return [
        IterativeImputer(sample_posterior=True, random_state=TABLES * seed + k, max_iter=10).fit_transform(holed)
        for k in range(TABLES)
    ]


METHODS: dict[str, Callable[[Array, int], list[Array]]] = {
    "lowdim, sample": ours,
    "lowdim, one table": single,
    "IterativeImputer(sample_posterior)": iterative,
}


def imputations(runs: int) -> None:
    covered: dict[str, list[Array]] = {}
    widths: dict[str, list[Array]] = {}
    for seed in range(runs):
        generator = np.random.default_rng([5, seed])
        data, coefficients = regression(generator)
        holed = np.where(holes(data, generator), np.nan, data)
        tables = {"no holes": 2 * [data]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tables |= {name: impute(holed, seed) for name, impute in METHODS.items()}
        for name, completed in tables.items():
            answers = [least_squares(table) for table in completed]
            pooled = pool(*(np.stack(part) for part in zip(*answers, strict=True)), degrees=ROWS - COLUMNS)
            covered.setdefault(name, []).append((pooled.low <= coefficients) & (coefficients <= pooled.high))
            widths.setdefault(name, []).append(pooled.high - pooled.low)
    print(
        f"{runs} data sets of {ROWS} x {COLUMNS}, {SHARE:.0%} missing, {TABLES} completed tables: coverage of 95 % intervals"
    )
    for name, parts in covered.items():
        by_run = np.stack(parts)
        error = by_run.mean(1).std() / np.sqrt(runs)
        print(f"{name:36} {by_run.mean():.3f} +- {error:.3f}  mean width {np.mean(widths[name]):.3f}")

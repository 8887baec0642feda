"""Completing ratings beside cmfrec and myFM, where they are installed: see `completion.py`.

Settings are chosen inside the training part; the test part is seen only to be scored.
"""

import contextlib
import importlib.util
import io
from pathlib import Path

import numpy as np
from completion_tables import timed

from lowdim.completion import DeepMatrixCompletion, Entries


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

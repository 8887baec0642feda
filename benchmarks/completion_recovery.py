"""Exact recovery, noise and the lecture's headline problem, beside peers on the same instances: see `completion.py`.

Instances: random singular vectors, r = 5, singular values from 1 to 1/condition in equal ratios, a uniform mask in which
every row and column has at least r + 1 entries. Success: relative error below 1e-3 over all entries. Times are processor
seconds with BLAS on one thread, compilation excluded. Peers are told the rank; "rank unknown" means a bound of 10.
"""

import time
from collections.abc import Callable

import completion_peers as peers
import numpy as np

from lowdim.completion.entries import Entries
from lowdim.completion.solvers.exact._recover import recover
from lowdim.completion.solvers.gd._gradient_descent import gradient_descent

RANK, BOUND = 5, 10
Method = Callable[[Entries], tuple[np.ndarray, np.ndarray]]


def planted(size: int, condition: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Factors with entries of the product near 1."""
    left, right = (np.linalg.qr(random.standard_normal((size, RANK)))[0] for _ in range(2))
    return left * np.logspace(0, -np.log10(condition), RANK) * size, right


def masked(left: np.ndarray, right: np.ndarray, oversampling: float, random: np.random.Generator) -> Entries:
    """A uniform mask, repaired until every row and column has r + 1 entries, of exactly the wanted size."""
    size = len(left)
    count = round(oversampling * RANK * (2 * size - RANK))
    mask = np.zeros((size, size), bool)
    mask.flat[random.choice(size * size, count, replace=False)] = True
    for axis in (0, 1, 0, 1):
        view = mask if axis == 0 else mask.T
        for i in np.flatnonzero(view.sum(1) <= RANK):
            view[i, random.choice(np.flatnonzero(~view[i]), RANK + 1 - view[i].sum(), replace=False)] = True
    for place in random.permutation(np.flatnonzero(mask)):
        if mask.sum() == count:
            break
        i, j = divmod(int(place), size)
        mask[i, j] = mask[i].sum() == RANK + 1 or mask[:, j].sum() == RANK + 1
    return Entries.from_dense(np.where(mask, left @ right.T, np.nan))


def ours(**options) -> Method:
    def method(entries: Entries) -> tuple[np.ndarray, np.ndarray]:
        found = recover(entries, **options)
        return found.U * found.singular_values, found.V

    return method


METHODS: dict[str, Method] = {
    "lowdim, rank unknown": ours(rank_bound=BOUND),
    "lowdim, rank given": ours(rank=RANK),
    "MatrixIRLS": lambda entries: peers.matrix_irls(entries, RANK),
    "R2RILS": lambda entries: peers.r2rils(entries, RANK),
    "ScaledGD": lambda entries: peers.scaled_gradient_descent(entries, RANK),
    "ALS": lambda entries: peers.alternating_least_squares(entries, RANK),
    "softImpute": lambda entries: list(peers.soft_impute(entries, RANK, np.logspace(0, -6, 50)))[-1],
}


def relative_error(found: tuple[np.ndarray, np.ndarray], left: np.ndarray, right: np.ndarray) -> float:
    truth = left @ right.T
    return float(np.linalg.norm(found[0] @ found[1].T - truth) / np.linalg.norm(truth))


def recovery(size: int, oversampling: list[float], condition: float, seeds: int, chosen: list[str]) -> None:
    print(f"d = {size}, r = {RANK}, condition {condition:g}, {seeds} seeds; success share, median seconds")
    print(f"{'method':24}" + "".join(f"{rho:>16g}" for rho in oversampling))
    warm = np.random.default_rng(0)
    ours(rank_bound=3)(Entries.from_dense(np.outer(warm.random(12), warm.random(12)) + np.diag([np.nan] * 12)))
    for name in chosen:
        cells = []
        for rho in oversampling:
            errors, seconds = [], []
            for seed in range(seeds):
                random = np.random.default_rng([seed, size, round(100 * rho)])
                left, right = planted(size, condition, random)
                entries = masked(left, right, rho, random)
                start = time.process_time()
                found = METHODS[name](entries)
                seconds.append(time.process_time() - start)
                errors.append(relative_error(found, left, right))
            share = np.mean(np.array(errors) < 1e-3)
            cells.append(f"{share:7.0%} {np.median(seconds):7.2f}s")
        print(f"{name:24}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def certainty(size: int, seeds: int) -> None:
    """How many answers are right, how many are called sure, and how many of those are wrong; rank unknown, condition 1, 10, 100 in turn."""
    print(f"d = {size}, r = {RANK} of at most {BOUND}, {seeds} seeds each; wrong: an error of 1e-3 or more")
    print("oversampling  right  sure  sure and wrong  largest error of a sure answer")
    for rho in (1.05, 1.1, 1.2, 1.3, 1.5):
        errors, sure = np.empty(seeds), np.empty(seeds, bool)
        for seed in range(seeds):
            random = np.random.default_rng([seed, size, round(100 * rho), 1])
            left, right = planted(size, (1.0, 10.0, 100.0)[seed % 3], random)
            found = recover(masked(left, right, rho, random), rank_bound=BOUND)
            sure[seed] = found.sure
            errors[seed] = relative_error((found.U * found.singular_values, found.V), left, right)
        wrong = errors >= 1e-3
        largest = errors[sure].max(initial=0.0)
        print(f"{rho:12g}  {sum(~wrong):5d}  {sum(sure):4d}  {sum(sure & wrong):14d}  {largest:.1e}", flush=True)


def noise(size: int, seeds: int) -> None:
    """Errors of the estimator and of softImpute (rank given) over that of least squares in the true tangent space."""
    from lowdim.completion import DeepMatrixCompletion  # the whole estimator, settings chosen by itself

    print(f"d = {size}, r = {RANK}, oversampling 5, {seeds} seeds; error / oracle error, and the oracle's error")
    for decibel in (20, 40):
        ratios, others, oracles = [], [], []
        for seed in range(seeds):
            random = np.random.default_rng([seed, decibel])
            left, right = planted(size, 2.0, random)
            entries = masked(left, right, 5.0, random)
            level = np.sqrt(np.mean(entries.values**2)) * 10 ** (-decibel / 20)
            noisy = entries.with_values(entries.values + level * random.standard_normal(entries.size))
            subspaces = np.linalg.qr(left)[0], np.linalg.qr(right)[0]
            oracles.append(relative_error(peers.tangent_oracle(noisy, *subspaces), left, right))
            matrix = np.full(entries.shape, np.nan)
            matrix[entries.rows, entries.cols] = noisy.values
            model = DeepMatrixCompletion(random_state=0).fit(matrix)
            rows, cols = np.divmod(np.arange(size * size), size)
            truth = (left @ right.T).ravel()
            error = np.linalg.norm(model.predict(rows, cols) - truth) / np.linalg.norm(truth)
            ratios.append(error / oracles[-1])
            others.append(relative_error(peers.soft_impute_held_out(noisy, RANK), left, right) / oracles[-1])
        found = f"{np.round(ratios, 3)}, softImpute {np.round(others, 3)}"
        print(f"{decibel} dB: lowdim {found} (oracle {np.mean(oracles):.2e})", flush=True)


def headline(size: int, fixed: bool) -> None:
    """The lecture's completion problem: r = 5, p = .2, depth 3, eps = 1e-3, to a relative loss of 1e-10."""
    random = np.random.default_rng(0)
    U, s, Vt = np.linalg.svd(random.standard_normal((size, size)))
    target = (U[:, :RANK] * s[:RANK]) @ Vt[:RANK]
    rows, cols = np.divmod(np.sort(random.choice(size * size, size * size // 5, replace=False)), size)
    entries = Entries.from_triplets(rows, cols, target[rows, cols], (size, size))
    gradient_descent(entries, rank=RANK, max_iterations=2)
    modes = {
        "adaptive, gamma .01": (True, 0.01),
        "adaptive, default gamma": (True, None),
        "fixed, gamma .01": (False, 0.01),
    }
    for name, (adaptive, gamma) in modes.items():
        if not adaptive and not fixed:
            continue
        start, processor = time.perf_counter(), time.process_time()
        found = gradient_descent(
            entries, rank=RANK, step=5e-3, gamma=gamma, adaptive=adaptive, tolerance=1e-5, max_iterations=30_000, record=1000
        )  # fmt: skip
        seconds = f"{time.perf_counter() - start:.2f} s ({time.process_time() - processor:.2f} s of processors)"
        error = np.linalg.norm(found.U * found.singular_values @ found.V.T - target) / np.linalg.norm(target)
        print(f"{name:24} {found.iterations:6d} iterations, {seconds}, relative error {error:.1e}", flush=True)

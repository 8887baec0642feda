"""What the exact reduction saves: ratios measured in one run.

    python benchmarks/dynamics.py [--quick] [--cpu]

1. One iteration of the full network against one of the reduced network, and the set-up of the reduction.
2. 256 runs as one batch against one run, and against a loop.
3. Gradient flow against gradient descent to the same fit, L = 8, eps = 0.1 (K = 5, n = 10, step s = 1).

The full network is trained both with lowdim (mode="full") and with the plainest NumPy loop, so that no slowness of lowdim's
own full mode flatters the ratio. BLAS uses as many threads as OPENBLAS_NUM_THREADS says.
"""

import argparse
import os
import platform
import time

import numpy as np

from lowdim.dynamics import (
    GradientDescent,
    Problem,
    balanced_labels,
    initialize,
    low_rank_target,
    one_hot,
    orthogonal_inputs,
    reduce,
    separation_over_time,
    simulate,
)

DEPTH, RANK, RULE = 3, 10, GradientDescent(1e-3)
clock = [time.perf_counter]


def seconds(action, repeats: int = 3) -> float:
    """The best of several, of a machine that others use too."""
    times = []
    for _ in range(repeats):
        begun = clock[0]()
        action()
        times.append(clock[0]() - begun)
    return min(times)


def per_iteration(problem, weights, few: int, many: int, **options) -> float:
    """Difference of a long and a short run: without set-up."""
    short = seconds(lambda: simulate(problem, weights, RULE, steps=few, record=10**9, **options))
    long = seconds(lambda: simulate(problem, weights, RULE, steps=many, record=10**9, **options))
    return (long - short) / (many - few)


def plain_iteration(weights, phi) -> None:
    first, second, third = weights
    inner = second @ first
    error = third @ inner - phi
    back = third.T @ error
    slopes = second.T @ back, back @ first.T, error @ inner.T
    for weight, slope in zip(weights, slopes, strict=True):
        weight -= 1e-3 * slope


def reduction(d: int) -> None:
    random = np.random.default_rng(0)
    target = low_rank_target((d, d), RANK, random)
    weights = initialize([d] * (DEPTH + 1), random)
    problem = Problem(target)
    full = per_iteration(problem, weights, 1, 4 if d >= 1000 else 20, mode="full")
    copies = [weight.copy() for weight in weights]
    plain = seconds(lambda: plain_iteration(copies, target), 5)
    reduced = per_iteration(problem, weights, 100, 5100)
    start = seconds(lambda: reduce(Problem(target), weights))
    print(
        f"{d:<6} {1e3 * full:9.2f}  {1e3 * plain:10.2f}  {1e6 * reduced:12.1f}  {full / reduced:12.0f}  "
        f"{plain / reduced:13.0f}  {start / full:11.2f}"
    )


def batch(d: int = 300, runs: int = 256) -> None:
    random = np.random.default_rng(0)
    problem, weights = Problem(low_rank_target((d, d), RANK, random)), initialize([d] * (DEPTH + 1), random)
    scales = np.linspace(0.1, 1.0, runs)
    single = per_iteration(problem, weights, 100, 3100)
    together = per_iteration(problem, weights, 10, 310, scale=scales)
    print(f"{runs} runs in one batch: {1e6 * together:.0f} us per iteration = {together / single:.1f} x one run")
    print(f"a loop over them would take {runs * single / together:.1f} x as long as the batch")


def flow(depth: int = 8, eps: float = 0.1, sample: int = 20_000) -> None:
    labels = balanced_labels(5, 10)
    random = np.random.default_rng(0)
    problem = Problem(one_hot(labels, 5), orthogonal_inputs(50, 50, random))
    weights = initialize([50] * depth + [5], random, scale=eps)
    rule = GradientDescent(1 / 250)

    def remaining(run, time) -> float:
        loss = float(run.loss(time))
        if loss > 250e-6:
            return 1.0
        return float(np.log(2 * loss / (1e-2 * 50 * separation_over_time(run, labels, time)[-1])))

    begun = clock[0]()
    run = simulate(problem, weights, rule, steps=10**12, mode="flow", until=remaining)
    taken = clock[0]() - begun
    each = seconds(lambda: simulate(problem, weights, rule, steps=sample, record=10**9)) / sample
    iterations = run.times[-1]
    print(f"flow, L = {depth}, eps = {eps}: {taken:.1f} s to the fit at iteration {iterations:.4g}")
    print(
        f"gradient descent (reduced, {1e6 * each:.0f} us per iteration, timed on {sample}): {iterations * each:.0f} s, "
        f"{iterations * each / taken:.0f} x as long"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes, seconds")
    parser.add_argument("--cpu", action="store_true", help="processor time instead of wall time, for a busy machine")
    arguments = parser.parse_args()
    quick = arguments.quick
    if arguments.cpu:
        clock[0] = time.process_time
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "all")
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, BLAS threads: {threads}, {clock[0].__name__}, seed 0, L = {DEPTH}, r = {RANK}"
    )
    print("d      full (ms)  plain (ms)  reduced (us)  full/reduced  plain/reduced  set-up/full")
    for d in [100, 300] if quick else [100, 300, 1000]:
        reduction(d)
    batch(100 if quick else 300)
    flow(eps=0.3 if quick else 0.1)


if __name__ == "__main__":
    main()

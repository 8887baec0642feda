"""One step of fixed-step gradient descent for completion against the same step written plainly in JAX and compiled.

    pip install --group jax . && OMP_NUM_THREADS=1 python benchmarks/completion_steps.py [--headline]

Both in float64 on one thread, alternately in one run; CPU time, medians of five. 20 % of the entries of a matrix of rank 5; the compressed
network (three factors of width 10 between two outer ones) and the full one (three factors of width d). A run of n steps of ours takes the
loss n + 1 times, the plain one n times; n is 1,000 / 100 / 20 (compressed) and 300 / 50 / 10 (full). The headline problem: d = 1,000,
rank 5, 20 % observed, gamma .01, to a relative residual of 1e-10, with the lecture's step 5e-3 and with the default one.
"""

import argparse
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
import numpy as np

from lowdim.completion import Entries
from lowdim.completion.solvers.gd._descent import descend
from lowdim.completion.solvers.gd._gradient_descent import compressed_network, orthogonal_network

jax.config.update("jax_enable_x64", True)
RATE = 1e-3


def plain(observed, phi, rates):
    """Steps of descent on the summed loss, by automatic differentiation."""

    def loss(factors):
        product = factors[0]
        for factor in factors[1:]:
            product = factor @ product
        return 0.5 * jnp.sum(observed * (product - phi) ** 2)

    def step(_, factors):
        slopes = jax.grad(loss)(factors)
        return [factor - RATE * rate * slope for factor, rate, slope in zip(factors, rates, slopes, strict=True)]

    return jax.jit(lambda factors, count: jax.lax.fori_loop(0, count, step, factors))


def cpu(action) -> float:
    begun = time.process_time()
    action()
    return time.process_time() - begun


def problem(d):
    random = np.random.default_rng(0)
    phi = random.standard_normal((d, 5)) @ random.standard_normal((5, d)) / d
    observed = random.random((d, d)) < 0.2
    return phi, observed, Entries.from_triplets(*np.nonzero(observed), phi[observed], (d, d)), random


def row(d: int, form: str, steps: int) -> None:
    phi, observed, entries, random = problem(d)
    if form == "compressed":
        network = compressed_network(entries, 5, 3, 1e-3, 0.01, random)
    else:
        network = orthogonal_network((d, d), d, 3, 1e-3, random)
    factors = [jnp.asarray(factor) for factor in network.factors]
    compiled = plain(jnp.asarray(observed, dtype=float), jnp.asarray(phi), network.rates)

    def ours():
        return descend(entries, network, RATE, tolerance=0, max_iterations=steps, record=steps)

    def theirs():
        return jax.block_until_ready(compiled(factors, steps))

    pairs = list(zip(ours().network.factors, theirs(), strict=True))
    assert max(np.abs(one - np.asarray(other)).max() for one, other in pairs) < 1e-10
    times = np.array([[cpu(ours), cpu(theirs)] for _ in range(5)]) / steps
    mine, other = 1e3 * np.median(times, axis=0)
    ratio = np.median(times[:, 0] / times[:, 1])
    print(f"d = {d:5,}, {form:10}: {mine:8.3f} ms, JAX {other:8.3f} ms, ratio {ratio:.2f}", flush=True)


def headline() -> None:
    from lowdim.completion.solvers.gd._gradient_descent import gradient_descent
    from lowdim.experiments.deep_completion import Instance

    random = np.random.default_rng(0)
    instance = Instance.draw(1000, 5, 0.2, random)
    options = {
        "rank": 5,
        "gamma": 0.01,
        "adaptive": False,
        "tolerance": 1e-10,
        "max_iterations": 50_000,
        "record": 1000,
    }
    for name, step in (("the lecture's", 5e-3), ("the default", None)):
        found = []
        seconds = cpu(
            lambda step=step, found=found: found.append(gradient_descent(instance.entries, step=step, **options))
        )
        run = found[0]
        print(
            f"headline problem, {name} step {run.step:.4f}: {run.iterations:,} steps, residual {run.relative_residual:.1e}, "
            f"{seconds:.1f} CPU-s"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--headline", action="store_true")
    arguments = parser.parse_args()
    for size, count in ((100, 1000), (300, 100), (1000, 20)):
        row(size, "compressed", count)
    for size, count in ((100, 300), (300, 50), (1000, 10)):
        row(size, "full", count)
    if arguments.headline:
        headline()

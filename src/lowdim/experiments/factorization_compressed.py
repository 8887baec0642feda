"""Deep matrix factorization: the compressed network follows the original one exactly."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lowdim._verdicts import Verdict
from lowdim.completion.entries import Entries
from lowdim.completion.solvers.gd._descent import Network, descend
from lowdim.completion.solvers.gd._gradient_descent import curvature
from lowdim.dynamics import GradientDescent, Problem, Trajectory, initialize, reduce, simulate
from lowdim.dynamics._network import gradients
from lowdim.errors import UsageError
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.figures import Lines, Series, Style, Table

REPEATS, ITERATIONS = 7, 10
"""Of the measurement of time."""
PLATEAU, STABLE, MOST = 0.99, 0.9, 5_000
"""Relative residual at which the plateau is over; the fixed step as a share of the largest stable one; the most such steps."""


@dataclass(frozen=True)
class Settings:
    """Settings of ``factorization-compressed``.

    Attributes:
        d: Side of the square target.
        rank: r of the target, and of the reduction.
        over_rank: A larger rank assumed by a second reduction.
        depth: L.
        scale: epsilon.
        step: On the summed loss, at the start.
        tolerance: Relative error at which the run ends.
        records: How many times the two are compared.
        seed: Of target and start.
    """

    d: int = 200
    rank: int = 10
    over_rank: int = 15
    depth: int = 3
    scale: float = 1e-3
    step: float = 1e-3
    tolerance: float = 1e-6
    records: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.rank <= self.over_rank < self.d / 2:
            raise UsageError(
                f"over_rank must be at least rank = {self.rank} and below d / 2 = {self.d / 2:g}, not {self.over_rank}."
            )


def leading_target(d: int, rank: int, random: np.random.Generator) -> NDArray[np.float64]:
    """The best rank-r approximation of a (d, d) Gaussian matrix: r singular values near ``2 sqrt(d)``."""
    left, values, right = np.linalg.svd(random.standard_normal((d, d)))
    return (left[:, :rank] * values[:rank]) @ right[:rank]


def run(settings: Settings, progress: Progress) -> Outcome:
    """Runs the reduced network, then the original one with the same steps."""
    random = np.random.default_rng(settings.seed)
    target = leading_target(settings.d, settings.rank, random)
    problem = Problem(target)
    weights = initialize([settings.d] * (settings.depth + 1), random, scale=settings.scale)
    steps = _chosen_steps(problem, weights, settings)
    rule = GradientDescent(step=lambda iteration: steps[iteration])
    record = max(1, len(steps) // settings.records)
    runs: dict[str, Trajectory] = {}
    ranks = {"original": None, "compressed": settings.rank, "compressed, rank too large": settings.over_rank}
    for done, (name, rank) in enumerate(ranks.items()):
        progress(done, len(ranks))
        mode = "full" if rank is None else "reduced"
        runs[name] = simulate(problem, weights, rule, steps=len(steps), mode=mode, rank=rank, record=record)
    with threadpool_limits(1, "blas"):
        seconds = _seconds(runs)
    progress(len(ranks), len(ranks))
    gaps = {name: _gap(runs["original"], runs[name], target) for name in list(runs)[1:]}
    final = runs["compressed"].end_to_end(float(runs["compressed"].times[-1]))
    error = float(np.linalg.norm(final - target) / np.linalg.norm(target))
    return Outcome(
        verdicts=(
            Verdict.of(
                "largest gap between compressed and original end-to-end matrix", gaps["compressed"], "<=", 1e-10
            ),
            Verdict.of(
                f"the same with rank {settings.over_rank} assumed", gaps["compressed, rank too large"], "<=", 1e-10
            ),
            Verdict.of("relative error at the end", error, "<=", 10 * settings.tolerance),
        ),
        figures=(_losses(runs),),
        tables=(_costs(settings, seconds),),
        notes=(
            f"{len(steps)} steps found on the compressed network: adaptive ones through the plateau, then fixed ones at {STABLE:g} of the "
            f"stability limit, at most {MOST:,}. The original one takes the same steps. Gaps are Frobenius norms relative to the target's.",
        ),
    )


def _seconds(runs: dict[str, Trajectory]) -> dict[str, float]:
    """Median processor time of one iteration of each network on one thread, over repeats that alternate between them."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPEATS):
        for name, run in runs.items():
            target = run.problem.phi if run.reduction is None else run.reduction.target
            factors = run.states.at(0.0)
            start = time.process_time()
            for _ in range(ITERATIONS):
                gradients(factors, target)
            times[name].append((time.process_time() - start) / ITERATIONS)
    return {name: float(np.median(found)) for name, found in times.items()}


def _chosen_steps(problem: Problem, weights: list[NDArray[np.float64]], settings: Settings) -> NDArray[np.float64]:
    """Steps from a run of the inner 2r x 2r network: adaptive ones through the plateau, then fixed ones below the stability limit.

    Adaptive steps would go on to oscillate about that limit, and above it any two runs drift apart by their rounding errors.
    """
    reduction = reduce(problem, weights, settings.rank)
    inner = Network(tuple(core[:-1, :-1] for core in reduction.cores), (1.0,) * settings.depth)
    entries = Entries.from_dense(reduction.target[:-1, :-1])
    start = descend(entries, inner, settings.step, adaptive=True, tolerance=PLATEAU)
    fixed = STABLE * 2 / curvature(float(np.linalg.norm(reduction.target, 2)), settings.depth)
    end = descend(entries, start.network, fixed, tolerance=settings.tolerance, max_iterations=MOST)
    steps = np.concatenate([np.diff(start.flow_times), np.diff(end.flow_times)])
    return steps[steps > 0]


def _gap(original: Trajectory, compressed: Trajectory, target: NDArray[np.float64]) -> float:
    differences = [
        np.linalg.norm(original.end_to_end(float(t)) - compressed.end_to_end(float(t))) for t in original.times
    ]
    return float(max(differences) / np.linalg.norm(target))


def _losses(runs: dict[str, Trajectory]) -> Lines:
    styles: dict[str, Style] = {"original": "line", "compressed": "points", "compressed, rank too large": "dashed"}
    series = [Series(name, run.times, run.loss() / run.loss()[0], style=styles[name]) for name, run in runs.items()]
    title = "Loss of the original and the compressed factorization"
    return Lines("loss", title, "iteration", "loss / initial loss", series, log_y=True)


def _costs(settings: Settings, seconds: dict[str, float]) -> Table:
    d, width = settings.d, 2 * settings.rank
    parameters = {
        "original": settings.depth * d * d,
        "compressed": settings.depth * width**2 + 2 * d * width,
    }
    rows = [(name, parameters[name], 1e3 * seconds[name]) for name in parameters]
    caption = (
        "The compressed network holds L (2r)^2 moving numbers and 2 d 2r fixed ones. Times are processor time of the gradients "
        f"on one thread, medians of {REPEATS} alternating repeats of {ITERATIONS} iterations."
    )
    return Table("seconds", "Cost", ("network", "parameters", "milliseconds per iteration"), rows, caption)


EXPERIMENTS = (
    Experiment(
        id="factorization-compressed",
        section=4,
        title="Deep matrix factorization, original and compressed",
        lecture="Section 4, deep matrix factorization: trajectories and cost of the compressed network",
        why="A deep linear network is trained on a fully observed low-rank matrix, once at full width and once as its "
        "exact reduction. Both should follow the same path, at a small part of the cost.",
        source="Yaras et al. 2023, arXiv:2306.01154",
        settings=Settings,
        run=run,
        full={"d": 1000},
    ),
)

"""Beyond the edge of stability: how many directions oscillate, between which values, and what becomes balanced."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lowdim._verdicts import Verdict
from lowdim.dynamics import (
    GradientDescent,
    Problem,
    aligned_descent,
    balancing_factor,
    initialize,
    period_two_orbit,
    simulate,
    stability_limit,
)
from lowdim.dynamics._aligned import period_doubling
from lowdim.errors import UsageError
from lowdim.experiments._after import BEYOND, stack_aligned
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.figures import Lines, Panels, Series, Table

OSCILLATES = 1e-6
"""Change of a singular value from one iteration to the next above which it counts as oscillating, relative to it."""

NEAR = 0.01
"""Relative distance of the steps from the limits that they are to tell apart."""

ROTATED = 200
"""Iterations for which the full matrices are compared with the scalar problems."""


@dataclass(frozen=True)
class Settings:
    """A target with close leading singular values, and a start whose factors are not balanced."""

    depth: int = 3
    singular_values: tuple[float, ...] = (1.0, 0.92, 0.89, 0.6, 0.3)
    scale: float = 0.5
    last_scale: float = 0.3
    iterations: int = 20_000
    perturbation: float = 1e-8
    seed: int = 0

    def __post_init__(self) -> None:
        values = self.singular_values
        if self.depth < 2 or len(values) < 2 or any(a <= b for a, b in zip(values, (*values[1:], 0.0), strict=True)):
            raise UsageError(
                f"depth must be at least 2, singular_values two or more that fall and are > 0; they are {self.depth}, {values}."
            )
        if self.iterations < 3:
            raise UsageError(f"iterations must be at least 3, to see a period of two; not {self.iterations}.")

    @property
    def values(self) -> Float[np.ndarray, " r"]:
        """s, largest first."""
        return np.array(self.singular_values)

    @property
    def limits(self) -> Float[np.ndarray, " r"]:
        """Stability limit of each direction, smallest first."""
        return np.array([stability_limit(np.array([[value]]), self.depth) for value in self.values])

    @property
    def above(self) -> Float[np.ndarray, " k"]:
        """One step just above each limit, as long as the first direction keeps period two."""
        limits = self.limits
        above = np.minimum((1 + NEAR) * limits, np.sqrt(limits * np.append(limits[1:], np.inf)))
        return above[above <= (1 - NEAR) * period_doubling(self.depth) * limits[0]]

    @property
    def steps(self) -> Float[np.ndarray, " B"]:
        """The same, and one just below each of their limits: smallest first."""
        limits = self.limits[: len(self.above)]
        below = np.maximum((1 - NEAR) * limits, np.sqrt(limits * np.append(0.0, limits[:-1])))
        return np.sort(np.concatenate([below, self.above]))

    def start(self) -> Float[np.ndarray, "L r"]:
        """Singular values of the factors at time 0; up to a tenth more or less, so that each direction has gaps of its own."""
        scales = np.full(self.depth, self.scale)
        scales[-1] = self.last_scale
        random = np.random.default_rng(self.seed)
        return scales[:, None] * random.uniform(0.9, 1.1, (self.depth, len(self.values)))


def run(settings: Settings, progress: Progress) -> Outcome:
    """All steps at once as scalar problems, then full matrices: aligned, and slightly off."""
    values, steps, limits = settings.values, settings.steps, settings.limits
    start = np.repeat(settings.start()[:, None], len(steps), axis=1)
    runs = aligned_descent(np.broadcast_to(values, start.shape[1:]), start, steps, settings.iterations)
    progress(1, 3)
    products = runs[-3:].prod(axis=1)
    counts = (np.abs(products[-1] - products[-2]) > OSCILLATES * values).sum(axis=1)
    predicted = (steps[:, None] > limits).sum(axis=1)
    moving = steps[:, None] > limits
    gap = np.abs(runs[:, 0] ** 2 - runs[:, -1] ** 2)
    verdicts = [
        Verdict.of("steps at which another number of directions oscillates", (counts != predicted).sum(), "==", 0),
        Verdict.of("most directions oscillating", counts.max(), ">", 1, judged=len(settings.above) > 1, note="" if len(settings.above) > 1 else "no step passes two limits"),
        Verdict.of("period two: change over two iterations", np.abs(products[-1] - products[-3]).max(), "<=", 1e-10),
        Verdict.of("ends of the orbit, distance from the prediction", _orbit_error(settings, products), "<=", 1e-9),
        Verdict.of("balancing gap follows the product formula, relative error", _gap_error(settings, runs), "<=", 1e-8),
        Verdict.of("gap left where a direction oscillates, largest share", (gap[-1] / gap[0])[moving].max(), "<=", 1e-3),
        Verdict.of("control: gap left where none oscillates, smallest share", (gap[-1] / gap[0])[~moving].min(), ">", 0.1),
    ]  # fmt: skip
    verdicts += _doubled(settings)
    verdicts.append(_rotated(settings))
    progress(2, 3)
    verdicts += _perturbed(settings)
    progress(3, 3)
    rows = [
        [step, step / limits[0], int(count), int(found), float((gap[-1, i] / gap[0, i])[moving[i]].max(initial=0.0))]
        for i, (step, count, found) in enumerate(zip(steps, predicted, counts, strict=True))
    ]
    columns = ["step", "step / first limit", "predicted", "oscillating", "largest gap left in them"]
    table = Table("counts", "Directions that oscillate", columns, rows)
    return Outcome(verdicts, [_figure(settings, products, gap)], [table])


def _doubled(settings: Settings) -> list[Verdict]:
    """The largest direction alone, one per cent below and above the step from which its period doubles."""
    value, depth = settings.values[:1], settings.depth
    limit = settings.limits[0] * period_doubling(depth)
    start = np.full((depth, 2, 1), 0.9 * value[0] ** (1 / depth))
    steps = np.array([1 - NEAR, 1 + NEAR]) * limit
    products = aligned_descent(np.broadcast_to(value, (2, 1)), start, steps, settings.iterations)[-3:].prod(axis=1)
    below, above = np.abs(products[2] - products[0])[:, 0] / value[0]
    name = f"{period_doubling(depth):.4g} times the first limit, 1 %"
    return [
        Verdict.of(f"{name} below: the period is two, change over two iterations", below, "<=", 1e-8),
        Verdict.of(f"{name} above: the period has doubled, the same", above, ">", 0.01),
    ]


def _orbit_error(settings: Settings, products: Float[np.ndarray, "T B r"]) -> float:
    """Largest distance of the two measured end-to-end values from the predicted orbit."""
    worst = 0.0
    for row, step in enumerate(settings.steps):
        for column, (value, limit) in enumerate(zip(settings.values, settings.limits, strict=True)):
            if step > limit:
                measured = np.sort(products[-2:, row, column])
                try:
                    predicted = period_two_orbit(value, step, settings.depth)
                except UsageError:  # there is none: the limits are wrong
                    return np.inf
                worst = max(worst, float(np.abs(measured - predicted).max()))
    return worst


def _gap_error(settings: Settings, runs: Float[np.ndarray, "T L B r"]) -> float:
    """Of the gap of the first and the last factor while it is above rounding."""
    gaps = runs[:, 0] ** 2 - runs[:, -1] ** 2
    factors = balancing_factor(runs[:-1], settings.values, settings.steps, (0, settings.depth - 1))
    predicted = gaps[0] * np.cumprod(factors, axis=0)
    visible = np.abs(predicted) > 1e-3 * np.abs(gaps[0])
    return float(np.abs(gaps[1:][visible] / predicted[visible] - 1).max())


def _full(settings: Settings, step: float, iterations: int, perturbation: float) -> Float[np.ndarray, "T r r"]:
    """End-to-end matrices of a run with full factors in random bases, seen in the singular bases of the target.

    Stops where the part off the diagonal passes a tenth: what follows may diverge.
    """
    random = np.random.default_rng(settings.seed + 1)
    size, depth = len(settings.values), settings.depth
    left, right, *inner = initialize([size] * (depth + 2), random)
    start = stack_aligned(settings.start(), left, right, inner)
    weights = [factor + perturbation * random.standard_normal(factor.shape) for factor in start]
    problem = Problem(left @ np.diag(settings.values) @ right.T)
    run = simulate(
        problem, weights, GradientDescent(step), steps=iterations, mode="full", record=max(1, iterations // 1000),
        until=lambda part, time: 0.1 - float(_misalignment(left.T @ part.end_to_end(time) @ right)),
    )  # fmt: skip
    return left.T @ run.end_to_end() @ right


def _misalignment(product: Float[np.ndarray, "*T r r"]) -> Float[np.ndarray, "*T"]:
    """Frobenius norm off the diagonal."""
    return np.linalg.norm(product * (1 - np.eye(product.shape[-1])), axis=(-2, -1))


def _rotated(settings: Settings) -> Verdict:
    """Full matrices against the scalars at a step where one direction oscillates."""
    step = float(settings.above[0])
    seen = _full(settings, step, ROTATED, 0.0)
    scalar = aligned_descent(settings.values, settings.start(), step, ROTATED).prod(axis=1)
    return Verdict.of(
        "full matrices in random bases against the scalar problems, largest difference",
        np.abs(np.diagonal(seen, axis1=1, axis2=2) - scalar[: len(seen)]).max(), "<=", 1e-9,
    )  # fmt: skip


def _perturbed(settings: Settings) -> list[Verdict]:
    """A start slightly off alignment: it re-aligns below the edge, and not once two directions oscillate."""

    def growth(step: float) -> float:
        off = _misalignment(_full(settings, step, 3000, settings.perturbation))
        return float(off[-1] / off[0])

    verdicts = [
        Verdict.of("control: misalignment left below all limits", growth(float(settings.steps[0])), "<=", 0.1),
        Verdict.of(
            "misalignment left with one direction oscillating", growth(1.01 * float(settings.limits[0])), "<=", 0.1,
            judged=False, note="alignment is kept or lost, depending on depth and on how close the second limit is",
        ),
    ]  # fmt: skip
    if len(settings.above) > 1:
        name = "misalignment left with two directions oscillating: it grows"
        verdicts.append(Verdict.of(name, growth(float(settings.above[1])), ">", 1e3))
    return verdicts


def _figure(settings: Settings, products: Float[np.ndarray, "T B r"], gap: Float[np.ndarray, "T B r"]) -> Panels:
    """Both ends of the orbit against the step, and the gaps over time at the largest step."""
    ratios = settings.steps / settings.limits[0]
    there_and_back = np.concatenate([ratios, [np.nan], ratios])
    upper, lower = products[-2:].max(axis=0), products[-2:].min(axis=0)
    ends = [
        Series(f"s = {value:g}", there_and_back, np.concatenate([upper[:, i], [np.nan], lower[:, i]]) / value, style="line+points")
        for i, value in enumerate(settings.values)
    ]  # fmt: skip
    times = np.unique(np.geomspace(1, settings.iterations, 200).astype(int))
    gaps = [
        Series(f"s = {value:g}", times, np.maximum(gap[times, -1, column] / gap[0, -1, column], 1e-16), colour=column)
        for column, value in enumerate(settings.values)
    ]
    return Panels(
        "orbits",
        "Beyond the edge of stability",
        [
            Lines("ends", "Ends of the orbit", "step / limit of the first", "end-to-end value / s", ends),
            Lines("gaps", "Balancing gap at the largest step", "iteration", "gap / gap at the start", gaps, log_x=True, log_y=True),
        ],
        columns=2,
        caption="A direction leaves its fixed point where the step passes its own limit; only then does its gap fall to zero.",
    )  # fmt: skip


EXPERIMENTS = (
    Experiment(
        "edge-of-stability",
        BEYOND,
        "Beyond the edge of stability: one oscillating direction per limit that is passed",
        "beyond it: the lecture's steps lie below 2 / sharpness",
        "A deep linear network is trained with steps around 2 / (L s^(2 - 2/L)), one such limit for each singular value s of the target. "
        "Directions whose limit is passed alternate between two values known in advance and become balanced; the others converge and keep their gap.",
        "Ghosh et al. (2025), arXiv:2502.20531; the product formula of the gap and the loss of alignment are this project's own",
        Settings,
        run,
        full={"iterations": 200_000},
    ),
)

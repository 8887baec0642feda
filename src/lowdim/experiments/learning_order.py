"""In which order and at what time the modes of a target are learned: gradient descent from saddle to saddle, Muon all at one pace."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy.optimize import root_scalar

from lowdim._verdicts import Verdict
from lowdim.dynamics import (
    GradientDescent,
    Polar,
    Problem,
    Trajectory,
    balancedness_gaps,
    initialize,
    learning_time,
    simulate,
)
from lowdim.errors import UsageError
from lowdim.experiments._after import BEYOND, stack_aligned
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.figures import Lines, Panels, Series, Table

RESTING = 1e-6
"""Scale of the start at which the loss of two factors is within a hundredth of each saddle's."""


def _require_falling(values: tuple[float, ...], width: int) -> None:
    if not 2 <= len(values) <= width or any(a <= b for a, b in zip(values, (*values[1:], 0.0), strict=True)):
        raise UsageError(
            f"singular_values must be 2 to {width} numbers (the width) that fall and are > 0, not {values}."
        )


@dataclass(frozen=True)
class SaddleSettings:
    """One target, learned from small weights: aligned with it, or in random directions."""

    depth: int = 2
    width: int = 30
    singular_values: tuple[float, ...] = (4.0, 3.0, 2.0, 1.0)
    eps: float = 0.01
    unbalance: float = 30.0
    step: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        _require_falling(self.singular_values, self.width // 2 - 1)
        if self.depth < 2 or not 0 < self.eps**self.depth < self.singular_values[-1] / 4:
            raise UsageError(
                f"depth must be at least 2 and eps^depth below a quarter of the last singular value; they are {self.depth}, {self.eps}."
            )


@dataclass(frozen=True)
class _Target:
    """A target of low rank and the starts from which it is learned."""

    settings: SaddleSettings
    left: Float[np.ndarray, "d r"]
    right: Float[np.ndarray, "d r"]
    aligned: list[Float[np.ndarray, "d d"]]
    random: list[Float[np.ndarray, "d d"]]

    @classmethod
    def draw(cls, settings: SaddleSettings) -> "_Target":
        random = np.random.default_rng(settings.seed)
        left, right, *inner = initialize([settings.width] * (settings.depth + 2), random)
        size, scales = len(settings.singular_values), np.full((settings.depth, settings.width), settings.eps)
        start = initialize([settings.width] * (settings.depth + 1), random, scale=settings.eps)
        return cls(settings, left[:, :size], right[:, :size], stack_aligned(scales, left, right, inner), start)

    @property
    def problem(self) -> Problem:
        return Problem(self.left * np.array(self.settings.singular_values) @ self.right.T)

    def flow(self, weights: list[Float[np.ndarray, "d d"]], duration: float) -> Trajectory:
        return simulate(self.problem, weights, GradientDescent(1.0), steps=int(np.ceil(duration)), mode="flow")

    def modes(self, run: Trajectory, time: float | None = None) -> Float[np.ndarray, "*T r"]:
        """What the network has learned of each singular value."""
        return np.einsum("ir,...ij,jr->...r", self.left, run.end_to_end(time), self.right)

    def half_times(self, run: Trajectory) -> Float[np.ndarray, " r"]:
        """When each mode passes half of its singular value, between two of the solver's steps; NaN where it does not."""
        modes, halves = self.modes(run), np.array(self.settings.singular_values) / 2

        def half_time(mode: int) -> float:
            passed = int(np.argmax(modes[:, mode] >= halves[mode]))
            if not passed:
                return float("nan")
            bracket = (float(run.times[passed - 1]), float(run.times[passed]))
            return float(
                root_scalar(
                    lambda t: float(self.modes(run, t)[mode] - halves[mode]), bracket=bracket, method="brentq"
                ).root
            )

        return np.array([half_time(mode) for mode in range(len(halves))])


def run_saddle(settings: SaddleSettings, progress: Progress) -> Outcome:
    """Flow from an aligned, a random and an unbalanced start; descent at two steps for balancedness."""
    target, values = _Target.draw(settings), settings.singular_values
    predicted = np.array([learning_time(value, settings.eps**settings.depth, settings.depth) for value in values])
    duration = 2 * predicted[-1] + 1
    aligned = target.flow(target.aligned, duration)
    measured = target.half_times(aligned)
    progress(1, 4)
    free = target.flow(target.random, duration)
    random = target.half_times(free)
    progress(2, 4)
    lopsided = [target.aligned[0] * settings.unbalance, *target.aligned[1:-1], target.aligned[-1] / settings.unbalance]
    control = target.half_times(target.flow(lopsided, duration))
    progress(3, 4)
    verdicts = [
        Verdict.of("aligned start: half-time of each mode, relative error", _worst(measured, predicted), "<=", 1e-6),
        Verdict.of("random start: modes learned in another order", (np.diff(random) <= 0).sum(), "==", 0),
        *_random_verdicts(settings, target, random),
        Verdict.of(
            "control: same product, one factor larger and one smaller: relative error",
            _worst(control, predicted),
            ">",
            0.2,
        ),
        *_plateaus(target),
    ]
    gaps, balance = _balancedness(settings, target, free, duration)
    verdicts += balance
    progress(4, 4)
    rows = [
        [f"s = {value:g}", *times] for value, *times in zip(values, predicted, measured, random, control, strict=True)
    ]
    columns = ["mode", "predicted", "aligned start", "random start", "unbalanced start"]
    table = Table("half-times", "Time at which half of a mode is learned", columns, rows)
    return Outcome(verdicts, [_saddle_figure(target, aligned, free, predicted, gaps)], [table])


def _worst(measured: Float[np.ndarray, " r"], predicted: Float[np.ndarray, " r"]) -> float:
    return float(np.abs(measured / predicted - 1).max())


def _random_verdicts(settings: SaddleSettings, target: _Target, random: Float[np.ndarray, " r"]) -> list[Verdict]:
    """Two factors: the growing part of a random start is known, and with it the time of every mode."""
    if settings.depth != 2:
        return []
    first, last = target.random
    starts = growing_starts(first, last, target.left, target.right)
    predicted = np.array([learning_time(v, s, 2) for v, s in zip(settings.singular_values, starts, strict=True)])
    inside = settings.eps <= 0.02
    name = "random start: half-times from the part of the start that grows, relative error"
    note = "" if inside else "the modes are learned apart from one another for small eps"
    return [Verdict.of(name, _worst(random, predicted), "<=", 1e-3, judged=inside, note=note)]


def growing_starts(
    first: Float[np.ndarray, "h d"],
    last: Float[np.ndarray, "d h"],
    left: Float[np.ndarray, "d r"],
    right: Float[np.ndarray, "d r"],
) -> Float[np.ndarray, " r"]:
    r"""End-to-end value with which each mode of two factors starts: of $(W_1 v_i + W_2^\top u_i)/2$ the part beside those of larger modes.

    The sum grows and the difference decays; once a mode is learned, what others have along its hidden direction decays, too.
    """
    return np.diagonal(np.linalg.qr((first @ right + last.T @ left) / 2)[1]) ** 2


def _plateaus(target: _Target) -> list[Verdict]:
    """Where the loss falls slowest between two half-times it is that of the saddle with the modes learned so far."""
    settings, values = target.settings, np.array(target.settings.singular_values)
    # two factors leave a saddle in a time that is a logarithm of the start, so that only a tiny one lets the loss rest
    eps = min(settings.eps, RESTING) if settings.depth == 2 else settings.eps
    start = [weight * (eps / settings.eps) for weight in target.random]
    duration = learning_time(values[-1], eps**settings.depth, settings.depth)
    run = target.flow(start, 2 * duration + 1)
    losses, ends = run.loss(), np.append(0.0, target.half_times(run))
    slopes = -np.gradient(np.log(losses), run.times)
    worst = 0.0
    for count, (begun, ended) in enumerate(pairwise(ends.tolist())):
        inside = np.flatnonzero((run.times > begun) & (run.times < ended))
        rests = losses[inside[slopes[inside].argmin()]]
        worst = max(worst, abs(rests / (np.sum(values[count:] ** 2) / 2) - 1))
    judged = settings.depth == 2 or settings.eps <= 0.02
    name = f"random start of scale {eps:g}: loss where it rests, distance from that of the saddle, largest"
    note = "" if judged else "the saddles are approached for small eps"
    return [Verdict.of(name, worst, "<=", 0.02, judged=judged, note=note)]


def _balancedness(
    settings: SaddleSettings, target: _Target, flow: Trajectory, duration: float
) -> tuple[list[Series], list[Verdict]]:
    """Largest gap between neighbouring factors over time: none in the flow, of the order of the step in descent."""

    def gaps(run: Trajectory, times: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
        factors = [[run.weight(layer, float(t)) for layer in range(1, run.depth + 1)] for t in times]
        return np.array([balancedness_gaps(weights).max() for weights in factors])

    times = np.linspace(0, duration - 1, 60)
    curves = {"gradient flow": (times, gaps(flow, times))}
    for step in (settings.step, settings.step / 2):
        steps = int(duration / step)
        run = simulate(target.problem, target.random, GradientDescent(step), steps=steps, record=max(1, steps // 60))
        curves[f"step {step:g}"] = (run.times * step, gaps(run, run.times))
    whole, half = (curve.max() for _, curve in list(curves.values())[1:])
    verdicts = [
        Verdict.of("gradient flow: largest balancedness gap", curves["gradient flow"][1].max(), "<=", 1e-7),
        Verdict.of("gradient descent: gap at this step over gap at half of it, distance from 2", abs(whole / half - 2), "<=", 0.2),
    ]  # fmt: skip
    return [Series(name, x, np.maximum(y, 1e-17)) for name, (x, y) in curves.items()], verdicts


def _saddle_figure(
    target: _Target,
    aligned: Trajectory,
    free: Trajectory,
    predicted: Float[np.ndarray, " r"],
    gaps: list[Series],
) -> Panels:
    values = target.settings.singular_values
    panels: list[Lines] = []
    for name, run in (("aligned", aligned), ("random", free)):
        keep = np.unique(np.linspace(0, len(run.times) - 1, 300).astype(int))
        modes = target.modes(run)[keep]
        series = [
            Series(f"s = {value:g}", run.times[keep], modes[:, mode], colour=mode) for mode, value in enumerate(values)
        ]
        series.append(Series("predicted half-times", predicted, np.array(values) / 2, style="points"))
        panels.append(Lines(f"modes-{name}", f"{name} start", "time", "learned", series))
    panels.append(Lines("balancedness", "Balancedness, random start", "time", "largest gap", gaps, log_y=True))
    caption = "Each mode is learned at its own time, the largest first; the points were computed before the run."
    return Panels("modes", "From saddle to saddle", panels, columns=3, caption=caption)


@dataclass(frozen=True)
class MuonSettings:
    """Two square factors, started aligned with the target but not balanced."""

    singular_values: tuple[float, ...] = (4.0, 3.0, 2.0, 1.5, 1.0, 0.5)
    first_scale: float = 0.05
    last_scale: float = 0.2
    step: float = 1e-3
    descent_step: float = 1e-3
    iterations: int = 4000
    seed: int = 0

    def __post_init__(self) -> None:
        _require_falling(self.singular_values, 1000)
        if self.first_scale * self.last_scale >= self.singular_values[-1]:
            raise UsageError("first_scale x last_scale must lie below the last singular value: modes must be there to be learned.")  # fmt: skip

    @property
    def reach(self) -> Float[np.ndarray, " r"]:
        """First iteration t with (first_scale + t step)(last_scale + t step) >= s."""
        total, product = self.first_scale + self.last_scale, self.first_scale * self.last_scale
        values = np.array(self.singular_values)
        exact = (np.sqrt(total**2 - 4 * (product - values)) - total) / (2 * self.step)
        return np.ceil(exact - 1e-9)


def run_muon(settings: MuonSettings, progress: Progress) -> Outcome:
    """The polar step and gradient descent from the same start."""
    random = np.random.default_rng(settings.seed)
    size = len(settings.singular_values)
    left, right, inner = initialize([size] * 4, random)
    scales = np.array([np.full(size, settings.first_scale), np.full(size, settings.last_scale)])
    start = stack_aligned(scales, left, right, [inner])
    problem = Problem(left * np.array(settings.singular_values) @ right.T)
    runs = {
        name: simulate(problem, start, rule, steps=settings.iterations, mode="full")
        for name, rule in (("Muon", Polar(settings.step)), ("gradient descent", GradientDescent(settings.descent_step)))
    }
    progress(1, 2)
    modes = {name: np.einsum("ir,tij,jr->tr", left, run.end_to_end(), right) for name, run in runs.items()}
    reach = settings.reach
    passed = modes["Muon"] >= np.array(settings.singular_values) * (1 - 1e-12)
    learned = np.where(passed.any(axis=0), np.argmax(passed, axis=0), np.nan)
    inside = bool(reach[0] <= settings.iterations)
    note = "" if inside else "the largest mode is not reached in these iterations"
    verdicts = [
        Verdict.of("Muon: growth of a singular value per step, largest error over eta", _growth_error(settings, runs["Muon"], inner, right), "<=", 1e-9),
        Verdict.of("Muon: iterations to reach s, largest difference from the prediction", np.abs(learned - reach).max(), "==", 0, judged=inside, note=note),
        Verdict.of("Muon: modes learned before a smaller one", (np.diff(learned) >= 0).sum(), "==", 0, judged=inside, note=note),
        Verdict.of("gradient descent: modes learned after a smaller one", (np.diff(_half(modes["gradient descent"], settings)) <= 0).sum(), "==", 0),
    ]  # fmt: skip
    moved = {
        (name, kind): _moved(run, root)
        for name, run in runs.items()
        for kind, root in (("roots", True), ("squares", False))
    }
    verdicts += [
        Verdict.of("Muon: sqrt(P'P) - sqrt(Q'Q), relative change", moved["Muon", "roots"].max(), "<=", 1e-10),
        Verdict.of("Muon: P'P - Q'Q over its start while no mode is learned, distance from (p + q) / (p_0 + q_0)", _squares_error(settings, runs["Muon"]), "<=", 1e-9),
        Verdict.of("gradient descent: P'P - Q'Q, relative change", moved["gradient descent", "squares"].max(), "<=", 0.05),
        Verdict.of("control: Muon, P'P - Q'Q, relative change", moved["Muon", "squares"].max(), ">", 0.5),
        Verdict.of("control: gradient descent, sqrt(P'P) - sqrt(Q'Q), relative change", moved["gradient descent", "roots"].max(), ">", 0.5),
    ]  # fmt: skip
    progress(2, 2)
    rows = [
        [f"s = {value:g}", float(t), None if np.isnan(found) else float(found)]
        for value, t, found in zip(settings.singular_values, reach, learned, strict=True)
    ]
    table = Table("steps", "Iterations until Muon has learned a mode", ["mode", "predicted", "measured"], rows)
    return Outcome(verdicts, [_muon_figure(settings, modes, moved)], [table])


def _growth_error(
    settings: MuonSettings, run: Trajectory, inner: Float[np.ndarray, "r r"], right: Float[np.ndarray, "r r"]
) -> float:
    """Of both factors' singular values while no mode is learned yet."""
    until = int(settings.reach.min()) - 1
    first = np.einsum("ir,tij,jr->tr", inner, run.weight(1)[:until], right)
    change = np.diff(first, axis=0) / settings.step
    return float(np.abs(change - 1).max())


def _half(modes: Float[np.ndarray, "T r"], settings: MuonSettings) -> Float[np.ndarray, " r"]:
    """First iteration at half of each singular value; beyond the end where it is not reached."""
    passed = modes >= np.array(settings.singular_values) / 2
    return np.where(passed.any(axis=0), np.argmax(passed, axis=0), len(modes) + np.arange(modes.shape[1]))


def _conserved(run: Trajectory, roots: bool) -> Float[np.ndarray, "T r r"]:
    """sqrt(P'P) - sqrt(Q'Q), or P'P - Q'Q, with W_1 = Q' and W_2 = P."""

    def gram(matrix: Float[np.ndarray, "T a b"]) -> Float[np.ndarray, "T b b"]:
        _, values, right = np.linalg.svd(matrix)
        return (right.swapaxes(-1, -2) * (values if roots else values**2)[:, None]) @ right

    return gram(run.weight(2)) - gram(run.weight(1).swapaxes(-1, -2))


def _moved(run: Trajectory, roots: bool) -> Float[np.ndarray, " T"]:
    """Change of the conserved quantity over its size at the start."""
    quantity = _conserved(run, roots)
    return np.linalg.norm(quantity - quantity[0], axis=(-2, -1)) / float(np.linalg.norm(quantity[0]))


def _squares_error(settings: MuonSettings, run: Trajectory) -> float:
    """Of the growth of P'P - Q'Q, while every singular value grows by the step."""
    until = min(int(settings.reach.min()), settings.iterations + 1)
    sizes = np.linalg.norm(_conserved(run, roots=False)[:until], axis=(-2, -1))
    total = settings.first_scale + settings.last_scale
    expected = 1 + 2 * settings.step * np.arange(until) / total
    return float(np.abs(sizes / sizes[0] / expected - 1).max())


def _muon_figure(
    settings: MuonSettings,
    modes: dict[str, Float[np.ndarray, "T r"]],
    moved: dict[tuple[str, str], Float[np.ndarray, " T"]],
) -> Panels:
    keep = np.unique(np.linspace(0, settings.iterations, 300).astype(int))
    panels = [
        Lines(
            f"modes-{name.replace(' ', '-')}", name, "iteration", "learned",
            [Series(f"s = {value:g}", keep, curve[keep, i]) for i, value in enumerate(settings.singular_values)],
        )
        for name, curve in modes.items()
    ]  # fmt: skip
    kinds = {"roots": "sqrt(P'P) - sqrt(Q'Q)", "squares": "P'P - Q'Q"}
    series = [
        Series(f"{name}: {kinds[kind]}", keep, np.maximum(curve[keep], 1e-17), colour=int(name != "Muon"), style="line" if kind == "roots" else "dashed")
        for (name, kind), curve in moved.items()
    ]  # fmt: skip
    panels.append(Lines("conserved", "What is conserved", "iteration", "relative change", series, log_y=True))
    caption = "Muon adds the step to every singular value until it is learned, so the smallest is ready first."
    return Panels("muon", "Muon against gradient descent", panels, columns=3, caption=caption)


EXPERIMENTS = (
    Experiment(
        "saddle-to-saddle",
        BEYOND,
        "Modes are learned one after the other, at times known in advance",
        "beyond it: the time course of the low-rank bias",
        "A target of low rank is learned from small weights. Its singular values are learned one by one, the largest first, each at the time "
        "that a scalar equation gives, while the loss rests near one saddle after the other and the factors stay balanced.",
        "Saxe et al. (2014), arXiv:1312.6120; Jacot et al. (2021), arXiv:2106.15933",
        SaddleSettings,
        run_saddle,
        full={"width": 100, "eps": 1e-3},
    ),
    Experiment(
        "muon-growth",
        BEYOND,
        "Muon learns all modes at one pace and conserves another quantity",
        "beyond it: the optimizers of the law of parsimony",
        "Two factors aligned with their target are trained with the polar factor of the gradient. Every singular value grows by the step until its "
        "mode is learned, smaller ones first; the difference of the roots sqrt(P'P) - sqrt(Q'Q) stays, where gradient descent keeps P'P - Q'Q.",
        "arXiv:2606.30509",
        MuonSettings,
        run_muon,
        full={"step": 1e-4, "descent_step": 1e-4, "iterations": 40_000},
    ),
)

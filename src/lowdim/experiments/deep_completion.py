"""Deep matrix completion: what depth and width do, and the compressed network beside the original and narrow ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowdim._verdicts import Relation, Verdict
from lowdim.completion.entries import Entries
from lowdim.completion.solvers.gd._descent import Descent, Network, descend, loss_and_gradients
from lowdim.completion.solvers.gd._gradient_descent import (
    compressed_network,
    curvature,
    largest_gamma,
    orthogonal_network,
    spectral_network,
    stable_step,
)
from lowdim.errors import UsageError
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.experiments._kept import kept
from lowdim.experiments.factorization_compressed import leading_target
from lowdim.figures import Lines, Series, Table

Array = NDArray[np.float64]
SOURCE = "Yaras et al. 2023, arXiv:2306.01154"
FITTED = 1e-2  # relative residual from which the test error of depth 2 hardly changes any more (1.8e-3 at 5e-3, 1.4e-3 at 6e-5)
LECTURE_SIDE, LECTURE_ITERATIONS = 1000, 19_300  # of the compressed network, gamma = .01, fixed steps


@dataclass(frozen=True)
class Instance:
    """A planted low-rank matrix and a uniform sample of its entries."""

    target: Array
    entries: Entries

    @classmethod
    def draw(cls, d: int, rank: int, share: float, random: np.random.Generator) -> "Instance":
        """A (d, d) target with singular values near ``2 sqrt(d)``, and this share of its entries."""
        target = leading_target(d, rank, random)
        places = random.choice(d * d, int(share * d * d), replace=False)
        rows, cols = np.divmod(places, d)
        return cls(target, Entries.from_triplets(rows, cols, target[rows, cols], (d, d)))

    def largest(self) -> float:
        """The largest singular value of the observed matrix over p: with few entries it is far above that of the target, and limits the step."""
        observed = np.zeros(self.target.shape)
        observed[self.entries.rows, self.entries.cols] = self.entries.values
        return float(np.linalg.norm(observed, 2)) / self.entries.density

    def error(self, left: Array, right: Array) -> float:
        """Relative error over all entries, ``||W - Phi||_F / ||Phi||_F``."""
        return float(np.linalg.norm(left @ right.T - self.target) / np.linalg.norm(self.target))

    def test_error(self, run: Descent) -> float:
        """Half the mean square error over all d^2 places, those observed counting as 0."""
        difference = run.network.left @ run.network.right.T - self.target
        difference[self.entries.rows, self.entries.cols] = 0.0
        return 0.5 * float(np.mean(difference**2))


def _require_room(d: int, width: int) -> None:
    if d < width:
        raise UsageError(
            f"d must be at least {width} for these ranks (a compressed network is twice the rank wide), not {d}."
        )


def _stable_gamma(step: float, share: float, target: Array, depth: int) -> float:
    """The largest gamma at this step."""
    gamma = largest_gamma(step, share, float(np.linalg.norm(target, 2)), depth)
    if gamma <= 0:
        raise UsageError(
            f"a step of {step:g} is too large for this target at any gamma. Take a smaller one: `step={step / 4:g}`."
        )
    return gamma


@dataclass(frozen=True)
class DepthWidthSettings:
    """Settings of ``completion-depth-width``.

    Attributes:
        d: Side of the square target.
        rank: r.
        share: p, the observed share.
        scale: epsilon.
        steps: On the mean loss over all d^2 entries, for depth 2 and 3.
        widths: Of the hidden layers, ascending; the last one is full.
        trials: Instances.
        tolerance: Relative residual at which a run ends.
        max_iterations: Most steps of a run, for depth 2 and 3.
        seed: Of the first instance.
    """

    d: int = 100
    rank: int = 10
    share: float = 0.3
    scale: float = 1e-3
    steps: tuple[float, float] = (100.0, 300.0)
    widths: tuple[int, ...] = (10, 30, 100)
    trials: int = 5
    tolerance: float = 1e-5
    max_iterations: tuple[int, int] = (6_000, 60_000)
    seed: int = 0

    def __post_init__(self) -> None:
        _require_room(self.d, self.rank)
        if len(self.steps) != 2 or len(self.max_iterations) != 2:
            raise UsageError("steps and max_iterations have one value for depth 2 and one for depth 3.")
        if len(self.widths) < 2 or list(self.widths) != sorted(set(self.widths)):
            raise UsageError(f"widths must be two or more that rise, not {self.widths}.")


def run_depth_width(settings: DepthWidthSettings, progress: Progress) -> Outcome:
    """Trains depth 2 and 3 at several widths with the lecture's fixed steps."""
    shape = (2, len(settings.widths), settings.trials)
    tests, iterations, residuals = (np.zeros(shape) for _ in range(3))
    total = int(np.prod(shape))

    def complete(layer: int, column: int, trial: int) -> dict[str, float]:
        instance = Instance.draw(
            settings.d, settings.rank, settings.share, np.random.default_rng([settings.seed, trial])
        )
        random = np.random.default_rng([settings.seed, trial, layer, column])
        network = orthogonal_network(instance.target.shape, settings.widths[column], layer + 2, settings.scale, random)
        run = descend(
            instance.entries,
            network,
            settings.steps[layer] / settings.d**2,
            tolerance=settings.tolerance,
            max_iterations=settings.max_iterations[layer],
            record=settings.max_iterations[layer],
        )
        return {
            "test": instance.test_error(run),
            "iterations": run.iterations,
            "residual": run.relative_residual,
        }

    for done, place in enumerate(np.ndindex(*shape)):
        progress(done, total)
        found = kept("-".join(map(str, place)), lambda place=place: complete(*place))
        tests[place], iterations[place], residuals[place] = found["test"], found["iterations"], found["residual"]
    progress(total, total)
    two, three = np.median(tests[:, -1], axis=1)
    counts = np.median(iterations[1], axis=1)
    ended = np.median(residuals[:, -1], axis=1) <= (FITTED, settings.tolerance)
    stopped = [int((residuals[layer] > settings.tolerance).sum()) for layer in (0, 1)]
    early = ["" if fits else f"depth {layer + 2} was stopped before it fitted" for layer, fits in enumerate(ended)]

    def judge(name: str, value: float, relation: Relation, threshold: float, *reasons: str) -> Verdict:
        note = " and ".join(filter(None, reasons))
        return Verdict.of(name, value, relation, threshold, judged=not note, note=note)

    return Outcome(
        verdicts=(
            judge("test error of depth 3 at full width (median)", three, "<=", 1e-7, early[1]),
            judge("test error of depth 2 over that of depth 3 at full width", two / three, ">=", 1e3, *early),
            judge("iterations of depth 3, narrowest over full width", counts[0] / counts[-1], ">=", 3.0, early[1]),
        ),
        figures=(
            _against_width(settings, "test-error", "Test error", "half mean square test error", tests, iterations),
            _against_width(settings, "iterations", "Iterations", "iterations", iterations, iterations),
        ),
        notes=(
            f"{settings.trials} instances; bands from the least to the largest. "
            + " ".join(
                f"{count} of {len(settings.widths) * settings.trials} runs of depth {layer + 2} were stopped at {cap:,} iterations."
                for layer, (count, cap) in enumerate(zip(stopped, settings.max_iterations, strict=True))
            )
            + f" Depth 2 creeps: its test error counts from a relative residual of {FITTED:g} on.",
        ),
    )


def _against_width(
    settings: DepthWidthSettings, name: str, title: str, label: str, values: Array, iterations: Array
) -> Lines:
    """Medians with bands; where the median run was stopped at the cap, a point of its own in place of the curve."""
    series: list[Series] = []
    for colour, (depth, rows, counts) in enumerate(zip((2, 3), values, iterations, strict=True)):
        cap = settings.max_iterations[colour]
        stopped = np.median(counts, 1) >= cap
        middle, low, high = (np.where(stopped, np.nan, part) for part in (np.median(rows, 1), rows.min(1), rows.max(1)))
        if not stopped.all():
            series.append(
                Series(f"depth {depth}", settings.widths, middle, low, high, style="line+points", colour=colour)
            )
        if stopped.any():
            place = np.where(stopped, np.median(rows, 1), np.nan)
            name_ = f"depth {depth}, stopped unfinished at {cap:,} iterations"
            series.append(Series(name_, settings.widths, place, style="points", colour=colour))
    return Lines(name, f"{title} against width", "width", label, series, log_y=True)


@dataclass(frozen=True)
class SampleComplexitySettings:
    """Settings of ``completion-sample-complexity``.

    Attributes:
        d: Side of the square target.
        rank: r.
        shares: Values of p, ascending.
        depths: Values of L.
        stability: The fixed step, as a share of the largest stable one.
        width: Of the hidden layers.
        scales: epsilon, one for each depth. Plateaus last like ``epsilon^(2 - L)``, so depth 4 starts higher.
        trials: Instances.
        recovered: Largest relative error that counts as recovered.
        tolerance: Relative residual at which a run ends.
        max_iterations: Most steps of a run after the initial plateau.
        seed: Of the first instance.
    """

    d: int = 100
    rank: int = 10
    shares: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5)
    depths: tuple[int, ...] = (2, 3, 4)
    stability: float = 0.9
    width: int = 40
    scales: tuple[float, ...] = (1e-3, 1e-3, 5e-2)
    trials: int = 2
    recovered: float = 1e-2
    tolerance: float = 1e-5
    max_iterations: int = 12_000
    seed: int = 0

    def __post_init__(self) -> None:
        _require_room(self.d, self.rank)
        if len(self.depths) < 2 or len(self.scales) != len(self.depths):
            raise UsageError(
                f"depths must be two or more, with one of scales each; they are {self.depths} and {self.scales}."
            )


def run_sample_complexity(settings: SampleComplexitySettings, progress: Progress) -> Outcome:
    """Finds the smallest observed share at which each depth recovers."""
    shape = (len(settings.depths), len(settings.shares), settings.trials)
    errors, residuals = np.zeros(shape), np.zeros(shape)
    total = int(np.prod(shape))

    def complete(layer: int, column: int, trial: int) -> dict[str, float]:
        depth, share = settings.depths[layer], settings.shares[column]
        instance = Instance.draw(settings.d, settings.rank, share, np.random.default_rng([settings.seed, trial]))
        step = settings.stability * 2 * stable_step(share, instance.largest(), depth)
        random = np.random.default_rng([settings.seed, trial, layer, column])
        start = orthogonal_network(instance.target.shape, settings.width, depth, settings.scales[layer], random)
        past_plateau = descend(instance.entries, start, step, adaptive=True, tolerance=0.99, max_iterations=2_000)
        run = descend(
            instance.entries,
            past_plateau.network,
            step,
            tolerance=settings.tolerance,
            max_iterations=settings.max_iterations,
            record=settings.max_iterations,
        )
        return {
            "error": instance.error(run.network.left, run.network.right),
            "residual": run.relative_residual,
        }

    for done, place in enumerate(np.ndindex(*shape)):
        progress(done, total)
        found = kept("-".join(map(str, place)), lambda place=place: complete(*place))
        errors[place], residuals[place] = found["error"], found["residual"]
    progress(total, total)
    medians = np.median(errors, axis=2)
    smallest = [
        min((p for p, error in zip(settings.shares, row, strict=True) if error <= settings.recovered), default=np.inf)
        for row in medians
    ]
    least = min(smallest[0], settings.shares[-1])  # where depth 2 never recovers, the others still must
    series = [
        Series(f"depth {depth}", settings.shares, row, runs.min(1), runs.max(1), style="line+points")
        for depth, row, runs in zip(settings.depths, medians, errors, strict=True)
    ]
    rows = list(zip(settings.depths, smallest, strict=True))
    return Outcome(
        verdicts=[
            Verdict.of(f"smallest share that recovers, depth {depth} against {settings.depths[0]}", share, "<=", least)
            for depth, share in zip(settings.depths[1:], smallest[1:], strict=True)
        ],
        figures=(
            Lines("error", "Error against observed share", "observed share p", "relative error", series, log_y=True),
        ),
        tables=(Table("smallest-share", "Smallest share that recovers", ("depth", "p"), rows),),
        notes=(
            f"Median over {settings.trials} instances; recovered means a relative error <= {settings.recovered}. "
            f"{(residuals > FITTED).sum()} of {total} runs were stopped before they fitted what is observed to {FITTED:g}: "
            "they count as not recovered.",
        ),
    )


def sharpness(entries: Entries, network: Network, random: np.random.Generator, iterations: int = 200) -> float:
    """Largest eigenvalue of the Hessian of the summed loss in the rates' metric: steps beyond 2 over it diverge.

    Power iteration on differences of gradients.
    """
    roots = [rate**0.5 for rate in network.rates]
    direction = [
        random.standard_normal(factor.shape) * (rate > 0) for factor, rate in zip(network.factors, roots, strict=True)
    ]
    value = 0.0
    for _ in range(iterations):
        size = float(np.sqrt(sum(np.sum(part**2) for part in direction)))
        shift = 1e-5 * max(float(np.abs(factor).max()) for factor in network.factors) / size
        moved = [
            [
                factor + sign * shift * root * part
                for factor, root, part in zip(network.factors, roots, direction, strict=True)
            ]
            for sign in (1, -1)
        ]
        slopes = [loss_and_gradients(entries, factors)[1] for factors in moved]
        image = [root * (up - down) / (2 * shift) for root, up, down in zip(roots, *slopes, strict=True)]
        value = float(np.sqrt(sum(np.sum(part**2) for part in image))) / size
        direction = [part / (value * size) for part in image]
    return value


def stability_verdicts(entries: Entries, found: Network, limit: float, random: np.random.Generator) -> list[Verdict]:
    """The law's largest step against the curvature at the solution, and against where fixed steps really diverge."""
    true = 2 / sharpness(entries, found, random)
    nudged = tuple(
        factor + 1e-6 * np.abs(factor).max() * random.standard_normal(factor.shape) for factor in found.factors
    )
    ends = [
        descend(
            entries, Network(nudged, found.rates), share * true, tolerance=0, max_iterations=100, record=100
        ).relative_residual
        for share in (0.95, 1.05)
    ]
    return [
        Verdict.of("largest step by the stability law over the one that the curvature allows", limit / true, "<=", 1.0),
        Verdict.of("residual after 100 steps of 1.05 times the latter, over that of 0.95 times", ends[1] / ends[0], ">=", 10),
    ]  # fmt: skip


@dataclass(frozen=True)
class CompressedSettings:
    """Settings of ``completion-compressed``.

    Attributes:
        d: Side of the square target.
        rank: r, and r^ of the compressed network.
        share: p.
        depth: L.
        scale: epsilon.
        step: On the summed loss; 5e3 on the mean over all entries is 5e-3 at d = 1000.
        gamma: The lecture's discrepant rate.
        alpha: Outer rate of the spectral start.
        tolerance: Relative residual at which a run ends (1e-5 is a relative loss of 1e-10).
        fixed: Whether the compressed network is also run with fixed steps.
        max_iterations: Most steps of the fixed-step run.
        seed: Of target, mask and start.
    """

    d: int = 300
    rank: int = 5
    share: float = 0.2
    depth: int = 3
    scale: float = 1e-3
    step: float = 1e-2
    gamma: float = 0.01
    alpha: float = 2.0
    tolerance: float = 1e-5
    fixed: bool = True
    max_iterations: int = 25_000
    seed: int = 0

    def __post_init__(self) -> None:
        _require_room(self.d, 2 * self.rank)


def run_compressed(settings: CompressedSettings, progress: Progress) -> Outcome:
    """Runs the original network and its compressions with adaptive steps, and one with fixed ones."""
    random = np.random.default_rng(settings.seed)
    instance = Instance.draw(settings.d, settings.rank, settings.share, random)
    entries, depth, scale = instance.entries, settings.depth, settings.scale
    full = orthogonal_network(instance.target.shape, settings.d, depth, scale, random)
    stable = _stable_gamma(settings.step, settings.share, instance.target, depth)
    gammas = {"gamma = 0": 0.0, f"gamma = {settings.gamma:g}": settings.gamma, "gamma = stable / 2": stable / 2}
    starts = {"original": full}
    for name, gamma in gammas.items():
        starts[name] = compressed_network(entries, settings.rank, depth, scale, gamma, random, full)
    spectral = f"spectral start, alpha = {settings.alpha:g}"
    starts[spectral] = spectral_network(entries, settings.rank, depth, scale, settings.alpha, random)
    total = len(starts) + settings.fixed
    runs: dict[str, Descent] = {}
    for name, start in starts.items():
        progress(len(runs), total)
        limit = 3_000 if name == "gamma = 0" else 20_000
        runs[name] = descend(
            entries, start, settings.step, adaptive=True, tolerance=settings.tolerance, max_iterations=limit,
            probe=instance.error, record=10,
        )  # fmt: skip
    middle = f"gamma = {settings.gamma:g}"
    if settings.fixed:
        progress(len(runs), total)
        runs[f"{middle}, fixed step"] = descend(
            entries, starts[middle], settings.step, tolerance=settings.tolerance,
            max_iterations=settings.max_iterations, probe=instance.error, record=100,
        )  # fmt: skip
    progress(total, total)
    errors = {name: float(run.probes[-1]) for name, run in runs.items()}
    best = runs["gamma = stable / 2"]
    verdicts = [
        Verdict.of("relative error with gamma = 0", errors["gamma = 0"], ">=", 0.1),
        Verdict.of(f"relative error with gamma = {settings.gamma:g}", errors[middle], "<=", 1e-4),
        Verdict.of("relative error with gamma = stable / 2", errors["gamma = stable / 2"], "<=", 1e-4),
        Verdict.of(
            "flow time of the compressed over the original run",
            best.flow_time / runs["original"].flow_time,
            "<=",
            1.1,
            note="about the ratio of the iterations with fixed steps",
        ),
    ]
    seen = instance.largest()  # as the solver knows it: above the target's by the fluctuation of the sample
    law = 2 / (settings.share * curvature(seen, depth, settings.gamma))
    steady = runs.get(f"{middle}, fixed step", runs[middle])  # adaptive steps leave the balance that the law is about
    verdicts += stability_verdicts(entries, steady.network, law, random)
    if settings.fixed:
        verdicts += step_verdicts(settings.d, runs[f"{middle}, fixed step"].iterations, runs[middle].iterations)
    columns = ("network", "iterations", "flow time", "relative residual", "relative error")
    rows = [(n, r.iterations, r.flow_time, r.relative_residual, errors[n]) for n, r in runs.items()]
    series = [Series(name, run.flow_times, run.probes) for name, run in runs.items() if "fixed" not in name]
    title = "Completion: original and compressed networks"
    return Outcome(
        verdicts,
        (Lines("error", title, "flow time (sum of the steps)", "relative error", series, log_y=True),),
        (Table("runs", "Runs", columns, rows),),
        (f"The largest stable gamma at this step is {stable:.3g}.",),
    )


def step_verdicts(d: int, fixed: int, adaptive: int) -> list[Verdict]:
    """Iterations with fixed steps against those with adaptive ones, and at the lecture's size against the lecture's."""
    least = 20.0 if d == LECTURE_SIDE else 10.0
    verdicts = [Verdict.of("iterations, fixed over adaptive steps", fixed / adaptive, ">=", least)]
    if d == LECTURE_SIDE:
        off = abs(fixed / LECTURE_ITERATIONS - 1)
        name = f"iterations with fixed steps, relative distance from {LECTURE_ITERATIONS:,}"
        verdicts.append(Verdict.of(name, off, "<=", 0.05))
    return verdicts


@dataclass(frozen=True)
class NarrowSettings:
    """Settings of ``completion-narrow``.

    Attributes:
        d: Side of the square target.
        rank: r of the target.
        share: p.
        depth: L.
        scale: epsilon.
        step: On the summed loss, at the start.
        assumed_ranks: Values of r^; both networks have width 2 r^.
        tolerance: Relative residual at which a run ends.
        max_iterations: Most steps of a run.
        seed: Of target, mask and starts.
    """

    d: int = 1000
    rank: int = 5
    share: float = 0.2
    depth: int = 3
    scale: float = 1e-3
    step: float = 5e-3
    assumed_ranks: tuple[int, ...] = (5, 20)
    tolerance: float = 1e-5
    max_iterations: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        _require_room(self.d, 2 * max(self.rank, *self.assumed_ranks))


def run_narrow(settings: NarrowSettings, progress: Progress) -> Outcome:
    """Runs compressed and randomly started narrow networks of the same widths."""
    random = np.random.default_rng(settings.seed)
    instance = Instance.draw(settings.d, settings.rank, settings.share, random)
    shape, depth, scale = instance.target.shape, settings.depth, settings.scale
    gamma = _stable_gamma(settings.step, settings.share, instance.target, depth) / 2
    rows, series = [], []
    total = 2 * len(settings.assumed_ranks)
    for assumed in settings.assumed_ranks:
        starts = {
            "compressed": compressed_network(instance.entries, assumed, depth, scale, gamma, random),
            "narrow": orthogonal_network(shape, 2 * assumed, depth, scale, random),
        }
        for name, start in starts.items():
            progress(len(rows), total)
            run = descend(
                instance.entries, start, settings.step, adaptive=True, tolerance=settings.tolerance,
                max_iterations=settings.max_iterations, record=10,
            )  # fmt: skip
            rows.append((name, assumed, run.flow_time / settings.step, run.iterations, run.relative_residual))
            style = "line" if name == "compressed" else "dashed"
            label = f"{name}, width {2 * assumed}"
            series.append(Series(label, run.flow_times / settings.step, run.residuals, style=style))
    progress(total, total)
    ratios = [narrow[2] / compressed[2] for compressed, narrow in zip(rows[::2], rows[1::2], strict=True)]
    residual = max(row[4] for row in rows)
    label = "flow time / step (about the iterations of a fixed-step run)"
    title = "Completion: compressed and narrow networks of the same width"
    return Outcome(
        verdicts=(
            Verdict.of("flow time, narrow over compressed: the least ratio", min(ratios), ">=", 2.0),
            Verdict.of("largest relative residual at the end", residual, "<=", settings.tolerance),
        ),
        figures=(Lines("residual", title, label, "relative residual", series, log_y=True),),
        tables=(Table("runs", "Runs", ("network", "assumed rank", label, "adaptive steps", "residual"), rows),),
        notes=(f"gamma = {gamma:.3g}, half the largest stable one.",),
    )


EXPERIMENTS = (
    Experiment(
        id="completion-depth-width",
        section=4,
        title="Depth regularises, width speeds up",
        lecture="Section 4, deep matrix completion: benefits of depth and of width",
        why="Networks of depth 2 and 3 and several widths complete a matrix from few entries. Depth 3 should recover it "
        "where depth 2 does not, and in fewer iterations the wider it is.",
        source=SOURCE,
        settings=DepthWidthSettings,
        run=run_depth_width,
        full={"widths": tuple(range(10, 101, 10)), "max_iterations": (60_000, 60_000)},
        cost=36,
    ),
    Experiment(
        id="completion-sample-complexity",
        section=4,
        title="Depth and the number of entries",
        lecture="Section 4, deep matrix completion: sample complexity",
        why="The observed share is varied for several depths. Deeper networks should need no more entries than "
        "the shallowest.",
        source="Arora et al. 2019, arXiv:1905.13655",
        settings=SampleComplexitySettings,
        run=run_sample_complexity,
        full={"shares": tuple(np.arange(2, 11) / 20), "width": 100, "trials": 5, "max_iterations": 40_000},
        cost=13,
    ),
    Experiment(
        id="completion-compressed",
        section=4,
        title="Deep matrix completion, original and compressed",
        lecture="Section 4, deep matrix completion: compressed networks and discrepant learning rates",
        why="The compressed network is run with fixed outer factors (gamma = 0) and with discrepant rates. The first "
        "should stall far from the matrix, the others follow the original network.",
        source=SOURCE + "; Kwon et al. 2024, arXiv:2311.05061",
        settings=CompressedSettings,
        run=run_compressed,
        full={"d": 1000, "step": 5e-3},
        cost=5,
    ),
    Experiment(
        id="completion-narrow",
        section=4,
        title="Compressed against narrow networks",
        lecture="Section 4, deep matrix completion: why not a narrow network from the start",
        why="A narrow network with a random start has as many parameters as the compressed one. It should need at "
        "least twice the iterations.",
        source=SOURCE,
        settings=NarrowSettings,
        run=run_narrow,
        full={"assumed_ranks": (5, 8, 10, 12, 15, 20)},
        cost=8,
    ),
)

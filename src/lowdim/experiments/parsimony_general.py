"""The general law of parsimony: any number of outputs, two invariant parts, for every update that commutes with rotations."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lowdim._verdicts import Verdict
from lowdim.dynamics import (
    Adam,
    Bases,
    GradientDescent,
    Problem,
    Trajectory,
    block_forms,
    block_sizes,
    initialize,
    low_rank_target,
    scale_recursion,
    simulate,
)
from lowdim.dynamics._bases import Sizes
from lowdim.errors import UsageError
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.experiments._parsimony import SOURCE
from lowdim.figures import Lines, Panels, Series, Table

ON_THE_NUMBER = 1e-12
"""Distance within which a singular value counts as one of the two numbers."""

APART = 1e-9
"""The two numbers, and the active values, must be further apart than this for a count to mean anything."""


@dataclass(frozen=True)
class GeneralSettings:
    """Pairs of outputs and rank, each with and without decay and momentum."""

    outputs: tuple[int, ...] = (20, 8, 5, 20, 25, 10, 30, 3)
    ranks: tuple[int, ...] = (2, 2, 1, 5, 8, 5, 3, 3)
    depth: int = 3
    width: int = 30
    eps: float = 0.3
    step: float = 0.02
    iterations: int = 400
    weight_decay: float = 0.01
    momentum: float = 0.9
    adam_step: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        pairs = list(zip(self.outputs, self.ranks, strict=False))
        if len(self.outputs) != len(self.ranks) or not pairs:
            raise UsageError(f"outputs and ranks must be of equal length; they are {self.outputs} and {self.ranks}.")
        for outputs, rank in pairs:
            if not 1 <= rank <= outputs <= self.width or not block_sizes(self.width, outputs, rank).invariant:
                raise UsageError(
                    f"outputs {outputs} and rank {rank} leave nothing invariant at width {self.width}: the law needs "
                    "rank <= outputs <= width, and width > outputs + rank or outputs > 2 x rank."
                )

    @property
    def rules(self) -> dict[str, GradientDescent]:
        """Gradient descent, with decay, with momentum, with both."""
        return {
            "plain": GradientDescent(self.step),
            "decay": GradientDescent(self.step, self.weight_decay),
            "momentum": GradientDescent(self.step, momentum=self.momentum),
            "decay and momentum": GradientDescent(self.step, self.weight_decay, self.momentum),
        }


@dataclass(frozen=True)
class _Pair:
    """One pair of outputs and rank under one rule: what the law predicts, and how far the full run is from it."""

    run: Trajectory
    sizes: Sizes
    silent: Float[np.ndarray, " T"]
    fading: Float[np.ndarray, " T"]
    reduced: float
    identity: float
    off_block: float

    @property
    def counted(self) -> tuple[list[int], list[int]]:
        """Singular values on the silent and on the fading number at the end, per factor."""
        values = [self.run.singular_values(layer, self.run.times[-1]) for layer in range(1, self.run.depth + 1)]
        near = lambda number: [int(np.sum(np.abs(v - abs(number)) <= ON_THE_NUMBER)) for v in values]  # noqa: E731
        return near(self.silent[-1])[:-1], near(self.fading[-1])

    @property
    def off_the_numbers(self) -> float:
        """Largest distance of the m-th nearest singular value from its number, over factors and times."""
        worst = 0.0
        for layer in range(1, self.run.depth + 1):
            values = self.run.singular_values(layer)
            inner = layer < self.run.depth
            for count, number in ((self.sizes.silent * inner, self.silent), (self.sizes.fading, self.fading)):
                if count:
                    distances = np.sort(np.abs(values - np.abs(number)[:, None]), axis=1)
                    worst = max(worst, float(distances[:, count - 1].max()))
        return worst


def _study(settings: GeneralSettings, outputs: int, rank: int, rule: GradientDescent) -> _Pair:
    problem, weights = _build(settings, outputs, rank)
    record = max(1, settings.iterations // 20)
    full = simulate(problem, weights, rule, steps=settings.iterations, mode="full", record=record)
    reduced = simulate(problem, weights, rule, steps=settings.iterations, record=record)
    kept = full.times.astype(int)
    silent, fading = (
        scale_recursion(settings.eps, rule, settings.iterations, depth=settings.depth, full_output=reaches)[kept]
        for reaches in (False, True)
    )
    return _Pair(
        full,
        block_sizes(settings.width, outputs, rank),
        silent,
        fading,
        max(float(np.abs(full.weight(l) - reduced.weight(l)).max()) for l in range(1, full.depth + 1)),
        float(np.abs(full.loss() - reduced.loss()).max() / full.loss(0)),
        float(block_forms(full, Bases.from_data(problem, weights)).off_block.max()),
    )


def _build(settings: GeneralSettings, outputs: int, rank: int) -> tuple[Problem, list[Float[np.ndarray, "m n"]]]:
    random = np.random.default_rng(settings.seed)
    problem = Problem(low_rank_target((outputs, settings.width), rank, random))
    return problem, initialize([settings.width] * settings.depth + [outputs], random, scale=settings.eps)


def run(settings: GeneralSettings, progress: Progress) -> Outcome:
    """Counts, numbers and the reduced network for every pair; the worst of the rules is judged."""
    verdicts: list[Verdict] = []
    rows: list[list[object]] = []
    panels: list[Lines] = []
    pairs = list(zip(settings.outputs, settings.ranks, strict=True))
    for outputs, rank in pairs:
        studies = {name: _study(settings, outputs, rank, rule) for name, rule in settings.rules.items()}
        verdicts += _verdicts(f"{outputs} outputs, rank {rank}: ", studies)
        one = studies["decay"]
        silent, fading = one.counted
        rows.append([outputs, rank, one.sizes.silent, silent[0], one.sizes.fading, fading[0], one.reduced])
        panels.append(_spectrum(f"{outputs} outputs, rank {rank}", one))
        progress(len(rows), len(pairs) + 1)
    verdicts.append(_control(settings, *pairs[0]))
    columns = ["outputs", "rank", "m_1 (law)", "m_1 (counted)", "m_2 (law)", "m_2 (counted)", "|reduced - full|"]
    table = Table("counts", "Singular values of the first factor on one number, with decay", columns, rows)
    caption = "Points: the two numbers, known in advance. With decay both fall, the fading one faster."
    return Outcome(verdicts, [Panels("spectra", "Singular values of W_1", panels, caption=caption)], [table])


def _verdicts(prefix: str, studies: dict[str, _Pair]) -> list[Verdict]:
    sizes = next(iter(studies.values())).sizes
    wrong = [0, 0]
    for one in studies.values():
        apart = not sizes.silent or not sizes.fading or abs(one.silent[-1] - one.fading[-1]) > APART
        for part, (counts, expected) in enumerate(zip(one.counted, (sizes.silent, sizes.fading), strict=True)):
            wrong[part] += sum(count != expected for count in counts) if apart else 0
    return [
        Verdict.of(f"{prefix}{sizes.silent} singular values that only decay moves: factors with another number", wrong[0], "==", 0),
        Verdict.of(f"{prefix}{sizes.fading} that shrink by their own gradient: factors with another number", wrong[1], "==", 0),
        Verdict.of(f"{prefix}distance from the two recursions", max(s.off_the_numbers for s in studies.values()), "<=", 1e-12),
        Verdict.of(f"{prefix}reduced run equals the full one, largest difference", max(s.reduced for s in studies.values()), "<=", 1e-12),
        Verdict.of(f"{prefix}loss = reduced loss + m_2 rho^(2L) / 2, relative", max(s.identity for s in studies.values()), "<=", 1e-12),
        Verdict.of(f"{prefix}off-diagonal blocks", max(s.off_block for s in studies.values()), "<=", 1e-13),
    ]  # fmt: skip


def _control(settings: GeneralSettings, outputs: int, rank: int) -> Verdict:
    problem, weights = _build(settings, outputs, rank)
    steps = min(settings.iterations, 100)
    other = simulate(problem, weights, Adam(settings.adam_step), steps=steps, mode="full")
    forms = block_forms(other, Bases.from_data(problem, weights))
    return Verdict.of("control: Adam, off-diagonal blocks", forms.off_block.max(), ">", 0.2)


def _spectrum(title: str, one: _Pair) -> Lines:
    times = one.run.times
    series = [
        Series(f"sigma_{i}", times, column, colour=0) for i, column in enumerate(one.run.singular_values(1).T, start=1)
    ]
    for name, count, number in (("silent", one.sizes.silent, one.silent), ("fading", one.sizes.fading, one.fading)):
        if count:
            series.append(
                Series(f"{count} {name}", times, np.abs(number), style="points", colour=1 + (name == "fading"))
            )
    name = f"spectrum-{title.replace(' outputs, rank ', '-')}"
    return Lines(name, title, "iteration", "singular value", series)


EXPERIMENTS = (
    Experiment(
        "parsimony-general",
        2,
        "Any number of outputs: two invariant parts",
        "The law of parsimony between and beyond its two cases",
        "Networks with every relation of inputs, outputs and rank, trained in full. "
        "max(0, d - r - d_y) singular values are moved by decay alone, max(0, d_y - 2r) shrink on a curve known in advance, "
        "and a network of width at most 3r + 2 follows the full one.",
        SOURCE + "; the general counts are this project's own",
        GeneralSettings,
        run,
        full={"iterations": 2000},
    ),
)

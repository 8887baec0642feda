"""More classes than dimensions: how far apart class means can be, and where training puts them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from lowdim._verdicts import Verdict
from lowdim.errors import UsageError
from lowdim.experiments._after import BEYOND
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.figures import Lines, Series, Table


@dataclass(frozen=True)
class Settings:
    """Unit features and unit classifier rows in d dimensions, cross-entropy at a temperature, 2 to 2d + 2 classes."""

    dimension: int = 4
    temperature: float = 0.3
    per_class: int = 2
    starts: int = 6
    iterations: int = 1500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dimension < 2 or self.per_class < 1 or self.starts < 1 or self.temperature < 0.01:
            raise UsageError(
                "dimension must be at least 2, per_class and starts at least 1, temperature at least 0.01."
            )


@dataclass(frozen=True)
class _Found:
    """The best of several starts."""

    loss: float
    features: Float[np.ndarray, "N d"]
    weight: Float[np.ndarray, "K d"]


def run(settings: Settings, progress: Progress) -> Outcome:
    """For each number of classes the best minimiser, its largest cosine and its NC2."""
    import torch

    from lowdim.metrics import simplex_distance
    from lowdim.statistics import ClassStatistics

    d = settings.dimension
    numbers = list(range(2, 2 * d + 3))
    rows: list[list[Any]] = []
    spread = duality = 0.0
    for classes in numbers:
        found = _best(settings, classes)
        labels = np.repeat(np.arange(classes), settings.per_class)
        means = np.stack([found.features[labels == k].mean(axis=0) for k in range(classes)])
        spread = max(spread, float(np.abs(found.features - means[labels]).max()))
        duality = max(duality, float(np.abs(means - found.weight).max()))
        cosines = means @ means.T
        largest = float(cosines[~np.eye(classes, dtype=bool)].max())
        statistics = ClassStatistics.from_samples(
            torch.from_numpy(found.features), torch.from_numpy(labels), classes=classes
        )
        nc2 = simplex_distance(statistics)
        rows.append([classes, _regime(classes, d), _bound(classes, d), largest, nc2.equiangularity, nc2.cosine_excess])
        progress(len(rows), len(numbers))
    return Outcome(_verdicts(settings, rows, spread, duality), [_figure(settings, rows)], [_table(rows)])


def _regime(classes: int, d: int) -> str:
    return "simplex" if classes <= d + 1 else "orthoplex" if classes <= 2 * d else "beyond"


def _bound(classes: int, d: int) -> float | None:
    """Smallest possible largest cosine of K unit vectors, where it is known in closed form."""
    return {"simplex": -1 / (classes - 1), "orthoplex": 0.0}.get(_regime(classes, d))


def _verdicts(settings: Settings, rows: list[list[Any]], spread: float, duality: float) -> list[Verdict]:
    part = {name: [row for row in rows if row[1] == name] for name in ("simplex", "orthoplex", "beyond")}
    farthest = {name: max(abs(row[3] - row[2]) for row in part[name]) for name in ("simplex", "orthoplex")}
    low = settings.temperature >= 0.2 and settings.dimension <= 4
    cold = "at low temperatures the optimum trades the largest cosine for the number of pairs that have it"
    wide = "in more than 4 dimensions the search from random starts may end beside the optimum"
    note = "" if low else cold if settings.temperature < 0.2 else wide
    return [
        Verdict.of("up to d + 1 classes: largest cosine, distance from -1/(K - 1)", farthest["simplex"], "<=", 1e-6),
        Verdict.of("d + 2 to 2d classes: largest cosine, distance from 0", farthest["orthoplex"], "<=", 1e-6, judged=low, note=note),
        Verdict.of("control: d + 2 to 2d classes, distance from -1/(K - 1), smallest", min(row[3] + 1 / (row[0] - 1) for row in part["orthoplex"]), ">", 0.05),
        Verdict.of("control: more than 2d classes, smallest largest cosine", min(row[3] for row in part["beyond"]), ">", 0.05),
        Verdict.of("NC2 as measured: distance to the target of its regime, up to 2d classes", max(abs(row[5]) for row in (*part["simplex"], *part["orthoplex"])), "<=", 1e-6, judged=low, note=note),
        Verdict.of("control: NC2 to the simplex, d + 2 to 2d classes, smallest", min(row[4] for row in part["orthoplex"]), ">", 0.05),
        Verdict.of("features of one class, distance from their mean", spread, "<=", 1e-5, judged=low, note=note),
        Verdict.of("classifier rows, distance from the class means", duality, "<=", 1e-5, judged=low, note=note),
    ]  # fmt: skip


def _best(settings: Settings, classes: int) -> _Found:
    """The smallest loss over random starts; directions are free variables, normalised inside the loss."""
    results = []
    for start in range(settings.starts):
        random = np.random.default_rng([settings.seed, classes, start])
        shape = (classes * (1 + settings.per_class), settings.dimension)
        with threadpool_limits(1, "blas"):  # small matrices: threads would wait for each other
            solution = minimize(
                _objective, random.standard_normal(shape).ravel(), (settings, classes), jac=True, method="L-BFGS-B",
                options={"maxiter": settings.iterations, "maxfun": 2 * settings.iterations, "ftol": 0, "gtol": 1e-12, "maxcor": 30},
            )  # fmt: skip
        rows = solution.x.reshape(shape)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        results.append(_Found(float(solution.fun), rows[classes:], rows[:classes]))
    return min(results, key=lambda found: found.loss)


def _objective(
    flat: Float[np.ndarray, " p"], settings: Settings, classes: int
) -> tuple[float, Float[np.ndarray, " p"]]:
    """Logarithm of the mean cross-entropy, whose minimisers are the same and which is better scaled, and its gradient."""
    free = flat.reshape(-1, settings.dimension)
    lengths = np.linalg.norm(free, axis=1, keepdims=True)
    rows = free / lengths
    weight, features = rows[:classes], rows[classes:]
    labels = np.repeat(np.arange(classes), settings.per_class)
    margins = features @ weight.T / settings.temperature
    margins -= np.take_along_axis(margins, labels[:, None], axis=1)
    wrong = np.exp(margins)
    wrong[np.arange(len(labels)), labels] = 0
    sums = wrong.sum(axis=1)
    loss = float(np.log1p(sums).mean())
    slope = wrong / (1 + sums)[:, None]
    slope[np.arange(len(labels)), labels] = -slope.sum(axis=1)
    slope /= len(labels) * settings.temperature * loss
    gradient = np.concatenate([slope.T @ features, slope @ weight])
    gradient = (gradient - np.sum(gradient * rows, axis=1, keepdims=True) * rows) / lengths
    return float(np.log(loss)), gradient.ravel()


def _table(rows: list[list[Any]]) -> Table:
    columns = [
        "classes",
        "regime",
        "smallest possible",
        "largest cosine",
        "NC2 to the simplex",
        "NC2 to the regime's target",
    ]
    return Table("cosines", "Largest cosine between class means", columns, rows)


def _figure(settings: Settings, rows: list[list[Any]]) -> Lines:
    numbers = np.array([row[0] for row in rows])
    known = [row for row in rows if row[2] is not None]
    return Lines(
        "cosines",
        f"Class means in {settings.dimension} dimensions",
        "classes",
        "largest cosine between two class means",
        [
            Series("found", numbers, np.array([row[3] for row in rows]), style="line+points"),
            Series("smallest possible", np.array([row[0] for row in known]), np.array([row[2] for row in known]), style="points"),
            Series("-1/(K - 1)", numbers, -1 / (numbers - 1), style="dashed"),
        ],
        caption="Up to d + 1 classes a simplex, up to 2d right angles at best; beyond, some angle is acute.",
    )  # fmt: skip


EXPERIMENTS = (
    Experiment(
        "more-classes-than-dimensions",
        BEYOND,
        "More classes than dimensions: from simplex to right angles",
        "beyond it: neural collapse assumes d >= K - 1",
        "Unit features and classifier rows are trained with cross-entropy in few dimensions. The largest cosine between class means is the smallest possible: "
        "-1/(K - 1) up to d + 1 classes, 0 up to 2d, positive beyond; NC2 names the distance to the target that can be reached.",
        "Alcala et al. (2026), arXiv:2603.20587; Jiang et al. (2023), arXiv:2310.05351; Rankin (1955), doi:10.1017/S2040618500033219",
        Settings,
        run,
        full={"starts": 20, "iterations": 10_000},
        needs=("torch",),
    ),
)

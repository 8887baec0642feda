"""Free features under the squared loss with classes of unequal size: which class vanishes, and how long the others are."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lowdim._verdicts import Verdict
from lowdim.dynamics import FreeFeatures, free_features
from lowdim.errors import UsageError
from lowdim.experiments._after import BEYOND, alternating_minimum
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.figures import Lines, Panels, Series, Table


@dataclass(frozen=True)
class Settings:
    """Class sizes, and the strengths N sqrt(lambda_W lambda_H) / sqrt(n_k) halfway between which each run lies."""

    counts: tuple[int, ...] = (60, 40, 25, 12, 6, 2)
    dimension: int = 8
    weight_decay: float = 1e-3
    iterations: int = 20_000
    starts: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        counts = self.counts
        falls = len(counts) >= 2 and all(a > b for a, b in zip(counts, (*counts[1:], 0), strict=True))
        if not falls or self.dimension < len(counts) or self.starts < 1:
            raise UsageError(
                f"counts must be two or more class sizes that fall, dimension at least as many, starts at least 1; they are "
                f"{counts}, {self.dimension} and {self.starts}."
            )

    @property
    def sizes(self) -> Float[np.ndarray, " K"]:
        """n_k."""
        return np.array(self.counts, float)

    @property
    def targets(self) -> Float[np.ndarray, "K N"]:
        """One-hot columns, class by class."""
        return np.repeat(np.eye(len(self.counts)), self.counts, axis=1)

    def feature_decay(self, product: float) -> float:
        """lambda_H for a given N^2 lambda_W lambda_H."""
        return product / (sum(self.counts) ** 2 * self.weight_decay)

    @property
    def products(self) -> Float[np.ndarray, " K"]:
        """N^2 lambda_W lambda_H of each run: below the smallest class, then between two neighbours."""
        return np.sqrt(self.sizes * np.append(self.sizes[1:], self.sizes[-1] / 4))[::-1]


def run(settings: Settings, progress: Progress) -> Outcome:
    """For each strength the minimiser found from random starts, against the closed form."""
    K = len(settings.counts)
    norms: list[Float[np.ndarray, " K"]] = []
    errors: list[dict[str, float]] = []
    wrong = 0
    for index, product in enumerate(settings.products):
        decays = settings.weight_decay, settings.feature_decay(float(product))
        best = free_features(settings.targets, *decays)
        for start in range(settings.starts):
            random = np.random.default_rng([settings.seed, index, start])
            found = alternating_minimum(
                settings.targets, *decays, random.standard_normal((K, settings.dimension)), settings.iterations
            )
            errors.append(_errors(settings, found, best, decays))
            lengths = np.sum(found.weight**2, axis=1)
            wrong += int(np.sum((lengths <= 1e-12) != (settings.sizes <= product)))
            if start == 0:
                norms.append(lengths)
        progress(index + 1, len(settings.products))
    worst = {name: max(error[name] for error in errors) for name in errors[0]}
    verdicts = [
        Verdict.of("classes that vanish although n_k > N^2 lambda_W lambda_H, or stay although not", wrong, "==", 0),
        Verdict.of("|loss - closed form| / closed form", worst["loss"], "<=", 1e-12),
        Verdict.of("squared norms of the classifier's rows, distance from sqrt(lambda_H / lambda_W) (sqrt(n_k) - threshold)", worst["norms"], "<=", 1e-12),
        Verdict.of("squared norms of the class means, distance from sqrt(lambda_W / lambda_H) (sqrt(n_k) - threshold) / n_k", worst["means"], "<=", 1e-12),
        Verdict.of("squared norms in the closed form, distance from those found", worst["closed"], "<=", 1e-12),
        Verdict.of("product W H, distance from the closed form", worst["product"], "<=", 1e-12),
        Verdict.of("features of one class, distance from their mean", worst["within"], "<=", 1e-12),
        Verdict.of("cosines between rows that have not vanished", worst["cosine"], "<=", 1e-10),
        Verdict.of("control: rows all of the mean length, relative error", worst["equal"], ">", 0.2),
    ]  # fmt: skip
    return Outcome(verdicts, [_figure(settings, norms)], [_table(settings, norms)])


def _errors(
    settings: Settings, found: FreeFeatures, best: FreeFeatures, decays: tuple[float, float]
) -> dict[str, float]:
    """How far a minimiser is from each statement; lengths relative to the largest."""
    weight_decay, feature_decay = decays
    squares = np.sum(found.weight**2, axis=1)
    expected = np.sqrt(feature_decay / weight_decay) * np.maximum(np.sqrt(settings.sizes) - best.threshold, 0)
    size, kept = expected.max() or 1.0, expected > 0
    rows = found.weight[kept] / np.sqrt(squares[kept])[:, None]
    means = found.features @ settings.targets.T / settings.sizes
    spread = found.features - means @ settings.targets
    lengths = np.sum(means**2, axis=0)
    of_means = weight_decay / feature_decay * expected / settings.sizes
    closed = [
        np.sum(best.weight**2, axis=1),
        np.sum((best.features @ settings.targets.T / settings.sizes) ** 2, axis=0),
    ]
    return {
        "loss": abs(found.loss / best.loss - 1),
        "norms": float(np.abs(squares - expected).max() / size),
        "means": float(np.abs(lengths - of_means).max() / (of_means.max() or 1.0)),
        "closed": max(
            float(np.abs(squares - closed[0]).max() / size),
            float(np.abs(lengths - closed[1]).max() / (of_means.max() or 1.0)),
        ),
        "product": float(np.abs(found.weight @ found.features - best.weight @ best.features).max()),
        "within": float(np.abs(spread).max() / (np.abs(found.features).max() or 1.0)),
        "cosine": float(np.abs(rows @ rows.T - np.eye(len(rows))).max(initial=0.0)),
        "equal": float(np.abs(squares[kept] / squares[kept].mean() - 1).max()) if kept.any() else 0.0,
    }


def _figure(settings: Settings, norms: list[Float[np.ndarray, " K"]]) -> Panels:
    """Squared norms against the strength: curves from the formula, points from the minimisers."""
    sizes, total = settings.sizes, sum(settings.counts)
    products = np.linspace(settings.products[0] / 2, 1.05 * sizes[0], 300)
    lines: list[Series] = []
    for k, size in enumerate(sizes):
        curve = np.maximum(np.sqrt(size) - np.sqrt(products), 0) * np.sqrt(products) / (total * settings.weight_decay)
        lines.append(Series(f"n = {settings.counts[k]}", np.sqrt(products), curve, colour=k))
    at, measured = np.repeat(np.sqrt(settings.products), len(sizes)), np.concatenate(norms)
    lines.append(Series("found", at, measured, style="points"))
    smallest = norms[0]
    root = Series("found", np.sqrt(sizes), smallest, style="points")
    threshold = float(np.sqrt(settings.products[0]))
    factor = threshold / (total * settings.weight_decay)
    x = np.array([threshold, np.sqrt(sizes[0])])
    law = Series("sqrt(n) less the threshold, times a constant", x, factor * (x - threshold))
    return Panels(
        "norms",
        "Small classes vanish one after the other",
        [
            Lines("strength", "Against the strength of the decay", "N sqrt(lambda_W lambda_H)", "squared norm of the row", lines),
            Lines("sizes", "At the weakest decay", "sqrt(n_k)", "squared norm of the row", [law, root]),
        ],
        columns=2,
        caption="Each curve ends where N sqrt(lambda_W lambda_H) reaches the root of the class size.",
    )  # fmt: skip


def _table(settings: Settings, norms: list[Float[np.ndarray, " K"]]) -> Table:
    rows = [
        [float(product), int(np.sum(settings.sizes <= product)), int(np.sum(row <= 1e-12)), *row.tolist()]
        for product, row in zip(settings.products, norms, strict=True)
    ]
    names = [f"n = {count}" for count in settings.counts]
    columns = ["N^2 lambda_W lambda_H", "vanish (law)", "vanished", *names]
    return Table("norms", "Squared norms of the classifier's rows", columns, rows)


EXPERIMENTS = (
    Experiment(
        "class-imbalance",
        BEYOND,
        "Small classes vanish at a threshold that is known",
        "beyond it: neural collapse with classes of unequal size",
        "Features and classifier are free, under weight decay and the squared loss, and the classes differ in size. The rows of the classifier are orthogonal, "
        "of squared length proportional to sqrt(n_k) less a threshold; a class with n_k <= N^2 lambda_W lambda_H is given up altogether.",
        "Dang et al. (2023), arXiv:2301.00437; the derivation stands in theory.md",
        Settings,
        run,
        full={"counts": (600, 400, 250, 120, 60, 20), "dimension": 64},
    ),
)

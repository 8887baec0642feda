"""Free features under several factors: depth makes lower rank cheaper than the frame."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize, minimize_scalar, root_scalar
from threadpoolctl import threadpool_limits

from lowdim._verdicts import Verdict
from lowdim.dynamics import factor_cost, initialize
from lowdim.dynamics._network import end_to_end
from lowdim.errors import UsageError
from lowdim.experiments._after import BEYOND
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.figures import Lines, Panels, Series, Table

Matrix = Float[np.ndarray, "K K"]


@dataclass(frozen=True)
class Settings:
    """K classes with one feature each; L factors, the features among them, all under one decay."""

    classes: int = 6
    decay: float = 1e-3
    depths: tuple[int, ...] = (2, 3, 4, 5, 6, 8)
    trained: tuple[int, ...] = (2, 4)
    starts: int = 4
    iterations: int = 3000
    samples: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.classes < 4 or self.decay <= 0 or min(self.depths) < 2 or min(self.trained) < 2 or self.starts < 1:
            raise UsageError(
                "classes must be at least 4, decay > 0, every depth (features included) at least 2, starts at least 1."
            )


def frame(classes: int) -> Matrix:
    """Logits of the simplex frame with margin 1: K - 1 equal singular values."""
    return np.eye(classes) - 1 / classes


def orthoplex(classes: int) -> Matrix:
    """Logits with margin 1 of opposite pairs at right angles to one another, and one triangle where K is odd."""
    result = np.zeros((classes, classes))
    for first in range(0, classes - 1, 2):
        size = 3 if classes % 2 and first == classes - 3 else 2
        block = slice(first, first + size)
        result[block, block] = frame(size) * size / (size - 1)
        if size == 3:
            break
    return result


def polygon(classes: int) -> Matrix:
    """Logits with margin 1 of a regular polygon: two singular values."""
    angles = 2 * np.pi * np.arange(classes) / classes
    return np.cos(angles[:, None] - angles) / (1 - np.cos(angles[1]))


SHAPES = {"frame": frame, "orthoplex": orthoplex, "polygon": polygon}


def least_loss(logits: Matrix, decay: float, depth: float) -> tuple[float, float]:
    """Smallest cross-entropy plus decay over all multiples of the logits, and that multiple; 0 where nothing is learned."""
    values = np.linalg.svd(logits, compute_uv=False)
    values = values[values > 1e-10 * values[0]]
    margins = logits - np.diag(logits)

    def loss(logarithm: float) -> float:
        scale = math.exp(logarithm)
        return float(np.log(np.exp(scale * margins).sum(axis=0)).mean()) + factor_cost(scale * values, decay, depth)

    grid = np.linspace(-6, 6, 121)
    best = int(np.argmin([loss(point) for point in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-12})
    nothing = math.log(len(logits))
    return (float(found.fun), math.exp(float(found.x))) if found.fun < nothing else (nothing, 0.0)


def critical_depth(classes: int) -> float:
    r"""Depth beyond which opposite pairs beat the frame as the decay vanishes, for even K: $2 / \log_2(2 - 2/K)$.

    At margin t both have the same data term up to a constant factor, and t grows like $\log(1/\lambda)$; the decay costs the frame
    $(K - 1) t^{2/L}$ and the pairs $\tfrac K2 (2t)^{2/L}$.
    """
    return 2 / math.log2(2 - 2 / classes)


def crossing(classes: int) -> float:
    r"""Depth, a real number, at which the exact losses of pairs and frame agree, carried on to no decay.

    At finite decay it is off by a constant over the margin, which grows like $\log(1/\lambda)$. Infinite where they agree nowhere.
    """

    decays = 1e-6, 1e-12

    def excess(depth: float, decay: float) -> float:
        return least_loss(orthoplex(classes), decay, depth)[0] / least_loss(frame(classes), decay, depth)[0] - 1

    if any(excess(1.5, decay) * excess(8, decay) > 0 for decay in decays):
        return math.inf
    first, second = (float(root_scalar(excess, (decay,), bracket=(1.5, 8), xtol=1e-9).root) for decay in decays)
    near, far = (1 / math.log(1 / decay) for decay in decays)
    return second + (second - first) * far / (near - far)


def run(settings: Settings, progress: Progress) -> Outcome:
    """Exact losses of three shapes against depth, trained factors at some depths, and the squared loss beside it."""
    losses = {name: np.array([least_loss(shape(settings.classes), settings.decay, depth)[0] for depth in settings.depths]) for name, shape in SHAPES.items()}  # fmt: skip
    progress(1, 2 + len(settings.trained))
    verdicts = _shape_verdicts(settings, losses)
    rows: list[list[object]] = []
    for depth in settings.trained:
        loss, values = _train(settings, depth)
        rank = int(np.sum(values > 1e-3 * values[0]))
        of_frame = least_loss(frame(settings.classes), settings.decay, depth)[0]
        of_shapes = min(least_loss(shape(settings.classes), settings.decay, depth)[0] for shape in SHAPES.values())
        rows.append([depth, loss, of_frame, of_shapes, rank])
        if depth == 2:
            verdicts.append(
                Verdict.of("2 factors, trained: |loss - frame's| / frame's", abs(loss / of_frame - 1), "<=", 1e-6)
            )
            verdicts.append(Verdict.of("2 factors, trained: rank", rank, "==", settings.classes - 1))
        elif settings.classes % 2 == 0 and depth > critical_depth(settings.classes):
            verdicts += [
                Verdict.of(f"{depth} factors, trained: loss over the frame's", loss / of_frame, "<", 1),
                Verdict.of(f"{depth} factors, trained: rank", rank, "<", settings.classes - 1),
                Verdict.of(f"{depth} factors, trained: |loss - least of the shapes| / it", abs(loss / of_shapes - 1), "<=", 1e-6, judged=settings.classes <= 6, note="" if settings.classes <= 6 else "with many classes other shapes lie between"),
            ]  # fmt: skip
        progress(1 + len(rows), 2 + len(settings.trained))
    verdicts += _squared(settings)
    progress(2 + len(rows), 2 + len(settings.trained))
    trained = Table(
        "trained", "Best of several random starts", ["factors", "loss", "frame", "best of the shapes", "rank"], rows
    )
    exact = Table(
        "shapes", "Smallest loss of each shape", ["factors", *losses],
        [[depth, *(float(curve[i]) for curve in losses.values())] for i, depth in enumerate(settings.depths)],
    )  # fmt: skip
    notes = [
        f"As the decay vanishes, opposite pairs beat the frame beyond {critical_depth(settings.classes):.3g} factors."
    ]
    return Outcome(
        verdicts, [_figure(settings, losses, rows)], [exact, trained], notes if settings.classes % 2 == 0 else []
    )


def _shape_verdicts(settings: Settings, losses: dict[str, Float[np.ndarray, " D"]]) -> list[Verdict]:
    """Where the frame is beaten, in exact losses, against the depth that the limit predicts."""
    depths = np.array(settings.depths)
    beaten = losses["orthoplex"] < losses["frame"]
    even, weak = settings.classes % 2 == 0, settings.decay <= 0.02
    note = "" if even and weak else "the critical depth is for an even number of classes and a decay of at most 0.02"
    critical = critical_depth(settings.classes)
    deepest = int(np.argmax(depths))
    relative = losses["orthoplex"] / losses["frame"] - 1
    return [
        Verdict.of(f"depths at which the exact losses disagree with the critical depth {critical:.4g}", (beaten != (depths > critical)).sum(), "==", 0, judged=even and weak, note=note),
        Verdict.of("depth at which pairs and frame cost the same as the decay vanishes, distance from it", abs(crossing(settings.classes) - critical) if even else math.nan, "<=", 0.01, judged=even, note="" if even else note),
        Verdict.of("control: 2 factors, pairs over the frame less 1", relative[depths == 2].min(initial=np.inf), ">", 0, judged=2 in settings.depths, note="" if 2 in settings.depths else "2 is not among the depths"),
        Verdict.of("deepest: best lower rank over the frame", min(losses[name][deepest] for name in ("orthoplex", "polygon")) / losses["frame"][deepest], "<", 1, judged=depths[deepest] >= 5, note="" if depths[deepest] >= 5 else "needs a depth of 5 or more"),
        Verdict.of("least decay in closed form against explicit factors, relative error", _factor_error(settings), "<=", 1e-12),
    ]  # fmt: skip


def _factor_error(settings: Settings) -> float:
    """Of the balanced factors of the frame, multiplied out."""
    depth, logits = max(settings.depths), frame(settings.classes) * 7.0
    left, values, right = np.linalg.svd(logits)
    values[-1] = 0  # the frame has rank K - 1; a root of rounding noise would not be small
    root = np.diag(values ** (1 / depth))
    factors = [root @ right, *[root] * (depth - 2), left @ root]
    cost = settings.decay / 2 * sum(float(np.sum(factor**2)) for factor in factors)
    assert np.allclose(end_to_end(factors), logits)
    return abs(cost / factor_cost(values[:-1], settings.decay, depth) - 1)


def _train(settings: Settings, depth: int) -> tuple[float, Float[np.ndarray, " K"]]:
    """Smallest loss over random starts of L square factors, and the singular values of their product."""
    K = settings.classes

    def objective(flat: Float[np.ndarray, " p"]) -> tuple[float, Float[np.ndarray, " p"]]:
        factors = flat.reshape(depth, K, K)
        products = [np.eye(K)]
        for factor in factors:
            products.append(factor @ products[-1])
        logits = products[-1] - products[-1].max(axis=0)
        shares = np.exp(logits) / np.exp(logits).sum(axis=0)
        loss = -float(np.log(np.diag(shares)).mean()) + settings.decay / 2 * float(np.sum(factors**2))
        backward, slopes = (shares - np.eye(K)) / K, np.empty_like(factors)
        for layer in range(depth - 1, -1, -1):
            slopes[layer] = backward @ products[layer].T + settings.decay * factors[layer]
            backward = factors[layer].T @ backward
        return loss, slopes.ravel()

    best, values = math.inf, np.zeros(K)
    for start in range(settings.starts):
        random = np.random.default_rng([settings.seed, depth, start])
        weights = np.stack(initialize([K] * (depth + 1), random, kind="normal", scale=1.5))
        with threadpool_limits(1, "blas"):  # small matrices: threads would wait for each other
            found = minimize(
                objective, weights.ravel(), jac=True, method="L-BFGS-B",
                options={"maxiter": settings.iterations, "maxfun": 2 * settings.iterations, "ftol": 0, "gtol": 1e-10},
            )  # fmt: skip
        if found.fun < best:
            best = float(found.fun)
            values = np.linalg.svd(end_to_end(list(found.x.reshape(depth, K, K))), compute_uv=False)
    return best, values


def _squared(settings: Settings) -> list[Verdict]:
    r"""Under the squared loss each singular value is on its own, so depth leaves all K or none: never a lower rank.

    With $s = \sqrt n\,u$ the loss of one is $\frac{n}{2N}[(1 - u)^2 + c\,u^{2/L}]$, which beats u = 0 while
    $c < L/(L-1)\,\big(\frac{L-2}{L-1}\big)^{1 - 2/L}$; at that point u jumps to (L - 2)/(L - 1).
    """
    depth = max(settings.depths)
    total = settings.classes * settings.samples
    u = (depth - 2) / (depth - 1)
    critical = depth / (depth - 1) * u ** (1 - 2 / depth)
    kept: list[float] = []
    for factor in (0.999, 1.001):
        decay = factor * critical * settings.samples ** (1 - 1 / depth) / (total * depth)

        def loss(value: float, decay: float = decay) -> float:
            return (value - math.sqrt(settings.samples)) ** 2 / (2 * total) + factor_cost(
                np.array([value]), decay, depth
            )

        grid = np.linspace(0, math.sqrt(settings.samples), 20_001)
        best = grid[int(np.argmin([loss(float(value)) for value in grid]))]
        kept.append(float(best) / math.sqrt(settings.samples))
    return [
        Verdict.of(f"squared loss, {depth} factors: every singular value, just below its critical decay, distance from (L - 2)/(L - 1)", abs(kept[0] - u), "<=", 2e-3, judged=depth > 2, note="" if depth > 2 else "two factors shrink without a jump"),
        Verdict.of("the same just above: nothing is left", kept[1], "<=", 0.02 if depth == 2 else 0.0),
    ]  # fmt: skip


def _figure(settings: Settings, losses: dict[str, Float[np.ndarray, " D"]], rows: list[list[object]]) -> Panels:
    depths = np.array(settings.depths)
    shapes = [
        Series(f"{name}, rank {_rank(name, settings.classes)}", depths, curve, style="line+points")
        for name, curve in losses.items()
    ]
    shapes.append(
        Series("trained", np.array([row[0] for row in rows]), np.array([row[1] for row in rows]), style="points")
    )
    numbers = np.arange(4, 41, 2)
    critical = np.array([critical_depth(int(number)) for number in numbers])
    return Panels(
        "depth",
        "The frame against lower rank",
        [
            Lines("losses", f"{settings.classes} classes: smallest loss of each shape", "factors, features included", "cross-entropy + decay", shapes),
            Lines("critical", "Depth beyond which the frame is not optimal", "classes", "factors", [Series("2 / log2(2 - 2/K)", numbers, critical, style="line+points")]),
        ],
        columns=2,
        caption="Each loss is minimal over the scale of its shape. Right: the limit of small decay; two factors keep the frame for every K.",
    )  # fmt: skip


def _rank(name: str, classes: int) -> int:
    return int(np.linalg.matrix_rank(SHAPES[name](classes)))


EXPERIMENTS = (
    Experiment(
        "deep-unconstrained-features",
        BEYOND,
        "With more factors the simplex frame stops being optimal",
        "beyond it: the unconstrained features of neural collapse have two factors",
        "The logits are a product of several factors, the features among them, all under weight decay and cross-entropy. The exact losses of three shapes are "
        "compared: beyond a depth that depends on the number of classes alone, opposite pairs at right angles, of half the rank, cost less than the frame.",
        "Garrod and Keating (2025), arXiv:2410.23169; Sukenik et al. (2024), arXiv:2405.14468; the critical depth is derived in theory.md",
        Settings,
        run,
        full={
            "classes": 10,
            "depths": (2, 3, 4, 5, 6, 8, 12),
            "trained": (2, 3, 4, 6),
            "starts": 10,
            "iterations": 20_000,
        },
    ),
)

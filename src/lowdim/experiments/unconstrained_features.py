"""Section 1: with the features themselves as free variables, gradient descent ends at a simplex frame."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from lowdim._random import child_seed
from lowdim._verdicts import Verdict
from lowdim.errors import NonFiniteError
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.figures import Lines, Panels, Series

Loss = Literal["cross-entropy", "squared"]
Matrix = Float[np.ndarray, "a b"]


@dataclass(frozen=True)
class Settings:
    """K classes of n features of dimension d; three regularisers; gradient descent with momentum."""

    seed: int = 0
    classes: int = 5
    per_class: int = 8
    dimension: int = 12
    weight_decay: float = 5e-3
    feature_decay: float = 1e-3
    bias_decay: float = 1e-2
    iterations: int = 12_000
    step: float = 1.0
    momentum: float = 0.9
    starts: int = 3


@dataclass
class Variables:
    """Classifier ``K x d``, features ``d x N`` and bias ``K``."""

    W: Matrix
    H: Matrix
    b: Float[np.ndarray, " K"]


def targets(settings: Settings) -> Matrix:
    """One-hot columns, class by class."""
    return np.repeat(np.eye(settings.classes), settings.per_class, axis=1)


def objective(at: Variables, Y: Matrix, settings: Settings, loss: Loss) -> tuple[float, Variables]:
    """The regularised loss and its gradient. The bias of the squared loss is free, as the theory needs it."""
    samples = Y.shape[1]
    Z = at.W @ at.H + at.b[:, None]
    if loss == "cross-entropy":
        shifted = Z - Z.max(axis=0)
        log_sum = np.log(np.exp(shifted).sum(axis=0))
        fit = float((log_sum - (shifted * Y).sum(axis=0)).mean())
        residual = (np.exp(shifted - log_sum) - Y) / samples
        decay = settings.bias_decay
    else:
        fit = float(((Z - Y) ** 2).sum() / (2 * samples))
        residual, decay = (Z - Y) / samples, 0.0
    lam_w, lam_h = settings.weight_decay, settings.feature_decay
    value = fit + (lam_w * (at.W**2).sum() + lam_h * (at.H**2).sum() + decay * (at.b**2).sum()) / 2
    gradient = Variables(
        residual @ at.H.T + lam_w * at.W, at.W.T @ residual + lam_h * at.H, residual.sum(axis=1) + decay * at.b
    )
    return float(value), gradient


def optimum(settings: Settings, loss: Loss) -> float:
    r"""The smallest value of the regularised loss, in closed form.

    Cross-entropy: at a minimiser the rows of W form a simplex frame of radius a and each feature is
    $h_k = \sqrt{\lambda_W / (n \lambda_H)}\, w_k$, which leaves one scalar equation; it is solved by
    $t = \log(1/\sqrt{n \lambda_W \lambda_H} - K + 1)$ for the margin t between the right and any wrong score.

    Squared loss: the two decays act as $\sqrt{\lambda_W \lambda_H}$ times the nuclear norm of WH, so the K - 1 singular
    values $\sqrt n$ of the centred targets are shrunk by $N \sqrt{\lambda_W \lambda_H}$.
    """
    K, n = settings.classes, settings.per_class
    strength = math.sqrt(settings.weight_decay * settings.feature_decay)
    if loss == "squared":
        shrink = min(K * n * strength, math.sqrt(n))
        return (K - 1) * (shrink**2 / (2 * K * n) + strength * (math.sqrt(n) - shrink))
    margin = math.log(max(1 / (math.sqrt(n) * strength) - K + 1, 1.0))
    radius_squared = margin * (K - 1) / K * math.sqrt(n * settings.feature_decay / settings.weight_decay)
    return math.log1p((K - 1) * math.exp(-margin)) + settings.weight_decay * K * radius_squared


def collapse(at: Variables, settings: Settings) -> dict[str, float]:
    """NC1, the three NC2 values and NC3 of the current features."""
    import torch

    from lowdim.metrics import self_duality, simplex_distance, within_class_variability
    from lowdim.statistics import ClassStatistics

    labels = torch.arange(settings.classes).repeat_interleave(settings.per_class)
    statistics = ClassStatistics.from_samples(torch.from_numpy(at.H.T.copy()), labels, classes=settings.classes)
    frame = simplex_distance(statistics)
    return {
        "NC1": within_class_variability(statistics),
        "equinorm": frame.equinorm,
        "equiangularity": frame.equiangularity,
        "ETF distance": frame.etf_distance,
        "NC3": self_duality(statistics, torch.from_numpy(at.W)),
    }


def descend(settings: Settings, loss: Loss, seed: int) -> tuple[list[tuple[int, float, dict[str, float]]], float]:
    """Gradient descent with momentum from a random start; returns (iteration, loss, collapse) now and then, and the last loss."""
    rng = np.random.default_rng(seed)
    K, d, Y = settings.classes, settings.dimension, targets(settings)
    scale = 1 / math.sqrt(d)
    at = Variables(rng.normal(0, scale, (K, d)), rng.normal(0, scale, (d, Y.shape[1])), rng.normal(0, scale, K))
    speed = Variables(np.zeros_like(at.W), np.zeros_like(at.H), np.zeros_like(at.b))
    marks = set(np.unique(np.geomspace(1, settings.iterations, 60).astype(int)).tolist())
    history: list[tuple[int, float, dict[str, float]]] = []
    # The loss is a mean over N samples, so a feature's gradient is N times smaller than the classifier's.
    for iteration in range(1, settings.iterations + 1):
        with np.errstate(over="ignore", invalid="ignore"):
            value, gradient = objective(at, Y, settings, loss)
        if not math.isfinite(value):
            raise NonFiniteError(
                f"Gradient descent on the {loss} loss diverged at iteration {iteration}. Take a smaller step, "
                f"such as `step={settings.step / 4:g}`."
            )
        for name, factor in (("W", 1.0), ("H", float(settings.per_class)), ("b", 1.0)):
            velocity = settings.momentum * getattr(speed, name) - settings.step * factor * getattr(gradient, name)
            setattr(speed, name, velocity)
            setattr(at, name, getattr(at, name) + velocity)
        if iteration in marks:
            history.append((iteration, value, collapse(at, settings)))
    return history, objective(at, Y, settings, loss)[0]


def run(settings: Settings, progress: Progress) -> Outcome:
    """Both losses from several random starts, against the closed-form optimum."""
    verdicts: list[Verdict] = []
    panels: list[Lines] = []
    losses: tuple[Loss, Loss] = ("cross-entropy", "squared")
    for part, loss in enumerate(losses):
        runs = []
        for start in range(settings.starts):
            runs.append(descend(settings, loss, child_seed(settings.seed, loss, start)))
            progress(part * settings.starts + start + 1, 2 * settings.starts)
        worst = {key: max(history[-1][2][key] for history, _ in runs) for key in runs[0][0][-1][2]}
        best = optimum(settings, loss)
        gap = max(abs(last - best) / best for _, last in runs)
        enough = settings.dimension >= settings.classes - 1
        note = "" if enough else "needs dimension >= classes - 1"
        verdicts += [
            Verdict.of(
                f"{loss}: {key}, largest over starts",
                value,
                "<",
                1e-8 if key == "NC1" else 1e-4,
                judged=enough,
                note=note,
            )
            for key, value in worst.items()
        ]
        verdicts.append(
            Verdict.of(f"{loss}: |loss - closed form| / closed form", gap, "<=", 1e-9, judged=enough, note=note)
        )
        history = runs[0][0]
        x = np.array([iteration for iteration, _, _ in history])
        series = [Series(key, x, np.array([found[key] for _, _, found in history])) for key in history[0][2]]
        excess = np.maximum(np.array([value for _, value, _ in history]) - best, 1e-17)
        series.append(Series("loss - closed form", x, excess, style="dashed"))
        panels.append(Lines(f"collapse-{loss}", loss, "iteration", "value", series, log_x=True, log_y=True))
    figure = Panels(
        "collapse",
        "Every measure of collapse tends to zero",
        panels,
        columns=2,
        caption="The first of the random starts.",
    )
    return Outcome(verdicts, [figure])


EXPERIMENTS = (
    Experiment(
        id="unconstrained-features",
        section=1,
        title="Unconstrained features: every minimiser is a simplex frame",
        lecture="1. Neural collapse: why it happens",
        why=(
            "The features are free variables, together with classifier and bias, under weight decay. From every start gradient "
            "descent reaches a simplex equiangular tight frame with features proportional to the classifier, at the loss that a "
            "scalar equation predicts."
        ),
        source="Zhu et al. 2021 (NeurIPS 34, arXiv 2105.02375); Zhou et al. 2022 (arXiv 2203.01238) for the squared loss.",
        settings=Settings,
        run=run,
        needs=("torch",),
        full={
            "classes": 10,
            "per_class": 50,
            "dimension": 64,
            "iterations": 60_000,
            "feature_decay": 1e-4,
            "weight_decay": 1e-3,
        },
        cost=4,
    ),
)

"""The lecture's figures of progressive separation: linear and ReLU, depth, initial scale, initial distribution."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lowdim._verdicts import Verdict
from lowdim.dynamics import log_line, sharp_ratio
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.experiments._separation import LARGEST_SCALE, SOURCE, Classes, DataSettings, fit_series, profile_series
from lowdim.figures import Lines, Series, Table

JUDGED_RELU = (6, 8)
"""Depths at which the whole ReLU profile is judged; in deeper ones the last layers flatten."""


@dataclass(frozen=True)
class LinearReluSettings(DataSettings):
    """L = 8, eps = .5, s = 1."""

    depth: int = 8
    eps: float = 0.5
    step: float = 1.0
    iterations: int = 200_000
    relu_loss: float = 1e-7


@dataclass(frozen=True)
class DepthSettings(DataSettings):
    """Several depths, linear and ReLU."""

    depths: tuple[int, ...] = (6, 8, 10)
    relu_depths: tuple[int, ...] = (6, 8)
    eps: float = 0.5
    step: float = 1.0
    iterations: int = 200_000
    relu_loss: float = 1e-7


@dataclass(frozen=True)
class ScaleSettings(DataSettings):
    """L = 4 with a larger step."""

    depth: int = 4
    scales: tuple[float, ...] = (0.5, 0.25, 0.125)
    step: float = 10.0
    iterations: int = 100_000


@dataclass(frozen=True)
class InitSettings(DataSettings):
    """Three distributions of the same Frobenius norm."""

    depth: int = 8
    eps: float = 0.5
    step: float = 1.0
    iterations: int = 100_000


def run_linear_relu(settings: LinearReluSettings, progress: Progress) -> Outcome:
    """One linear and one ReLU network of the same shape."""
    data = settings.data
    linear = data.profile(data.linear(settings.depth, settings.eps, settings.step, settings.iterations))
    relu = data.relu(settings.depth, settings.eps, settings.step, settings.iterations, settings.relu_loss, progress)
    verdicts = _linear_verdicts("linear: ", linear, data, settings.eps) + _relu_verdicts("ReLU: ", relu)
    series = [profile_series("linear", linear), fit_series("linear, fitted line", linear), profile_series("ReLU", relu)]
    return Outcome(
        verdicts,
        [_lines("linear-relu", "Linear and ReLU network", series)],
        [_ratios({"linear": linear, "ReLU": relu})],
    )


def run_depth(settings: DepthSettings, progress: Progress) -> Outcome:
    """Deeper networks end at smaller D: the ratio stays, the number of layers grows."""
    data = settings.data
    verdicts: list[Verdict] = []
    profiles: dict[str, Float[np.ndarray, " L"]] = {}
    total = len(settings.depths) + len(settings.relu_depths)
    for depth in settings.depths:
        profile = data.profile(data.linear(depth, settings.eps, settings.step, settings.iterations))
        profiles[f"linear, L = {depth}"] = profile
        verdicts += _linear_verdicts(f"linear, L = {depth}: ", profile, data, settings.eps)
        progress(len(profiles), total)
    for depth in settings.relu_depths:
        profile = data.relu(depth, settings.eps, settings.step, settings.iterations, settings.relu_loss)
        profiles[f"ReLU, L = {depth}"] = profile
        verdicts += _relu_verdicts(f"ReLU, L = {depth}: ", profile)
        progress(len(profiles), total)
    series = [profile_series(name, profile) for name, profile in profiles.items()]
    return Outcome(verdicts, [_lines("depth", "Networks of several depths", series)], [_ratios(profiles)])


def run_scale(settings: ScaleSettings, progress: Progress) -> Outcome:
    """Smaller initial weights separate faster from layer to layer."""
    data = settings.data
    verdicts: list[Verdict] = []
    profiles: dict[str, Float[np.ndarray, " L"]] = {}
    for eps in settings.scales:
        run = data.linear(settings.depth, eps, settings.step, settings.iterations, record=10)
        profiles[f"eps = {eps:g}"] = data.profile(run)
        verdicts += _linear_verdicts(f"eps = {eps:g}: ", profiles[f"eps = {eps:g}"], data, eps)
        progress(len(profiles), len(settings.scales))
    series = [profile_series(name, profile) for name, profile in profiles.items()]
    return Outcome(verdicts, [_lines("scale", "Initial scale of the weights", series)], [_ratios(profiles)])


def run_init(settings: InitSettings, progress: Progress) -> Outcome:
    """Normal and uniform weights separate as well, though no theorem covers them."""
    data = settings.data
    verdicts: list[Verdict] = []
    profiles: dict[str, Float[np.ndarray, " L"]] = {}
    for kind, least in (("orthogonal", 0.9999), ("normal", 0.999), ("uniform", 0.999)):
        run = data.linear(settings.depth, settings.eps, settings.step, settings.iterations, kind=kind)
        profiles[kind] = data.profile(run)
        verdicts.append(Verdict.of(f"{kind}: R^2 of log D against layer", log_line(profiles[kind])[1], ">=", least))
        ratio = (profiles[kind][1:] / profiles[kind][:-1]).max()
        verdicts.append(Verdict.of(f"{kind}: D falls from layer to layer, largest ratio", ratio, "<", 0.5))
        progress(len(profiles), 3)
    series = [profile_series(name, profile) for name, profile in profiles.items()]
    return Outcome(verdicts, [_lines("init", "Distribution of the initial weights", series)], [_ratios(profiles)])


def _linear_verdicts(name: str, profile: Float[np.ndarray, " L"], data: Classes, eps: float) -> list[Verdict]:
    law = sharp_ratio(eps, data.per_class, len(profile))
    ratios, judged = profile[1:] / profile[:-1], eps <= LARGEST_SCALE
    note = "" if judged else f"the law is the limit of small scales, judged up to {LARGEST_SCALE}"
    return [
        Verdict.of(f"{name}R^2 of log D against layer", log_line(profile)[1], ">=", 0.9999),
        Verdict.of(
            f"{name}ratios against eps^2 n^(-1/L), largest relative error",
            np.abs(ratios / law - 1).max(),
            "<=",
            0.05,
            judged=judged,
            note=note,
        ),
    ]


def _relu_verdicts(name: str, profile: Float[np.ndarray, " L"]) -> list[Verdict]:
    """No theorem: what was seen on every seed tried. Layers beyond the fifth are judged only for moderate depth."""
    judged = len(profile) in JUDGED_RELU
    note = "" if judged else "deep layers flatten and may rise: shown, not judged"
    first = profile[:6]
    return [
        Verdict.of(f"{name}R^2 over layers 0 to 5", log_line(first)[1], ">=", 0.98),
        Verdict.of(f"{name}D falls over layers 0 to 5, largest ratio", (first[1:] / first[:-1]).max(), "<", 1),
        Verdict.of(f"{name}R^2 over all layers", log_line(profile)[1], ">=", 0.97, judged=judged, note=note),
        Verdict.of(
            f"{name}D falls over all layers, largest ratio",
            (profile[1:] / profile[:-1]).max(),
            "<",
            1,
            judged=judged,
            note=note,
        ),
    ]


def _lines(name: str, title: str, series: list[Series]) -> Lines:
    return Lines(f"{name}-profile", title, "layer", "D (within over between)", series, log_y=True)


def _ratios(profiles: dict[str, Float[np.ndarray, " L"]]) -> Table:
    rows: list[list[object]] = []
    for name, profile in profiles.items():
        ratios = profile[1:] / profile[:-1]
        rows.append([name, profile[0], profile[-1], ratios[0], ratios.min(), ratios.max(), log_line(profile)[1]])
    columns = ["network", "D at the input", "D at the end", "first ratio", "smallest ratio", "largest ratio", "R^2"]
    return Table("ratios", "Ratios of D from layer to layer", columns, rows)


EXPERIMENTS = (
    Experiment(
        "separation-linear-relu",
        3,
        "A straight line, and a ReLU network beside it",
        "Linear and nonlinear networks: log D against layer",
        "Two networks of equal shape, trained from the same weights. "
        "The linear one falls on a straight line; the ReLU network falls faster in its first layers and then flattens.",
        SOURCE,
        LinearReluSettings,
        run_linear_relu,
    ),
    Experiment(
        "separation-depth",
        3,
        "Depth adds layers of the same factor",
        "Effect of depth",
        "Networks of several depths on the same data. "
        "The slope hardly changes, so deeper networks end better separated; the deepest ReLU network is trained in the full form.",
        SOURCE,
        DepthSettings,
        run_depth,
        full={"relu_depths": (6, 8, 10)},
        cost=15,
    ),
    Experiment(
        "separation-scale",
        3,
        "Smaller initial weights separate faster",
        "Effect of the initialisation scale",
        "The same network from several initial scales. The factor per layer falls with the square of the scale.",
        SOURCE,
        ScaleSettings,
        run_scale,
    ),
    Experiment(
        "separation-init",
        3,
        "Not only orthogonal weights",
        "Effect of the initialisation type",
        "Orthogonal, normal and uniform weights of equal norm. All three profiles are nearly straight; the theorem covers the first.",
        SOURCE,
        InitSettings,
        run_init,
    ),
)

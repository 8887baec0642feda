"""A nonlinear two-layer network: while its activation is smooth and seen from near, its change lies in 2K dimensions."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.special import erf, expit

from lowdim._linalg import share_inside
from lowdim._verdicts import Verdict
from lowdim.dynamics import initialize, one_hot
from lowdim.errors import NonFiniteError, UsageError
from lowdim.experiments._after import BEYOND
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.figures import Lines, Panels, Series, Table

Array = Float[np.ndarray, "m N"]
Pair = tuple[Callable[[Array], Array], Callable[[Array], Array]]

ACTIVATIONS: dict[str, Pair] = {
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "GELU": (
        lambda z: z * (1 + erf(z / np.sqrt(2))) / 2,
        lambda z: (1 + erf(z / np.sqrt(2))) / 2 + z * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi),
    ),
    "SiLU": (lambda z: z * expit(z), lambda z: expit(z) * (1 + z * (1 - expit(z)))),
    "ReLU": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
}
"""The function and its derivative."""

LINEAR: Pair = (lambda z: z, np.ones_like)


@dataclass(frozen=True)
class Settings:
    """Whitened Gaussian classes; a small orthogonal first layer is trained, a fixed last layer reads it at several scales."""

    width: int = 32
    classes: int = 4
    samples: int = 256
    spread: float = 0.7
    eps: float = 1e-2
    scales: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0)
    step: float = 1.0
    iterations: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.classes < self.width / 2 or self.samples < 2 * self.width or len(set(self.scales)) < 2:
            raise UsageError(
                "smooth-networks needs 2 <= classes < width / 2, at least 2 x width samples and two different scales."
            )

    def data(self) -> tuple[Float[np.ndarray, "d N"], Float[np.ndarray, "K N"]]:
        """Inputs with orthonormal rows and one-hot targets."""
        random = np.random.default_rng(self.seed)
        labels = np.arange(self.samples) % self.classes
        means = self.spread * random.standard_normal((self.width, self.classes))
        inputs = means[:, labels] + random.standard_normal((self.width, self.samples))
        left, _, right = np.linalg.svd(inputs, full_matrices=False)
        return left @ right, one_hot(labels, self.classes)


@dataclass(frozen=True)
class _Run:
    """Share of the change of the first layer in the 2K-dimensional spaces over time."""

    times: Float[np.ndarray, " T"]
    shares: Float[np.ndarray, " T"]
    loss: float
    fitted: float
    values: Float[np.ndarray, " d"]


def run(settings: Settings, progress: Progress) -> Outcome:
    """Every activation at every scale of the last layer."""
    total = len(ACTIVATIONS) * len(settings.scales)
    runs: dict[tuple[str, float], _Run] = {}
    for name in ACTIVATIONS:
        for scale in settings.scales:
            runs[name, scale] = _train(settings, name, scale)
            progress(len(runs), total)
    exact = _train(replace(settings, eps=0.5), "linear", 1.0)
    linear = Verdict.of(
        "linear network started at 0.5: share of the change outside 2K dimensions", 1 - exact.shares.min(), "<=", 1e-12
    )
    return Outcome([linear, *_verdicts(settings, runs)], [_figure(settings, runs)], [_table(settings, runs)])


def _train(settings: Settings, name: str, scale: float) -> _Run:
    r"""Gradient descent on $\tfrac12\lVert W_2\,\varphi(W_1 X) - Y\rVert_F^2$ in W_1, of step over the square of the scale."""
    function, derivative = LINEAR if name == "linear" else ACTIVATIONS[name]
    inputs, targets = settings.data()
    random = np.random.default_rng([settings.seed, 1])
    first, last = initialize([settings.width, settings.width, settings.classes], random, scale=[settings.eps, scale])
    start, spaces, times, shares, losses = first.copy(), None, [], [], []
    for iteration in range(settings.iterations):
        scores = first @ inputs
        with np.errstate(over="ignore", invalid="ignore"):
            error = last @ function(scores) - targets
            gradient = (last.T @ error * derivative(scores)) @ inputs.T
        losses.append(float(np.sum(error**2)) / 2)
        if not np.isfinite(losses[-1]):
            raise NonFiniteError(
                f"training with {name} diverged at iteration {iteration}. Take a smaller `step={settings.step / 4:g}`."
            )
        spaces = spaces or _spaces(gradient, start / settings.eps, settings.classes)
        first = first - settings.step / scale**2 * gradient
        if iteration % max(1, settings.iterations // 60) == 0 or iteration == settings.iterations - 1:
            times.append(iteration + 1)
            shares.append(share_inside(first - start, *spaces))
    values = np.linalg.svd(first - start, compute_uv=False)
    return _Run(np.array(times), np.array(shares), losses[-1], losses[-1] / losses[0], values)


def _spaces(
    gradient: Float[np.ndarray, "m d"], start: Float[np.ndarray, "m d"], classes: int
) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, "k d"]]:
    """The K leading directions of the first gradient on either side, together with what the first weights make of the other side's."""
    left, _, right = np.linalg.svd(gradient)
    left, right = left[:, :classes], right[:classes].T
    outputs = np.linalg.qr(np.hstack([left, start @ right]))[0]
    inputs = np.linalg.qr(np.hstack([right, start.T @ left]))[0]
    return outputs, inputs.T


def _verdicts(settings: Settings, runs: dict[tuple[str, float], _Run]) -> list[Verdict]:
    largest = max(settings.scales)
    smooth = [name for name in ACTIVATIONS if name != "ReLU"]
    chance = (2 * settings.classes / settings.width) ** 2
    inside = largest >= 100 and settings.eps <= 0.01
    note = (
        ""
        if inside
        else "the statement is for pre-activations that stay small: a scale of 100 or more, eps of 0.01 or less"
    )
    verdicts = [
        Verdict.of(f"{name}: share of the change in 2K dimensions, last layer of scale {largest:g}, smallest over time", runs[name, largest].shares.min(), ">", 0.95, judged=inside, note=note)
        for name in smooth
    ]  # fmt: skip
    relu = [runs["ReLU", scale].shares[-1] for scale in settings.scales]
    verdicts += [
        Verdict.of("control: ReLU, the same at the end, largest over scales", max(relu), "<", 0.6, judged=settings.classes * 4 < settings.width + 1, note=f"chance is {chance:.2g}"),
        Verdict.of("ReLU: the scale changes nothing, largest difference of shares", max(relu) - min(relu), "<=", 0.1),
    ]  # fmt: skip
    high = np.sort(np.array(settings.scales))[-2:]
    for name, order in (("GELU", 2), ("SiLU", 2), ("tanh", 4)):
        missing = np.array([1 - runs[name, float(scale)].shares[-1] for scale in high])
        slope = (
            float(np.log(missing[0] / missing[1]) / np.log(high[1] / high[0])) if missing[1] > 1e-13 else float(order)
        )
        verdicts.append(
            Verdict.of(f"{name}: what is missing falls like scale^-{order}, distance of the exponent", abs(slope - order), "<=", 0.25, judged=inside and bool(high[0] >= 30), note=note or "needs two scales of 30 or more")
        )  # fmt: skip
    return verdicts


def _table(settings: Settings, runs: dict[tuple[str, float], _Run]) -> Table:
    chance = (2 * settings.classes / settings.width) ** 2
    rows = [
        [name, scale, float(one.shares[-1]), float(one.shares.min()), chance, one.fitted]
        for (name, scale), one in runs.items()
    ]
    columns = [
        "activation",
        "scale of the last layer",
        "share at the end",
        "smallest share",
        "chance",
        "loss / first loss",
    ]
    return Table("shares", "Share of the first layer's change in the 2K-dimensional spaces", columns, rows)


def _figure(settings: Settings, runs: dict[tuple[str, float], _Run]) -> Panels:
    largest = max(settings.scales)
    over_time = [Series(name, runs[name, largest].times, runs[name, largest].shares) for name in ACTIVATIONS]
    scales = np.sort(np.array(settings.scales))
    missing = [
        Series(
            name,
            scales,
            np.array([max(1 - runs[name, float(scale)].shares[-1], 1e-16) for scale in scales]),
            style="line+points",
        )
        for name in ACTIVATIONS
    ]
    index = np.arange(1, settings.width + 1)
    spectra = [
        Series(name, index, np.maximum(runs[name, largest].values / runs[name, largest].values[0], 1e-16))
        for name in ACTIVATIONS
    ]
    return Panels(
        "shares",
        "Change of the first layer",
        [
            Lines("time", f"In 2K dimensions, scale {largest:g}", "iteration", "share of the change", over_time),
            Lines("scale", "What is missing at the end", "scale of the last layer", "1 - share", missing, log_x=True, log_y=True),
            Lines("spectrum", f"Singular values of the change, scale {largest:g}", "index", "over the largest", spectra, log_y=True),
        ],
        columns=3,
        caption="A smooth activation seen from near is a straight line; ReLU looks the same from every distance.",
    )  # fmt: skip


EXPERIMENTS = (
    Experiment(
        "smooth-networks",
        BEYOND,
        "Smooth activations: almost all of the change lies in 2K dimensions",
        "beyond it: the law of parsimony in a nonlinear network",
        "The first layer of a nonlinear network is trained from small orthogonal weights. Its change lies in the 2K dimensions that the first gradient and the first weights span "
        "as far as a smooth activation is seen from near; what is missing falls with a power of the last layer's scale. ReLU is the control.",
        "Xu, Yaras, Asato, Qu and Balzano (2026), arXiv:2602.06208; the powers of the scale are this project's own",
        Settings,
        run,
        full={"width": 128, "samples": 2048, "iterations": 1000},
    ),
)

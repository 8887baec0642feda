"""The price of separation: smaller initial weights separate faster per layer and take longer to fit."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import root_scalar

from lowdim._verdicts import Verdict
from lowdim.dynamics import Trajectory
from lowdim.experiments._experiment import Experiment, Outcome, Progress, require_falling
from lowdim.experiments._separation import MEAN_LOSS, SOURCE, Classes, DataSettings
from lowdim.figures import Lines, Series, Table


@dataclass(frozen=True)
class TradeoffSettings(DataSettings):
    """Scales, each half of the one before; time to fit grows as eps^-(L-2)."""

    depth: int = 4
    scales: tuple[float, ...] = (0.4, 0.2, 0.1, 0.05)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_falling("scales", self.scales)


def run_tradeoff(settings: TradeoffSettings, progress: Progress) -> Outcome:
    """Integrates the flow for each scale up to the fit and compares the times."""
    data = settings.data
    runs: list[Trajectory] = []
    for eps in settings.scales:
        runs.append(data.flow(settings.depth, eps, beyond=0.5))
        progress(len(runs), len(settings.scales))
    times = np.array([_time_to_fit(run, data) for run in runs])
    series = [Series(f"eps = {eps:g}", *_loss_curve(run, data)) for eps, run in zip(settings.scales, runs, strict=True)]
    costs = times[1:] / times[:-1]
    rows = [
        [eps, time, cost, data.profile(run)[-1]]
        for eps, time, cost, run in zip(settings.scales, times, [None, *costs], runs, strict=True)
    ]
    lines = Lines(
        "tradeoff-loss", "Loss against iteration (step s = 1)", "iteration", "mean loss", series, log_x=True, log_y=True
    )
    columns = ["eps", "time to fit (iterations)", "factor to the row above", "D of the last layer"]
    table = Table("tradeoff", "Time to fit and separation", columns, rows)
    return Outcome(_verdicts(settings, times), [lines], [table])


def _verdicts(settings: TradeoffSettings, times: Float[np.ndarray, " S"]) -> list[Verdict]:
    scales, expected = np.array(settings.scales), 2.0 ** (settings.depth - 2)
    halving = len(scales) >= 3 and bool(np.allclose(scales[1:] / scales[:-1], 0.5))
    inside = halving and settings.depth == 4 and scales[-2] <= 0.1
    note = "" if inside else "the law is for small eps, each half of the one before, at L = 4"
    verdicts = [Verdict.of("smaller scales take longer, smallest factor", (times[1:] / times[:-1]).min(), ">", 1)]
    if len(scales) >= 3:
        last = times[-1] / times[-2]
        difference = (times[-1] - times[-2]) / (times[-2] - times[-3])
        verdicts += [
            Verdict.of(
                f"T(eps/2) / T(eps) at eps = {scales[-2]:g}: distance from {expected:g}, relative",
                abs(last / expected - 1), "<=", 0.03, judged=inside, note=note,
            ),
            Verdict.of(
                f"ratio of differences over eps = {scales[-3]:g}, {scales[-2]:g}, {scales[-1]:g}: distance from {expected:g}, relative",
                abs(difference / expected - 1), "<=", 0.02, judged=inside, note=note,
            ),
        ]  # fmt: skip
    return verdicts


def _time_to_fit(run: Trajectory, data: Classes) -> float:
    """When the mean loss first is 1e-6, between two of the solver's steps."""
    level = np.log(data.entries * MEAN_LOSS)
    losses = np.log(run.loss())
    first = int(np.argmax(losses <= level))
    low, high = run.times[first - 1], run.times[first]
    found = root_scalar(lambda time: np.log(float(run.loss(time))) - level, bracket=(low, high), method="brentq")
    return float(found.root)


def _loss_curve(run: Trajectory, data: Classes) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    after = np.flatnonzero(run.times >= 1)
    keep = np.unique(np.linspace(after[0], after[-1], 300).astype(int))
    return run.times[keep], run.loss()[keep] / data.entries


EXPERIMENTS = (
    Experiment(
        "separation-tradeoff",
        3,
        "Separation costs training time",
        "The trade-off with convergence",
        "The loss of the same network from several initial scales. "
        "Larger scales fit sooner; halving the scale takes 2^(L - 2) times as long, and separates each layer four times better.",
        SOURCE,
        TradeoffSettings,
        run_tradeoff,
    ),
)

"""Collapse where the targets are numbers: features in as many dimensions as there are outputs, and what the last layer becomes."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from threadpoolctl import threadpool_limits

from lowdim._verdicts import Verdict
from lowdim.dynamics import free_features
from lowdim.errors import UsageError, did_you_mean
from lowdim.experiments._after import BEYOND, alternating_minimum
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.figures import Lines, Panels, Series, Table


@dataclass(frozen=True)
class Settings:
    """Free features for correlated targets, and networks on the diabetes table, some columns of which are the outputs."""

    outputs: tuple[str, ...] = ("target", "bmi", "s5")
    dimension: int = 10
    strengths: tuple[float, ...] = (0.1, 0.5, 0.8, 1.2)
    weight_decay: float = 1e-2
    layers: int = 6
    width: int = 32
    decay: float = 2.0
    iterations: int = 600
    networks: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dimension < len(self.outputs) or len(self.outputs) < 2 or min(self.strengths) <= 0 or self.networks < 1:
            raise UsageError(
                "regression-collapse needs two or more outputs, dimension at least as many, strengths > 0 and at least one network."
            )


def run(settings: Settings, progress: Progress) -> Outcome:
    """The closed form at several strengths of the decay, then networks with and without it."""
    import torch

    from lowdim.metrics import regression_collapse

    inputs, targets = _diabetes(settings.outputs)
    verdicts, rows, spectrum = _free(settings, targets.T)
    progress(1, 1 + 2 * settings.networks)
    kinds = {"decay": settings.decay, "none": 0.0}
    collapses: dict[str, list[Any]] = {kind: [] for kind in kinds}
    spectra: dict[str, Float[np.ndarray, " d"]] = {}
    for network in range(settings.networks):
        for kind, decay in kinds.items():
            features, weight = _train(settings, inputs, targets, decay, settings.seed * settings.networks + network)
            values = np.linalg.svd(features, compute_uv=False) ** 2
            spectra.setdefault(kind, values / values.sum())
            arrays = (torch.from_numpy(np.ascontiguousarray(array)) for array in (features, targets, weight))
            collapses[kind].append(regression_collapse(*arrays))
            progress(1 + sum(map(len, collapses.values())), 1 + 2 * settings.networks)
    leading, row_space, unexplained = (
        np.array([[getattr(one, name) for one in found] for found in collapses.values()])
        for name in ("outside", "outside_rows", "unexplained")
    )
    m = targets.shape[1]
    verdicts += [
        Verdict.of(f"networks: variance of the features beyond {m} dimensions, with decay over without, mean", leading[0].mean() / leading[1].mean(), "<", 0.5),
        Verdict.of("networks: features outside the rows of the last layer, with decay", row_space[0].max(), "<", 0.5),
        Verdict.of("control: the same without decay", row_space[1].min(), ">", 0.5),
    ]  # fmt: skip
    columns = [
        "strength",
        "tau / sqrt(N)",
        "rank of the features",
        "WW' to the root law",
        "WW' to the covariance itself",
    ]
    tables = [
        Table("free", "Free features: squared decay against the covariance of the targets", columns, rows),
        Table(
            "networks",
            "Features of trained networks outside the predicted spaces",
            [
                "network",
                *(
                    f"{name}, {kind}"
                    for name in (f"beyond {m} dimensions", "outside the rows", f"targets not linear in {m} dimensions")
                    for kind in kinds
                ),
            ],
            [
                [i, *leading[:, i].tolist(), *row_space[:, i].tolist(), *unexplained[:, i].tolist()]
                for i in range(settings.networks)
            ],
        ),
    ]
    return Outcome(verdicts, [_figure(spectrum, spectra)], tables)


def _diabetes(outputs: tuple[str, ...]) -> tuple[Float[np.ndarray, "N p"], Float[np.ndarray, "N m"]]:
    """Inputs and outputs, each column with mean 0 and variance 1."""
    data: Any = load_diabetes(as_frame=True)
    frame = data.frame
    for name in outputs:
        if name not in frame.columns:
            raise UsageError(
                f"the diabetes table has no column {name!r}. {did_you_mean(name, list(frame.columns), limit=11)}"
            )
    table = (frame - frame.mean()) / frame.std(ddof=0)
    return table.drop(columns=list(outputs)).to_numpy(), table[list(outputs)].to_numpy()


def _free(
    settings: Settings, targets: Float[np.ndarray, "m N"]
) -> tuple[list[Verdict], list[list[object]], list[Series]]:
    """At each strength, tau over the middle singular value of the targets, the minimiser from a random start against the law."""
    outputs, samples = targets.shape
    covariance = targets @ targets.T / samples
    eigenvalues, axes = np.linalg.eigh(covariance)
    middle = float(np.median(np.sqrt(samples * eigenvalues)))
    worst = dict.fromkeys(("loss", "law", "span", "rank"), 0.0)
    farthest, rows, curves, points = 0.0, [], [], []
    for index, strength in enumerate(settings.strengths):
        feature_decay = (strength * middle / samples) ** 2 / settings.weight_decay
        best = free_features(targets, settings.weight_decay, feature_decay)
        if not best.singular_values[0]:
            raise UsageError(f"a strength of {strength:g} leaves no features at all. Take smaller `strengths`.")
        start = np.random.default_rng([settings.seed, index]).standard_normal((outputs, settings.dimension))
        found = alternating_minimum(targets, settings.weight_decay, feature_decay, start, 20_000)
        gram = found.weight @ found.weight.T
        shrunk = np.maximum(np.sqrt(eigenvalues) - best.threshold / np.sqrt(samples), 0)
        law = np.sqrt(samples * feature_decay / settings.weight_decay) * (axes * shrunk) @ axes.T
        expected = int(np.sum(shrunk > 0))
        values = np.linalg.svd(found.features, compute_uv=False)
        worst["loss"] = max(worst["loss"], abs(found.loss / best.loss - 1))
        worst["law"] = max(worst["law"], float(np.linalg.norm(gram - law) / np.linalg.norm(law)))
        worst["span"] = max(worst["span"], float(np.sqrt(_outside_leading(values**2, outputs))))
        worst["rank"] += abs(int(np.sum(values > 1e-6 * values[0])) - expected)
        straight = (axes * np.maximum(eigenvalues - best.threshold / np.sqrt(samples), 0)) @ axes.T
        scale = np.sum(gram * straight) / np.sum(straight**2)
        distance = float(np.linalg.norm(gram - scale * straight) / np.linalg.norm(gram))
        farthest = max(farthest, distance)
        rows.append(
            [
                strength,
                best.threshold / np.sqrt(samples),
                expected,
                float(np.linalg.norm(gram - law) / np.linalg.norm(law)),
                distance,
            ]
        )
        root = np.sqrt(samples * feature_decay / settings.weight_decay)
        points.append(np.stack([np.sqrt(eigenvalues), np.sort(np.linalg.eigvalsh(gram)) / root]))
        x = np.linspace(0, 1.05 * float(np.sqrt(eigenvalues[-1])), 100)
        curves.append(Series(f"strength {strength:g}", x, np.maximum(x - best.threshold / np.sqrt(samples), 0)))
    curves.append(Series("found", *np.concatenate(points, axis=1), style="points"))
    verdicts = [
        Verdict.of("free features: |loss - closed form| / closed form", worst["loss"], "<=", 1e-12),
        Verdict.of("free features: WW' against sqrt(N lambda_H / lambda_W) (Sigma^(1/2) - tau / sqrt(N))_+, relative distance", worst["law"], "<=", 1e-12),
        Verdict.of(f"free features: share of the features outside {outputs} dimensions", worst["span"], "<=", 1e-12),
        Verdict.of("free features: strengths at which the rank is another than the law's", worst["rank"], "==", 0),
        Verdict.of("control: WW' as a soft threshold of the covariance itself, largest relative distance", farthest, ">", 0.05),
    ]  # fmt: skip
    return verdicts, rows, curves


def _train(
    settings: Settings, inputs: Float[np.ndarray, "N p"], targets: Float[np.ndarray, "N m"], decay: float, seed: int
) -> tuple[Float[np.ndarray, "N d"], Float[np.ndarray, "m d"]]:
    """Centred features before the last layer of a ReLU network, and that layer."""
    model = MLPRegressor(
        hidden_layer_sizes=(settings.width,) * settings.layers, alpha=decay, solver="lbfgs",
        max_iter=settings.iterations, max_fun=10 * settings.iterations, tol=1e-10, random_state=seed,
    )  # fmt: skip
    with threadpool_limits(1, "blas"), warnings.catch_warnings():  # small matrices: threads would wait for each other
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inputs, targets)
    features = inputs
    for weight, bias in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        features = np.maximum(features @ weight + bias, 0)
    return features - features.mean(axis=0), model.coefs_[-1].T


def _outside_leading(variances: Float[np.ndarray, " d"], size: int) -> float:
    """Share of the variance beyond the `size` leading directions."""
    return float(np.sum(np.sort(variances)[::-1][size:]) / np.sum(variances))


def _figure(spectrum: list[Series], spectra: dict[str, Float[np.ndarray, " d"]]) -> Panels:
    names = {"decay": "with decay", "none": "without decay"}
    lines = [
        Series(names[kind], np.arange(1, len(values) + 1), np.maximum(values, 1e-12), style="line+points")
        for kind, values in spectra.items()
    ]
    return Panels(
        "law",
        "Collapse in regression",
        [
            Lines("threshold", "Free features: WW' against the root of the covariance", "eigenvalue of Sigma^(1/2)", "eigenvalue of WW', scaled", spectrum),
            Lines("features", "A network's features", "direction", "share of variance", lines, log_y=True),
        ],
        columns=2,
        caption="Left: the law is a line per strength, the points are minimisers. Right: the first network with decay and without.",
    )  # fmt: skip


EXPERIMENTS = (
    Experiment(
        "regression-collapse",
        BEYOND,
        "Collapse in regression: as many dimensions as outputs",
        "beyond it: neural collapse where the targets are numbers",
        "With free features the last layer becomes a soft threshold of the root of the targets' covariance, and the features fill as many dimensions as it keeps. "
        "ReLU networks on a table of patients do the same in part, and only under weight decay.",
        "Andriopoulos et al. (2024), arXiv:2409.04180; Rangamani and Unal (2026), arXiv:2603.23805",
        Settings,
        run,
        full={"width": 128, "iterations": 5000, "networks": 3},
        needs=("torch",),
        cost=4,
    ),
)

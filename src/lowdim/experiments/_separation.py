"""What the separation experiments share: the lecture's data, and runs stopped when the deepest layer can be seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from lowdim.dynamics import (
    FITTED,
    GradientDescent,
    Problem,
    Trajectory,
    balanced_labels,
    class_separation,
    initialize,
    one_hot,
    orthogonal_inputs,
    separation_over_time,
    simulate,
    train_relu,
)
from lowdim.errors import InputError, UsageError
from lowdim.experiments._experiment import Progress
from lowdim.figures import Series

SOURCE = "Wang et al. (2023), arXiv:2311.02960; the sharp law is this project's own"
MEAN_LOSS = 1e-6
"""Mean loss per entry of Y, with the half, at which the end-to-end matrix counts as fitted."""

LARGEST_SCALE = 0.5
"""The sharp law is a limit of small initial scales: judged up to here, where it is 4 % off at most."""


@dataclass(frozen=True)
class DataSettings:
    """Numbers of classes and of samples in each."""

    classes: int = 5
    per_class: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.per_class < 3:
            raise UsageError(f"per_class must be at least 3, not {self.per_class}: the theorem needs d > 2K.")

    @property
    def data(self) -> "Classes":
        """The samples."""
        return Classes(self.classes, self.per_class, self.seed)


@dataclass(frozen=True)
class Classes:
    """K classes of n orthonormal samples: N = K n = d inputs of a square orthogonal X, one-hot targets."""

    classes: int
    per_class: int
    seed: int

    @property
    def width(self) -> int:
        """d = N."""
        return self.classes * self.per_class

    @property
    def entries(self) -> int:
        """K N, the number of entries of Y that the mean loss averages."""
        return self.classes * self.width

    @property
    def labels(self) -> Int[np.ndarray, " N"]:
        """Class of each column."""
        return balanced_labels(self.classes, self.per_class)

    def build(self, depth: int, eps: float, kind: str = "orthogonal") -> tuple[Problem, list[Float[np.ndarray, "m n"]]]:
        """Data and weights at the start."""
        random = np.random.default_rng(self.seed)
        inputs = orthogonal_inputs(self.width, self.width, random)
        weights = initialize([self.width] * depth + [self.classes], random, scale=eps, kind=kind)  # pyright: ignore[reportArgumentType]
        return Problem(one_hot(self.labels, self.classes), inputs), weights

    def remaining(self, run: Trajectory, time: float) -> float:
        """Logarithm of how far the run is from done; <= 0 when fitted well enough to see the deepest layer.

        Both conditions are needed: on the initial plateau the deepest D is large and the first alone would hold.
        """
        loss = run.loss(time)
        unfitted = float(np.log(loss / (self.entries * MEAN_LOSS)).max())
        if unfitted > 0:
            return unfitted
        deepest = separation_over_time(run, self.labels, time)[..., -1]
        return max(unfitted, float(np.log(2 * loss / (FITTED * self.width * deepest)).max()))

    def linear(
        self, depth: int, eps: float, step: float, iterations: int, *, kind: str = "orthogonal", record: int = 50
    ) -> Trajectory:
        """Gradient descent of step s on the mean loss (s / (K N) on the sum), reduced where that is possible."""
        problem, weights = self.build(depth, eps, kind)
        return simulate(
            problem,
            weights,
            GradientDescent(step / self.entries),
            steps=iterations,
            mode="reduced" if kind == "orthogonal" else "full",
            record=record,
            until=self.remaining,
        )

    def flow(self, depth: int, eps: float, *, beyond: float = 0.0) -> Trajectory:
        """The limit of small steps, in units of iterations of step s = 1; on until the loss is exp(`beyond`) times smaller."""
        problem, weights = self.build(depth, eps)
        rule = GradientDescent(1 / self.entries)
        return simulate(
            problem,
            weights,
            rule,
            steps=10**15,
            mode="flow",
            until=lambda run, time: self.remaining(run, time) + beyond,
        )

    def relu(
        self, depth: int, eps: float, step: float, iterations: int, loss: float, progress: Progress | None = None
    ) -> Float[np.ndarray, " L"]:
        """D_0 … D_{L-1} of a ReLU network trained by gradient descent to a mean loss."""
        problem, weights = self.build(depth, eps)
        run = train_relu(
            problem, weights, step=step / self.entries, steps=iterations, until=self.entries * loss, progress=progress
        )
        if not run.converged:
            raise InputError(
                f"the ReLU network of depth {depth} reached a mean loss of {run.loss / self.entries:.2g} in {iterations} "
                f"iterations, not {loss:g}. Allow more with `iterations=N`."
            )
        return np.array([class_separation(features, self.labels) for features in run.features])

    def profile(self, run: Trajectory) -> Float[np.ndarray, " L"]:
        """D_0 … D_{L-1} at the end of a run, which must have finished."""
        if not run.finished:
            raise InputError(
                f"the network of depth {run.depth} is not fitted after {run.times[-1]:g} iterations (mean loss "
                f"{float(run.loss(run.times[-1])) / self.entries:.2g}). Allow more with `iterations=N`."
            )
        return separation_over_time(run, self.labels, run.times[-1])


def profile_series(name: str, values: Sequence[float] | Float[np.ndarray, " L"]) -> Series:
    """D against the layer number."""
    return Series(name, list(range(len(values))), np.asarray(values), style="line+points")


def fit_series(name: str, values: Float[np.ndarray, " L"]) -> Series:
    """The least-squares line through log D."""
    layers = np.arange(len(values))
    slope, offset = np.polyfit(layers, np.log(values), 1)
    return Series(name, layers, np.exp(slope * layers + offset), style="dashed")

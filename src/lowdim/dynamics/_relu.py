"""A ReLU network of the same shape, trained: the picture beside the theory, not part of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lowdim.dynamics._problem import Problem
from lowdim.errors import NonFiniteError


@dataclass(frozen=True)
class ReluRun:
    """A trained ReLU network.

    Attributes:
        weights: Factors at the end, first layer first.
        features: Inputs, then the activations after each factor but the last; one column per sample.
        iterations: Steps made.
        loss: ``||f(X) - Y||_F^2 / 2`` at the end.
        converged: Whether the loss reached `until`.
    """

    weights: list[Float[np.ndarray, "m n"]]
    features: list[Float[np.ndarray, "d N"]]
    iterations: int
    loss: float
    converged: bool


def train_relu(
    problem: Problem,
    weights: Sequence[Float[np.ndarray, "m n"]],
    *,
    step: float,
    steps: int,
    until: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> ReluRun:
    r"""Gradient descent on $\tfrac12\lVert W_L\,\mathrm{relu}(W_{L-1}\cdots\mathrm{relu}(W_1 X)) - Y\rVert_F^2$.

    Args:
        problem: Inputs and targets.
        weights: Factors at the start.
        step: Fixed learning rate.
        steps: Most iterations.
        until: Stop at this loss.
        progress: Called with (iterations done, most iterations) now and then.

    Raises:
        NonFiniteError: If the training diverged.

    Example:
        >>> problem = Problem(np.array([[4.0]]), np.array([[1.0]]))  # w_2 relu(w_1) = 4
        >>> run = train_relu(problem, [np.array([[1.0]])] * 2, step=0.05, steps=500, until=1e-20)
        >>> run.converged, [round(float(weight[0, 0]), 6) for weight in run.weights]
        (True, [2.0, 2.0])
    """
    inputs = np.eye(problem.phi.shape[1]) if problem.inputs is None else problem.inputs
    factors = [np.array(weight, float) for weight in weights]
    loss = np.inf
    for iteration in range(steps + 1):
        features = relu_features(factors, inputs)
        error = factors[-1] @ features[-1] - problem.targets
        loss = 0.5 * float(np.einsum("ij,ij->", error, error))
        if not np.isfinite(loss):
            raise NonFiniteError(f"the ReLU network diverged at iteration {iteration}; use a step below {step}.")
        if loss <= until or iteration == steps:
            return ReluRun(factors, features, iteration, loss, loss <= until)
        if progress is not None and iteration % 1000 == 0:
            progress(iteration, steps)
        for layer in range(len(factors) - 1, -1, -1):
            gradient = error @ features[layer].T
            if layer:
                error = (factors[layer].T @ error) * (features[layer] > 0)
            factors[layer] -= step * gradient
    raise AssertionError("unreachable: the last iteration returns")


def relu_features(
    weights: Sequence[Float[np.ndarray, "m n"]], inputs: Float[np.ndarray, "d N"]
) -> list[Float[np.ndarray, "d N"]]:
    """The inputs and the activations after each factor but the last."""
    features = [inputs]
    for weight in weights[:-1]:
        features.append(np.maximum(weight @ features[-1], 0.0))
    return features

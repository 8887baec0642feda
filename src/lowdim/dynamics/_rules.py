"""How a step follows from the gradients: gradient descent, heavy-ball, polar (Muon), and Adam and RMSprop as controls."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from lowdim._linalg import rank_cutoff
from lowdim.dynamics._network import Factors
from lowdim.errors import UsageError

Schedule = float | Float[np.ndarray, " B"] | Callable[[int], float]
"""A constant, one value per run of a batch, or a function of the iteration (0 for the first)."""

Memory = list[Any]
"""What a rule remembers between steps, one entry per factor."""


@runtime_checkable
class Rule(Protocol):
    """One step of an optimizer on a list of factors.

    Attributes:
        equivariant: True when rotating a factor and its gradient rotates the step: the updates for which the law of
            parsimony is exact.

    Example:
        >>> [rule.equivariant for rule in (GradientDescent, Polar, Adam, RMSprop)]
        [True, True, False, False]
    """

    equivariant: ClassVar[bool]

    def start(self, factors: Factors) -> Memory:
        """The memory before the first step."""
        ...

    def advance(self, factors: Factors, gradients: Factors, memory: Memory, iteration: int) -> tuple[Factors, Memory]:
        """The factors and the memory after the step."""
        ...


def at(value: Schedule, iteration: int) -> Any:
    """A schedule's value at an iteration, shaped to multiply a stack of matrices."""
    if callable(value):
        return value(iteration)
    return value if np.ndim(value) == 0 else np.asarray(value)[..., None, None]


def _require(name: str, value: Schedule, *, positive: bool) -> None:
    if callable(value):
        return
    array = np.asarray(value, float)
    if not np.isfinite(array).all() or (array < 0).any() or (positive and (array == 0).any()):
        raise UsageError(f"{name} must be {'> 0' if positive else '>= 0'} and finite, not {value}.")


@dataclass(frozen=True)
class GradientDescent:
    r"""$v \leftarrow \beta v + \nabla + \lambda W,\quad W \leftarrow W - \eta v$ (plain gradient descent for $\beta = 0$).

    Attributes:
        step: Learning rate $\eta$: a number, one per run of a batch, or a function of the iteration.
        weight_decay: $\lambda$, in the same forms except a function.
        momentum: Heavy-ball $\beta$ in [0, 1).

    Raises:
        UsageError: If a number is out of its range.

    Example:
        >>> rule = GradientDescent(step=0.5, weight_decay=0.1)
        >>> moved, _ = rule.advance([np.array([[2.0]])], [np.array([[1.0]])], rule.start([]), 0)
        >>> moved[0].tolist()  # 2 - 0.5 (1 + 0.1 x 2)
        [[1.4]]
    """

    step: Schedule
    weight_decay: float | Float[np.ndarray, " B"] = 0.0
    momentum: float = 0.0
    equivariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require("step", self.step, positive=True)
        _require("weight_decay", self.weight_decay, positive=False)
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum must lie in [0, 1), not {self.momentum}.")

    def start(self, factors: Factors) -> Memory:
        """Zero velocity."""
        return [0.0 for _ in factors]

    def advance(self, factors: Factors, gradients: Factors, memory: Memory, iteration: int) -> tuple[Factors, Memory]:
        """One step of every factor."""
        step = at(self.step, iteration)
        if np.any(self.weight_decay):
            decay = at(self.weight_decay, iteration)
            gradients = [gradient + decay * factor for factor, gradient in zip(factors, gradients, strict=True)]
        if self.momentum:
            gradients = memory = [self.momentum * old + new for old, new in zip(memory, gradients, strict=True)]
        return [factor - step * change for factor, change in zip(factors, gradients, strict=True)], memory


@dataclass(frozen=True)
class Polar:
    r"""$W \leftarrow (1 - \eta\lambda) W - \eta\, U V^\top$, with $\nabla = U \Sigma V^\top$: the direction of Muon.

    Singular directions of the gradient below its rank cut-off get no step.

    Attributes:
        step: Learning rate $\eta$.
        weight_decay: $\lambda$.

    Raises:
        UsageError: If a number is out of its range.

    Example:
        >>> rule = Polar(step=0.5)
        >>> moved, _ = rule.advance([np.zeros((2, 2))], [np.diag([3.0, -2.0])], [None], 0)
        >>> np.diagonal(moved[0]).tolist()
        [-0.5, 0.5]
    """

    step: Schedule
    weight_decay: float | Float[np.ndarray, " B"] = 0.0
    equivariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require("step", self.step, positive=True)
        _require("weight_decay", self.weight_decay, positive=False)

    def start(self, factors: Factors) -> Memory:
        """Nothing to remember."""
        return [None for _ in factors]

    def advance(self, factors: Factors, gradients: Factors, memory: Memory, iteration: int) -> tuple[Factors, Memory]:
        """One step of every factor."""
        step, decay = at(self.step, iteration), at(self.weight_decay, iteration)
        moved = [
            (1 - step * decay) * factor - step * polar_factor(gradient)
            for factor, gradient in zip(factors, gradients, strict=True)
        ]
        return moved, memory


def polar_factor(matrix: Float[np.ndarray, "*batch m n"]) -> Float[np.ndarray, "*batch m n"]:
    """``U V^T`` of the singular value decomposition, over the directions above the rank cut-off.

    Example:
        >>> polar_factor(np.diag([3.0, -2.0, 0.0]))
        array([[ 1.,  0.,  0.],
               [ 0., -1.,  0.],
               [ 0.,  0.,  0.]])
    """
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    size = max(matrix.shape[-2:])
    kept = values > rank_cutoff(np.ones(1), size) * values[..., :1]
    return (left * kept[..., None, :]) @ right


@dataclass(frozen=True)
class Adam:
    r"""Adam (Kingma and Ba 2015), entry by entry: not equivariant, the negative control of the law of parsimony.

    Attributes:
        step: Learning rate.
        beta1: Decay of the mean gradient.
        beta2: Decay of the mean squared gradient.
        epsilon: Added to the root of the mean square.

    Raises:
        UsageError: If the step is not positive.

    Example:
        >>> rule = Adam(step=0.5)
        >>> moved, _ = rule.advance([np.zeros((1, 2))], [np.array([[3.0, -0.2]])], rule.start([np.zeros((1, 2))]), 0)
        >>> np.round(moved[0], 6).tolist()  # the first step is the sign of the gradient
        [[-0.5, 0.5]]
    """

    step: Schedule
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    equivariant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _require("step", self.step, positive=True)

    def start(self, factors: Factors) -> Memory:
        """Zero moments."""
        return [(0.0, 0.0) for _ in factors]

    def advance(self, factors: Factors, gradients: Factors, memory: Memory, iteration: int) -> tuple[Factors, Memory]:
        """One step of every factor."""
        memory = [
            (
                self.beta1 * mean + (1 - self.beta1) * gradient,
                self.beta2 * square + (1 - self.beta2) * gradient**2,
            )
            for (mean, square), gradient in zip(memory, gradients, strict=True)
        ]
        first, second = 1 - self.beta1 ** (iteration + 1), 1 - self.beta2 ** (iteration + 1)
        step = at(self.step, iteration)
        moved = [
            factor - step * (mean / first) / (np.sqrt(square / second) + self.epsilon)
            for factor, (mean, square) in zip(factors, memory, strict=True)
        ]
        return moved, memory


@dataclass(frozen=True)
class RMSprop:
    """RMSprop (Hinton 2012), entry by entry: not equivariant, a negative control.

    Attributes:
        step: Learning rate.
        decay: Decay of the mean squared gradient.
        epsilon: Added to the root of the mean square.

    Raises:
        UsageError: If the step is not positive.

    Example:
        >>> rule = RMSprop(step=0.5, decay=0.75)
        >>> moved, _ = rule.advance([np.zeros((1, 2))], [np.array([[3.0, -0.2]])], [0.0], 0)
        >>> np.round(moved[0], 6).tolist()  # the first step is the sign over sqrt(1 - decay)
        [[-1.0, 1.0]]
    """

    step: Schedule
    decay: float = 0.99
    epsilon: float = 1e-8
    equivariant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _require("step", self.step, positive=True)

    def start(self, factors: Factors) -> Memory:
        """Zero mean square."""
        return [0.0 for _ in factors]

    def advance(self, factors: Factors, gradients: Factors, memory: Memory, iteration: int) -> tuple[Factors, Memory]:
        """One step of every factor."""
        memory = [
            self.decay * square + (1 - self.decay) * gradient**2
            for square, gradient in zip(memory, gradients, strict=True)
        ]
        step = at(self.step, iteration)
        moved = [
            factor - step * gradient / (np.sqrt(square) + self.epsilon)
            for factor, gradient, square in zip(factors, gradients, memory, strict=True)
        ]
        return moved, memory

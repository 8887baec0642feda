"""The data of a linear network: whitened inputs, targets, and the loss."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from lowdim._linalg import rank_cutoff
from lowdim.errors import InputError, NonFiniteError

WHITE = 1e-8
"""Largest entry of ``X X^T - I`` for which inputs in float64 count as whitened; a coarser precision allows 100 of its units."""


@dataclass(frozen=True)
class Problem:
    r"""The loss $\tfrac12\lVert W X - Y\rVert_F^2$ of an end-to-end matrix W.

    Attributes:
        targets: Y, one column per sample (for `inputs` None: the matrix to factorize).
        inputs: X, one column per sample; None means the identity (whitened, one sample per input dimension).
        precision: Rounding unit of the coarser of the two arrays as they came (whole numbers are exact); kept in float64.

    Raises:
        InputError: If the shapes disagree or there is nothing to fit.
        NonFiniteError: If a value is NaN or infinite.

    Example:
        >>> problem = Problem(np.array([[2.0]]))
        >>> float(problem.loss(np.array([[0.5]])))  # 1.5^2 / 2
        1.125
    """

    targets: Float[np.ndarray, "d_y N"]
    inputs: Float[np.ndarray, "d_x N"] | None = None
    precision: float = field(init=False)

    def __post_init__(self) -> None:
        given = [np.asarray(array) for array in (self.targets, self.inputs) if array is not None]
        units = [
            float(np.finfo(array.dtype).eps) for array in given if array.dtype.kind == "f" and has_fractions(array)
        ]
        object.__setattr__(self, "precision", max(units, default=float(np.finfo(np.float64).eps)))
        for name, array in zip(("targets", "inputs"), given, strict=False):
            object.__setattr__(self, name, np.asarray(array, np.float64))
        for name, array in (("targets", self.targets), ("inputs", self.inputs)):
            if array is None:
                continue
            if array.ndim != 2 or array.size == 0:
                raise InputError(f"{name} must be a matrix with one column per sample, but have shape {array.shape}.")
            if not np.isfinite(array).all():
                raise NonFiniteError(
                    f"{name} contain NaN or infinity. Remove those samples before you build a Problem."
                )
        if self.inputs is not None and self.inputs.shape[1] != self.targets.shape[1]:
            raise InputError(
                f"inputs have {self.inputs.shape[1]} columns and targets {self.targets.shape[1]}; "
                "both need one column per sample. Transpose the one that has samples as rows."
            )

    @cached_property
    def phi(self) -> Float[np.ndarray, "d_y d_x"]:
        """The target of the end-to-end matrix: ``Y X^T``."""
        return self.targets if self.inputs is None else self.targets @ self.inputs.T

    @cached_property
    def gram(self) -> Float[np.ndarray, "d_x d_x"] | None:
        """``X X^T``, or None when it is the identity to `white`."""
        if self.inputs is None:
            return None
        gram = self.inputs @ self.inputs.T
        return None if np.abs(gram - np.eye(len(gram))).max() <= self.white else gram

    @property
    def white(self) -> float:
        """Largest entry of ``X X^T - I`` for which these inputs count as whitened."""
        return max(WHITE, 1e2 * self.precision)

    @cached_property
    def condition(self) -> float:
        """Largest over smallest singular value of X: 1 for whitened inputs, infinite without full row rank."""
        if self.gram is None or self.inputs is None:
            return 1.0
        values = np.linalg.svd(self.inputs, compute_uv=False)
        full = len(values) == len(self.inputs) and values[-1] > rank_cutoff(values, max(self.inputs.shape))
        return float(values[0] / values[-1]) if full else float("inf")

    @property
    def unwhitened(self) -> float:
        """Largest entry of ``X X^T - I``, which `white` is held against."""
        if self.inputs is None:
            return 0.0
        return float(np.abs(self.inputs @ self.inputs.T - np.eye(len(self.inputs))).max())

    @property
    def whitening_gap(self) -> float:
        """Spectral norm of ``X X^T - I``; 0 when the inputs count as whitened."""
        return 0.0 if self.gram is None else float(np.linalg.norm(self.gram - np.eye(len(self.gram)), 2))

    @cached_property
    def constant(self) -> float:
        """The part of the loss that no W can reach with whitened inputs: Y outside the row space of X."""
        if self.inputs is None:
            return 0.0
        return 0.5 * float(np.linalg.norm(self.targets - self.phi @ self.inputs) ** 2)

    def loss(self, matrix: Float[np.ndarray, "*batch d_y d_x"]) -> Float[np.ndarray, "*batch"]:
        """``||W X - Y||_F^2 / 2`` of one matrix or of a stack."""
        if self.gram is None:
            return 0.5 * _squared_norm(matrix - self.phi) + self.constant
        return 0.5 * _squared_norm(matrix @ self.inputs - self.targets)

    def scaled(self, factor: float) -> "Problem":
        """The same minimiser from inputs and targets that are `factor` times as large."""
        scaled = Problem(factor * self.targets, None if self.inputs is None else factor * self.inputs)
        return scaled.known_to(self.precision)

    def known_to(self, precision: float) -> "Problem":
        """The same arrays, known to another rounding unit: those that were converted on the way."""
        result = Problem(self.targets, self.inputs)
        object.__setattr__(result, "precision", precision)
        return result

    def whitened(self) -> "Problem":
        """The same targets with `whiten` applied to the inputs."""
        return self if self.inputs is None else Problem(self.targets, whiten(self.inputs))


def has_fractions(array: np.ndarray) -> bool:
    """Whether some entry is no whole number."""
    return not bool((array == np.rint(array)).all())


def _squared_norm(matrix: Float[np.ndarray, "*batch m n"]) -> Float[np.ndarray, "*batch"]:
    return np.einsum("...ij,...ij->...", matrix, matrix)


def whiten(inputs: Float[np.ndarray, "d_x N"]) -> Float[np.ndarray, "d_x N"]:
    """The inputs with orthonormal rows: ``(X X^T)^(-1/2) X``, the nearest such matrix.

    Args:
        inputs: One column per sample, of full row rank.

    Raises:
        InputError: If X has no full row rank (fewer samples than dimensions, or dependent rows).

    Example:
        >>> x = whiten(np.array([[3.0, 0.0, 4.0], [0.0, 2.0, 0.0]]))
        >>> np.abs(x @ x.T - np.eye(2)).max() < 1e-15
        np.True_
    """
    left, values, right = np.linalg.svd(inputs, full_matrices=False)
    if len(values) < len(inputs) or values[-1] <= max(inputs.shape) * np.finfo(np.float64).eps * values[0]:
        raise InputError(
            f"inputs of shape {inputs.shape} cannot be whitened: their rows are linearly dependent. "
            "Pass at least as many samples as dimensions, or project the inputs on fewer dimensions first."
        )
    return left @ right


def low_rank_target(
    shape: tuple[int, int], rank: int, random_state: np.random.Generator
) -> Float[np.ndarray, "d_y d_x"]:
    r"""A random matrix of exact rank r: Gaussian factors, scaled to singular values of order 1.

    Args:
        shape: ``(d_y, d_x)``.
        rank: At least 1, at most the smaller side.
        random_state: Source of randomness.

    Raises:
        InputError: If no matrix of this shape has that rank.

    Example:
        >>> int(np.linalg.matrix_rank(low_rank_target((6, 8), 3, np.random.default_rng(0))))
        3
    """
    if not 1 <= rank <= min(shape):
        raise InputError(
            f"a target of shape {shape} can have a rank from 1 to {min(shape)}, not {rank}: "
            "a zero target has nothing to learn."
        )
    left = random_state.standard_normal((shape[0], rank))
    right = random_state.standard_normal((rank, shape[1]))
    return left @ right / np.sqrt(shape[0] * shape[1])


def orthogonal_inputs(dimension: int, samples: int, random_state: np.random.Generator) -> Float[np.ndarray, "d_x N"]:
    """Random inputs with orthonormal rows (``samples >= dimension``): whitened by construction.

    Args:
        dimension: d_x.
        samples: N.
        random_state: Source of randomness; uniform over all such matrices.

    Raises:
        InputError: If there are fewer samples than dimensions.

    Example:
        >>> x = orthogonal_inputs(3, 5, np.random.default_rng(0))
        >>> np.allclose(x @ x.T, np.eye(3))
        True
    """
    if samples < dimension:
        raise InputError(f"{samples} samples cannot have {dimension} orthonormal rows; pass at least {dimension}.")
    return haar((samples, dimension), random_state).T


def one_hot(labels: Int[np.ndarray, " N"], classes: int) -> Float[np.ndarray, "K N"]:
    """Targets of a classification: column i is the unit vector of its label.

    Args:
        labels: Integers 0 … K - 1.
        classes: K.

    Example:
        >>> one_hot(np.array([0, 2]), classes=3).tolist()
        [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    """
    return np.eye(classes)[:, labels]


def balanced_labels(classes: int, per_class: int) -> Int[np.ndarray, " N"]:
    """``0, …, 0, 1, …, 1, …``: n samples for each of K classes.

    Args:
        classes: K.
        per_class: n.

    Example:
        >>> balanced_labels(classes=2, per_class=3).tolist()
        [0, 0, 0, 1, 1, 1]
    """
    return np.repeat(np.arange(classes), per_class)


def haar(shape: tuple[int, int], random_state: np.random.Generator) -> Float[np.ndarray, "m n"]:
    """A semi-orthogonal matrix drawn uniformly (orthonormal columns if tall, rows if wide)."""
    tall = random_state.standard_normal((max(shape), min(shape)))
    q, r = np.linalg.qr(tall)
    q *= np.sign(np.diagonal(r))  # without this the distribution is not uniform
    return q if shape[0] >= shape[1] else q.T

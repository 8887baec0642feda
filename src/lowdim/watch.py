"""The weights of any PyTorch model followed over training: spectra, angles, and where their change lies."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from lowdim._arguments import checked_arguments
from lowdim._linalg import effective_rank, leading_vectors, orthonormal_basis, subspace_angle
from lowdim.errors import NonFiniteError, UsageError, did_you_mean
from lowdim.figures import Figure, Lines, Panels, Series, Surface

__all__ = ["Observation", "WeightWatcher"]


@dataclass(frozen=True)
class Observation:
    r"""One weight matrix at one step.

    Attributes:
        step: Number of the step about to be made.
        values: Singular values, descending.
        right_angles: Angle in radians of each right singular vector to its counterpart in the reference.
        left_angles: The same for left singular vectors.
        subspace_angle: Largest principal angle between the spans of the leading 2K right singular vectors, now and then.
        effective_rank: Exponential of the entropy of the singular values.
        relative_change: $\lVert W - W_0\rVert_F / \lVert W_0\rVert_F$.
        share: Part of the squared change $\lVert W - W_0\rVert_F^2$ that the law of parsimony allows: the block between the spans of
            $(U, W_0 V)$ and $(V, W_0^\top U)$, with U, V the leading K singular vectors of the first gradient (fewer where its rank
            is lower), and one multiple of what $W_0$ is beside them. 1 for a deep linear network from orthogonal weights under
            full-batch gradient descent on whitened inputs (where the law has one invariant part). None before the first
            change and where there was no gradient.
        chance: The share that a change of random direction has.
    """

    step: int
    values: Float[np.ndarray, " k"]
    right_angles: Float[np.ndarray, " k"]
    left_angles: Float[np.ndarray, " k"]
    subspace_angle: float
    effective_rank: float
    relative_change: float
    share: float | None
    chance: float | None


class WeightWatcher:
    """Follows chosen weight matrices while a model trains; reads parameters and gradients and changes nothing.

    Call it in each step after ``loss.backward()`` and before ``optimizer.step()``: the first call sees the initial weights
    and their gradient. Convolutions count as matrices of ``out x (in · height · width)``.

    Args:
        model: Any module.
        weights: Names or globs of parameters, as in ``model.named_parameters()``; all weight matrices when left out.
        classes: K, the number of classes (or the rank of the target): changes are compared with 2K directions on each side.
        every: Look at steps that are multiples of this.
        reference: The first step looked at from here on is what angles refer to. With orthogonal initial weights take 1:
            at step 0 all singular values are equal and the vectors arbitrary.

    Raises:
        UsageError: If no weight matrix has such a name, one is complex, or a number is below its least value.

    Note:
        Cost: one SVD per matrix and step looked at, on the CPU in float64, and a copy of each matrix at the start.

    References:
        Yaras et al. (2023), arXiv:2306.01154; Yaras et al. (2024), arXiv:2406.04112.

    Example:
        >>> model = nn.Linear(4, 3)
        >>> watcher = WeightWatcher(model, classes=1)
        >>> for step in range(2):
        ...     model(torch.ones(2, 4)).sum().backward()
        ...     watcher(step)
        >>> [seen.step for seen in watcher.history["weight"]]
        [0, 1]
    """

    @checked_arguments
    def __init__(
        self,
        model: nn.Module,
        weights: Sequence[str] | None = None,
        *,
        classes: int,
        every: int = 1,
        reference: int = 0,
    ) -> None:
        if classes < 1 or every < 1 or reference < 0:
            raise UsageError(
                f"classes and every must be >= 1, reference >= 0; they are {classes}, {every}, {reference}."
            )
        self.classes, self.every, self.reference = classes, every, reference
        self.history: dict[str, list[Observation]] = {}
        self._parameters = _choose(model, weights)
        self._start: dict[str, _Start] = {}
        self._reference: dict[str, _Vectors] = {}

    @checked_arguments
    def __call__(self, step: int) -> None:
        """Looks at every watched matrix if the step is due.

        Raises:
            NonFiniteError: If a weight, or its first gradient, is NaN or infinite.
        """
        if step % self.every:
            return
        for name, parameter in self._parameters.items():
            matrix = _matrix(parameter)
            gradient = None if name in self._start or parameter.grad is None else _matrix(parameter.grad)
            for what, values in ((name, matrix), (f"the gradient of {name}", gradient)):
                if values is not None and not np.isfinite(values).all():
                    raise NonFiniteError(f"{what} contains NaN or infinity at step {step}: the training diverged.")
            if name not in self._start:
                self._start[name] = _Start.of(matrix, _leading(gradient, self.classes, parameter.dtype))
            vectors = _Vectors(*np.linalg.svd(matrix, full_matrices=False))
            if name not in self._reference or self._reference_pending(name):
                self._reference[name] = vectors
            self.history.setdefault(name, []).append(self._observe(name, step, matrix, vectors))

    def figures(self) -> list[Figure]:
        """Surfaces of singular values and angles over index and step, and lines of rank and share against the step.

        Raises:
            UsageError: If nothing was looked at twice.
        """
        if not self.history or min(len(seen) for seen in self.history.values()) < 2:
            raise UsageError("there is nothing to show yet: call the watcher in at least two steps of the training.")
        angles = "Angle to the reference (rad)"
        return [
            Panels("watch-values", "Singular values", self._surfaces("values", "singular value")),
            Panels("watch-right", f"Right singular vectors. {angles}", self._surfaces("right_angles", "angle (rad)")),
            Panels("watch-left", f"Left singular vectors. {angles}", self._surfaces("left_angles", "angle (rad)")),
            self._lines("effective_rank", "Effective rank of each matrix", "effective rank"),
            self._lines("subspace_angle", f"Leading {2 * self.classes} right singular vectors", "largest angle (rad)"),
            self._lines("share", "Share of the squared change that the law of parsimony allows", "share", by="chance"),
        ]

    def _reference_pending(self, name: str) -> bool:
        seen = self.history.get(name, [])
        return not seen or seen[-1].step < self.reference

    def _observe(self, name: str, step: int, matrix: np.ndarray, vectors: "_Vectors") -> Observation:
        start, reference, leading = self._start[name], self._reference[name], 2 * self.classes
        change = matrix - start.matrix
        size = float(np.linalg.norm(change))
        return Observation(
            step=step,
            values=vectors.values,
            right_angles=_angles(reference.right.T, vectors.right.T),
            left_angles=_angles(reference.left, vectors.left),
            subspace_angle=subspace_angle(reference.right[:leading].T, vectors.right[:leading].T),
            effective_rank=effective_rank(vectors.values),
            relative_change=size / float(np.linalg.norm(start.matrix)) if np.any(start.matrix) else float("inf"),
            share=start.share(change) if size else None,
            chance=start.chance,
        )

    def _surfaces(self, field: str, label: str) -> list[Surface]:
        result: list[Surface] = []
        for name, seen in self.history.items():
            table = np.array([getattr(one, field) for one in seen])
            steps, index = [one.step for one in seen], np.arange(1, table.shape[1] + 1)
            result.append(Surface(f"{field}-{name}", name, index, steps, table, "index", "step", label))
        return result

    def _lines(self, field: str, title: str, label: str, by: str = "") -> Lines:
        series = [
            Series(name, [one.step for one in seen], [_or_nan(getattr(one, field)) for one in seen], colour=colour)
            for colour, (name, seen) in enumerate(self.history.items())
        ]
        series += [
            Series(
                f"{name}, by {by}",
                [one.step for one in seen],
                [_or_nan(getattr(one, by)) for one in seen],
                style="dotted",
                colour=colour,
            )
            for colour, (name, seen) in enumerate(self.history.items())
            if by
        ]
        return Lines(f"watch-{field.replace('_', '-')}", title, "step", label, series)


@dataclass(frozen=True)
class _Vectors:
    left: Float[np.ndarray, "m k"]
    values: Float[np.ndarray, " k"]
    right: Float[np.ndarray, "k n"]


@dataclass(frozen=True)
class _Start:
    """A matrix at the first step; the block in which the law lets it change, and its own direction beside that block."""

    matrix: Float[np.ndarray, "m n"]
    block: tuple[Float[np.ndarray, "m p"], Float[np.ndarray, "q n"]] | None
    beside: Float[np.ndarray, "m n"] | None

    @classmethod
    def of(
        cls,
        matrix: Float[np.ndarray, "m n"],
        gradient: tuple[Float[np.ndarray, "m k"], Float[np.ndarray, "k n"]] | None,
    ) -> "_Start":
        if gradient is None:
            return cls(matrix, None, None)
        left, right = gradient
        size = np.linalg.norm(matrix, 2) or 1.0
        left, right = (
            orthonormal_basis(np.concatenate([left, matrix @ right.T / size], 1)),
            orthonormal_basis(np.concatenate([right.T, matrix.T @ left / size], 1)).T,
        )
        across = matrix - left @ (left.T @ matrix)
        beside = across - across @ right.T @ right
        if np.linalg.norm(beside) <= 1e-8 * np.linalg.norm(matrix):  # the block is all there is
            return cls(matrix, (left, right), None)
        return cls(matrix, (left, right), beside / np.linalg.norm(beside))

    @property
    def chance(self) -> float | None:
        if self.block is None:
            return None
        left, right = self.block
        return (left.shape[1] * len(right) + (self.beside is not None)) / self.matrix.size

    def share(self, change: Float[np.ndarray, "m n"]) -> float | None:
        if self.block is None:
            return None
        inside = float(np.linalg.norm(self.block[0].T @ change @ self.block[1].T)) ** 2
        along = 0.0 if self.beside is None else float(np.sum(change * self.beside)) ** 2
        return (inside + along) / float(np.sum(change**2))


def _choose(model: nn.Module, names: Sequence[str] | None) -> dict[str, nn.Parameter]:
    matrices = {name: parameter for name, parameter in model.named_parameters() if parameter.ndim >= 2}
    if names is None:
        chosen = matrices
    else:
        for glob in names:
            if not any(fnmatchcase(name, glob) for name in matrices):
                raise UsageError(f"the model has no weight matrix {glob!r}. {did_you_mean(glob, matrices)}")
        chosen = {name: p for name, p in matrices.items() if any(fnmatchcase(name, glob) for glob in names)}
    if not chosen:
        raise UsageError("the model has no weight matrix to watch (no parameter with two or more dimensions).")
    for name, parameter in chosen.items():
        if parameter.is_complex() or parameter.is_meta:
            why = "holds complex numbers" if parameter.is_complex() else "has no values yet (it is on the device meta)"
            raise UsageError(f"{name} {why} and cannot be watched. Name the others with `weights`.")
    return chosen


def _matrix(tensor: torch.Tensor) -> Float[np.ndarray, "m n"]:
    return tensor.detach().flatten(1).cpu().double().numpy().copy()


def _leading(gradient: np.ndarray | None, size: int, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray] | None:
    return None if gradient is None or not gradient.any() else leading_vectors(gradient, size, torch.finfo(dtype).eps)


def _angles(reference: Float[np.ndarray, "m k"], columns: Float[np.ndarray, "m k"]) -> Float[np.ndarray, " k"]:
    """Between lines, by the arcsine of the residual: exact for small angles."""
    residual = columns - reference * np.sum(reference * columns, axis=0)
    return np.arcsin(np.minimum(1.0, np.linalg.norm(residual, axis=0)))


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value

"""Weights over time from anywhere: a run, arrays, or a folder with one safetensors file per step."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open

from lowdim._files import verify_tensors
from lowdim._reading import reading
from lowdim.dynamics._trajectory import Trajectory
from lowdim.errors import InputError, NonFiniteError, did_you_mean


@dataclass(frozen=True)
class WeightHistory:
    """The factors of one network at several times, read one matrix at a time.

    Attributes:
        names: What to call each time: a step number or file name.
        shapes: Shape of each factor, first layer first.
        precision: Rounding unit of the stored numbers.
        read: ``read(layer, index)`` with layers from 1 and times from 0; float64.

    Example:
        >>> history = WeightHistory.of([[np.eye(2), np.ones((1, 2))], [2 * np.eye(2), np.ones((1, 2))]])
        >>> history.depth, history.shapes, history.weight(layer=1, index=1).tolist()
        (2, [(2, 2), (1, 2)], [[2.0, 0.0], [0.0, 2.0]])
    """

    names: list[str]
    shapes: list[tuple[int, ...]]
    precision: float
    read: Callable[[int, int], Float[np.ndarray, "m n"]]

    @property
    def depth(self) -> int:
        """L."""
        return len(self.shapes)

    def weight(self, layer: int, index: int) -> Float[np.ndarray, "m n"]:
        """A factor at the index-th time.

        Raises:
            InputError: If its shape is not that of the first time.
            NonFiniteError: If it holds NaN or infinity.
        """
        matrix = np.asarray(self.read(layer, index), np.float64)
        if matrix.shape != self.shapes[layer - 1]:
            raise InputError(
                f"factor {layer} at step {self.names[index]} has shape {matrix.shape}, but {self.shapes[layer - 1]} at "
                f"step {self.names[0]}: a history needs the same network at every step."
            )
        if not np.isfinite(matrix).all():
            raise NonFiniteError(f"factor {layer} at step {self.names[index]} contains NaN or infinity.")
        return matrix

    def weights(self, index: int) -> list[Float[np.ndarray, "m n"]]:
        """All factors at the index-th time."""
        return [self.weight(layer, index) for layer in range(1, self.depth + 1)]

    @classmethod
    def of(cls, source: "WeightHistory | Trajectory | Sequence[Sequence[np.ndarray]]") -> "WeightHistory":
        """From a run without batch axes, or from ``[[W_1, …, W_L] at each time]``.

        Raises:
            InputError: If it is empty, has batch axes, the number of factors changes, or a factor does not fit its neighbour.
        """
        if isinstance(source, WeightHistory):
            return source
        if isinstance(source, Trajectory):
            return cls._of_run(source)
        steps = [list(step) for step in source]
        if not steps or not steps[0]:
            raise InputError(
                "the weight history is empty. Pass at least the weights at the start and at one later time."
            )
        for index, step in enumerate(steps):
            if len(step) != len(steps[0]):
                raise InputError(f"step {index} has {len(step)} factors, but step 0 has {len(steps[0])}.")
        shapes = [np.shape(weight) for weight in steps[0]]
        _require_chain(shapes)
        precision = max(float(np.finfo(np.asarray(weight).dtype).eps) for weight in steps[0])
        return cls(
            [str(index) for index in range(len(steps))], shapes, precision, lambda layer, index: steps[index][layer - 1]
        )

    @classmethod
    def _of_run(cls, run: Trajectory) -> "WeightHistory":
        shapes = [weight.shape for weight in run.weights(run.times[0])]
        _require_chain(shapes)
        return cls(
            [f"{time:g}" for time in run.times],
            shapes,
            float(np.finfo(np.float64).eps),
            lambda layer, index: run.weight(layer, run.times[index]),
        )

    @classmethod
    def from_folder(cls, folder: Path | str, weights: Sequence[str] | None = None) -> "WeightHistory":
        """From ``STEP.safetensors`` files, steps in natural order.

        Args:
            folder: Holds one file per time.
            weights: Names of the factors in each file, first layer first; ``1 … L`` when left out.

        Raises:
            InputError: If the folder is missing or empty, a file is damaged, or names or shapes do not fit.
        """
        folder = Path(folder)
        files = sorted(folder.glob("*.safetensors"), key=lambda path: _natural(path.stem))
        if not files:
            what = "has no *.safetensors file" if folder.is_dir() else "is not a folder"
            raise InputError(f"{folder} {what}. Write one STEP.safetensors per time, with the factors named 1, 2, … .")
        held = [_tensors(path) for path in files]
        names = list(weights or (str(n) for n in range(1, 1 + sum(name.isdigit() for name in held[0]))))
        if not names:
            raise InputError(
                f"{files[0]} has no tensors named 1, 2, …; it has {', '.join(sorted(held[0])[:12])}. "
                "Name the factors, first layer first, with `weights=name,name,…`"
            )
        for path, shapes in zip(files, held, strict=True):
            for name in names:
                if name not in shapes:
                    raise InputError(f"{path} has no tensor {name!r}. {did_you_mean(name, shapes)}")
                if shapes[name] != held[0][name]:
                    raise InputError(
                        f"{name!r} has shape {shapes[name]} in {path} but {held[0][name]} in {files[0]}: "
                        "a history needs the same network at every step."
                    )
        _require_chain([held[0][name] for name in names])
        precision = max(_precision(files[0], name) for name in names)
        return cls(
            [path.stem for path in files],
            [held[0][name] for name in names],
            precision,
            lambda layer, index: _read(files[index], names[layer - 1]),
        )


def _natural(stem: str) -> list[tuple[int, int, str]]:
    """2 before 10, and "step-2" before "step-10"."""
    parts = re.split(r"(\d+)", stem)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def _tensors(path: Path) -> dict[str, tuple[int, ...]]:
    verify_tensors(path)
    with (
        reading(path, "safetensors", remedy="Write it again.", also=(SafetensorError,)),
        safe_open(path, framework="numpy") as file,
    ):
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _read(path: Path, name: str) -> Float[np.ndarray, "m n"]:
    with (
        reading(path, "a NumPy array", name=f"tensor {name!r} of {path}", also=(SafetensorError,)),
        safe_open(path, framework="numpy") as file,
    ):
        return file.get_tensor(name)


def _precision(path: Path, name: str) -> float:
    matrix = _read(path, name)
    if matrix.dtype.kind != "f":
        raise InputError(f"tensor {name!r} of {path} holds {matrix.dtype}, not floating-point weights.")
    return float(np.finfo(matrix.dtype).eps)


def _require_chain(shapes: Sequence[tuple[int, ...]]) -> None:
    for number, shape in enumerate(shapes, 1):
        if len(shape) != 2 or 0 in shape:
            raise InputError(
                f"factor {number} has shape {shape}; a linear layer's weight is a matrix. Choose others with weights=."
            )
        if number > 1 and shape[1] != shapes[number - 2][0]:
            raise InputError(
                f"factor {number} of shape {shape} cannot follow factor {number - 1} of shape {shapes[number - 2]}: "
                "give the factors first layer first, each of shape (outputs, inputs)."
            )

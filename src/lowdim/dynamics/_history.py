"""Weights over time from anywhere: a run, arrays, or a folder with one file per step."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lowdim._arguments import named
from lowdim._names import step_name
from lowdim.dynamics._bases import orthogonal_part
from lowdim.dynamics._problem import has_fractions
from lowdim.dynamics._trajectory import Trajectory
from lowdim.dynamics._weight_files import PickleReader, Shapes, find_factors, held_shapes, read_matrix, weight_files
from lowdim.errors import InputError, NonFiniteError, did_you_mean

COARSE = 1e-5
"""Rounding unit above which (float16, bfloat16) no exact statement can be decided."""

EXACT = 1e-10
"""Smallest relative tolerance: exact arithmetic in float64."""

_LARGEST = 1e75
"""Beyond it, products of squares of numbers are infinite."""

BESIDE = re.compile(r"(?:.*[._])?(?:bias|b)[._]?\d*|.+\.weight")
"""Names of vectors of layers: biases, and what normalisation scales by."""


@dataclass(frozen=True)
class WeightHistory:
    """The factors of one network at several times, read one matrix at a time.

    Attributes:
        names: What to call each time: a step number or file name.
        shapes: Shape of each factor, first layer first.
        precision: Rounding unit of the coarsest numbers in it: of their type, or of a coarser one that holds them all exactly.
        read: ``read(layer, index)`` with layers from 1 and times from 0; float64.
        factors: Names of the factors in the files they come from.
        kind: Ending of these files.
        counted: Whether the names tell iterations; those of states in memory only count the states.
        beside: Names of biases, and of what scales the outputs of a layer, that lie beside the factors and change.

    Example:
        >>> history = WeightHistory.of([[np.eye(2), np.ones((1, 2))], [2 * np.eye(2), np.ones((1, 2))]])
        >>> history.depth, history.shapes, history.weight(layer=1, index=1).tolist()
        (2, [(2, 2), (1, 2)], [[2.0, 0.0], [0.0, 2.0]])
    """

    names: list[str]
    shapes: list[tuple[int, ...]]
    precision: float
    read: Callable[[int, int], Float[np.ndarray, "m n"]]
    factors: Sequence[str] = ()
    kind: str = ""
    counted: bool = True
    beside: Sequence[str] = ()

    @property
    def depth(self) -> int:
        """L."""
        return len(self.shapes)

    def time(self, index: int) -> str:
        """What to call the index-th time in a sentence."""
        return step_name(self.names[index])

    @property
    def iterations(self) -> Float[np.ndarray, " T"]:
        """Iterations since the first time: from the last number in each name; where names have none, 10^4 for each time."""
        found = [re.findall(r"\d+", name) for name in self.names]
        numbers = np.array([float(parts[-1]) if parts else np.nan for parts in found])
        if np.isfinite(numbers).all() and (np.diff(numbers) > 0).all():
            return numbers - numbers[0]
        return 1e4 * np.arange(len(self.names))

    @property
    def rounding(self) -> Float[np.ndarray, " T"]:
        r"""How much of $\lVert W\rVert_F$ rounding may have moved by each time: of what is stored, and of every step until then.

        Errors of T steps add up like a random walk. Steps below the rounding unit are rounded the same way every time; those are
        seen by the change being small, see `resolved`.
        """
        return self.precision * (2 + 4 * np.sqrt(self.iterations))

    @property
    def unit(self) -> float:
        """`precision`, or that of the start where it is coarser: float32 weights that were trained on in float64."""
        start = self.weights(0)
        gaps = [orthogonal_part(weight)[2] for weight in start if weight.any() and len(weight) <= len(weight.T)]
        return max(self.precision, rounding_unit(start)) if max(gaps, default=0.0) > EXACT else self.precision

    def weight(self, layer: int, index: int) -> Float[np.ndarray, "m n"]:
        """A factor at the index-th time.

        Raises:
            InputError: If its shape is not that of the first time.
            NonFiniteError: If it holds NaN or infinity.
        """
        matrix = np.asarray(self.read(layer, index), np.float64)
        if matrix.shape != self.shapes[layer - 1]:
            raise InputError(
                f"factor {layer} at {self.time(index)} has shape {matrix.shape}, but {self.shapes[layer - 1]} at "
                f"{self.time(0)}: a history needs the same network at every step."
            )
        if not np.isfinite(matrix).all():
            raise NonFiniteError(f"factor {layer} at {self.time(index)} contains NaN or infinity.")
        if matrix.size and np.abs(matrix).max() > _LARGEST:
            raise NonFiniteError(
                f"factor {layer} at {self.time(index)} holds numbers up to {np.abs(matrix).max():.0e}, whose products are none: the training "
                "diverged. Record it with smaller steps."
            )
        return matrix

    def weights(self, index: int) -> list[Float[np.ndarray, "m n"]]:
        """All factors at the index-th time."""
        return [self.weight(layer, index) for layer in range(1, self.depth + 1)]

    @classmethod
    def of(
        cls,
        source: "WeightHistory | Trajectory | Sequence[Sequence[np.ndarray] | Mapping[str, Any]]",
        weights: Sequence[str] | None = None,
    ) -> "WeightHistory":
        """From a run without batch axes, or from ``[[W_1, …, W_L] at each time]``.

        Args:
            source: The run; a time may also be a mapping of arrays or tensors, such as a state dict.
            weights: Names of the factors in mappings, first layer first; ``1 … L`` when left out.

        Raises:
            InputError: If it is empty, has batch axes, the number of factors changes, or a factor does not fit its neighbour.
        """
        if isinstance(source, WeightHistory):
            return source
        if isinstance(source, Trajectory):
            return cls._of_run(source)
        steps = [_factors(step, index, weights) for index, step in enumerate(source)]
        if not steps or not steps[0]:
            raise InputError(
                "the weight history is empty. Pass at least the weights at the start and at one later time."
            )
        for index, step in enumerate(steps):
            if len(step) != len(steps[0]):
                raise InputError(f"step {index} has {len(step)} factors, but step 0 has {len(steps[0])}.")
        shapes = [np.shape(weight) for weight in steps[0]]
        _require_chain(shapes)
        precision = rounding_unit(weight for step in steps for weight in step)
        first, last = source[0], source[-1]
        beside = list[str]()
        if isinstance(first, Mapping) and isinstance(last, Mapping):
            ends = (first, last)
            before, after = ({name: np.shape(value) for name, value in state.items()} for state in ends)
            beside = _changed_beside(before, after, shapes, lambda name, index: _array(ends[index][name], name))
        return cls(
            [str(index) for index in range(len(steps))],
            shapes,
            precision,
            lambda layer, index: steps[index][layer - 1],
            counted=False,
            beside=beside,
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
    def from_folder(
        cls, folder: Path | str, weights: Sequence[str] | None = None, *, read_pickle: PickleReader | None = None
    ) -> "WeightHistory":
        """From ``STEP.safetensors`` (or ``.pt``, ``.pth``, ``.npz``) files of one kind, steps in natural order.

        Args:
            folder: Holds one file per time.
            weights: Names of the factors in each file, first layer first. When left out: ``1 … L``, or all matrices where their
                order is certain (from their numbers or shapes, or from the order of a state dict).
            read_pickle: Reads the arrays of a ``.pt`` or ``.pth`` file, by name.

        Raises:
            InputError: If the folder is missing or empty, a file is damaged, or names or shapes do not fit.
        """
        files = weight_files(Path(folder))
        held = [held_shapes(path, read_pickle) for path in files]
        names = list(weights or find_factors(held[0], ordered=files[0].suffix.lower() != ".safetensors"))
        if not names:
            matrices = [f"{name} {shape}" for name, shape in held[0].items() if len(shape) == 2]
            raise InputError(
                f"{files[0]} has no tensors named 1, 2, …, and the order of its matrices is not certain; it has "
                f"{', '.join(matrices[:12]) or 'none'}. Name the factors, first layer first, with `weights=name,name,…`"
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
        precision = rounding_unit(read_matrix(path, name, read_pickle) for path in files for name in names)
        return cls(
            [path.stem for path in files],
            [held[0][name] for name in names],
            precision,
            lambda layer, index: read_matrix(files[index], names[layer - 1], read_pickle),
            names,
            files[0].suffix,
            beside=_changed_beside(
                held[0],
                held[-1],
                [held[0][name] for name in names],
                lambda name, index: read_matrix(files[index], name, read_pickle),
            ),
        )


def _changed_beside(
    first: Shapes, last: Shapes, factors: Sequence[tuple[int, ...]], read: Callable[[str, int], np.ndarray]
) -> list[str]:
    """Vectors as long as the output of a factor, called as layers call what they add or multiply, that are not at the end what they were."""
    lengths = {(rows,) for rows, _ in factors}
    return [
        name
        for name, shape in first.items()
        if shape in lengths
        and last.get(name) == shape
        and BESIDE.fullmatch(name)
        and not np.array_equal(read(name, 0), read(name, -1))
    ]


def _factors(state: Mapping[str, Any] | Sequence[Any], index: int, weights: Sequence[str] | None) -> list[np.ndarray]:
    """The factors of one time, in their order or by their names; tensors come from where they are."""
    if not isinstance(state, Mapping):
        if isinstance(state, str | bytes) or not hasattr(state, "__len__"):
            raise InputError(
                f"step {index} is {named(state)}; each time is a list of the factors' matrices, first layer first, or the matrices by name."
            )
        return [_array(value, f"factor {number} of step {index}") for number, value in enumerate(state, 1)]
    names = weights or find_factors({str(name): np.shape(value) for name, value in state.items()}, ordered=True)
    missing = [name for name in names if name not in state]
    if missing or not names:
        raise InputError(
            f"the state at index {index} has no {missing[0] if missing else 'matrices whose order is certain'}; it has "
            f"{', '.join(map(str, list(state)[:12]))}. Name the factors, first layer first, with `weights=name,name,…`"
        )
    return [_array(state[name], f"{name} at index {index}") for name in names]


def _array(value: Any, name: str) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    found = np.asarray(value)
    if found.dtype.kind not in "fiub":
        raise InputError(f"{name} is {named(value)} of type {found.dtype}; a matrix of numbers is needed.")
    return found


def rounding_unit(arrays: Iterable[np.ndarray]) -> float:
    """Distance of 1 from the next number, in the coarsest type among the arrays or in a coarser one that holds them all.

    Weights that were trained in bfloat16 and saved as float32 are still bfloat16 numbers. Whole numbers are exact.
    """
    unit, bits = float(np.finfo(np.float64).eps), 0
    for array in arrays:
        if not has_fractions(array):
            continue
        if array.dtype.kind == "f":
            unit = max(unit, float(np.finfo(array.dtype).eps))
        bits = max(bits, _bits(array))
    return max(unit, 2.0 ** (1 - (bits or 53)))


def _bits(array: np.ndarray) -> int:
    """Length of the mantissa that holds all entries: of bfloat16, float16, float32, or all of float64."""
    mantissa = np.frexp(array.astype(np.float64))[0]
    for bits in (8, 11, 24):
        scaled = np.ldexp(mantissa, bits)
        if (scaled == np.rint(scaled)).all():
            return bits
    return 53


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

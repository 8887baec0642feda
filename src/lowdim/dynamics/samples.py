"""Inputs and targets from a NumPy file, one column per sample."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from lowdim._reading import read_arrays
from lowdim.dynamics._problem import Problem, one_hot
from lowdim.errors import InputError


@dataclass(frozen=True)
class Samples:
    """A problem and, where the targets are classes, their numbers."""

    problem: Problem
    labels: Int[np.ndarray, " N"] | None

    def classes(self) -> Int[np.ndarray, " N"]:
        """Class of each sample.

        Raises:
            InputError: If the targets are not classes.
        """
        if self.labels is None:
            raise InputError("y must hold classes: one-hot columns (K x N), or N whole numbers from 0.")
        return self.labels


def read_samples(path: Path) -> Samples:
    """Reads ``x`` (d_x x N) and ``y`` (d_y x N, or N class numbers) from an ``.npz`` file; nothing in it is executed.

    Raises:
        InputError: If the file or an array is missing or malformed.
    """
    arrays, names = read_arrays(path, ("x", "y"), remedy="Write plain arrays with numpy.savez.")
    for name in ("x", "y"):
        if name not in arrays:
            raise InputError(f"{path} has no array {name!r}; it has {', '.join(names) or 'none'}.")
        if arrays[name].dtype.kind not in "fiu":
            raise InputError(f"{name} in {path} holds {arrays[name].dtype}, not numbers.")
    x, y = arrays["x"], arrays["y"]
    if y.ndim == 1:
        if y.dtype.kind not in "iu" or y.size == 0 or y.min() < 0 or y.max() >= y.size:
            raise InputError(f"y in {path} must hold class numbers from 0 as integers.")
        labels = y.astype(np.int64)
        return Samples(Problem(one_hot(labels, int(labels.max()) + 1), x), labels)
    problem = Problem(y, x)
    is_one_hot = bool(np.isin(y, (0, 1)).all() and (y.sum(axis=0) == 1).all())
    return Samples(problem, y.argmax(axis=0) if is_one_hot else None)

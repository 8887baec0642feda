"""Inputs and targets from a NumPy file, in any of the usual forms: samples as rows or as columns, classes as numbers or one-hot."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from lowdim._numbers import listed
from lowdim._reading import read_arrays
from lowdim.dynamics._problem import Problem, one_hot
from lowdim.errors import InputError

Side = Literal["rows", "columns"]

PAIRS = (("x", "y"), ("x_train", "y_train"), ("X", "Y"), ("X", "y"), ("X_train", "y_train"))
"""Names of inputs and targets; the first pair that a file holds is read."""


@dataclass(frozen=True)
class Samples:
    """A problem and, where the targets are classes, their numbers; `read` says in words what was made of the file.

    `other` is the side that samples may have just as well, where one was assumed.
    """

    problem: Problem
    labels: Int[np.ndarray, " N"] | None
    read: str
    other: Side | None = None

    def classes(self) -> Int[np.ndarray, " N"]:
        """Class of each sample.

        Raises:
            InputError: If the targets are not classes.
        """
        if self.labels is None:
            raise InputError("y must hold classes: one-hot (K per sample), or N whole numbers from 0.")
        return self.labels


def read_samples(path: Path, widths: tuple[int, int], side: Side | None = None) -> Samples:
    """Reads inputs and targets from an ``.npz`` file (``x, y`` or ``x_train, y_train``); nothing in it is executed.

    Args:
        path: The file. Inputs of more than two axes, as pictures, are samples along the first.
        widths: Numbers of inputs and outputs of the network: the axes that have them are not the samples.
        side: Whether samples are rows or columns, where both axes have as many. When left out: as the targets have them, else rows in
            ``x_train`` and columns in ``x``.

    Raises:
        InputError: If the file or an array is missing, malformed, or fits the network neither way.
    """
    arrays, names = read_arrays(
        path, {name for pair in PAIRS for name in pair}, remedy="Write plain arrays with numpy.savez."
    )
    pair = next((pair for pair in PAIRS if set(pair) <= set(arrays)), None)
    if pair is None:
        lacking = "y" if "x" in arrays else "x"
        raise InputError(
            f"{path} has no array {lacking!r} (or x_train and y_train); it has {', '.join(names) or 'none'}."
        )
    (x_name, y_name), (x, y) = pair, (arrays[name] for name in pair)
    if x.dtype.kind not in "fiu":
        raise InputError(f"{x_name} in {path} holds {x.dtype}, not numbers.")
    if x.ndim > 2:
        x, side = x.reshape(len(x), -1), "rows"
    inputs, outputs = widths
    if x.ndim != 2 or inputs not in x.shape:
        raise InputError(
            f"{x_name} in {path} has shape {x.shape}, but the first factor takes {inputs} inputs: one axis of it must have as many."
        )
    guessed, other = "", None
    if x.shape[0] != x.shape[1]:
        side = "columns" if len(x) == inputs else "rows"
    elif side is None:
        side, guessed, other = _assumed(x_name, y, outputs)
    targets, labels, kind = _targets(
        y, outputs, x.shape[1] if side == "columns" else len(x), side, f"{y_name} in {path}"
    )
    read = f"{x_name}: {targets.shape[1]} samples of {inputs} inputs (as {side}{guessed}); {y_name}: {kind}"
    return Samples(Problem(targets, x if side == "columns" else x.T), labels, read, other)


def _assumed(name: str, y: np.ndarray, outputs: int) -> tuple[Side, str, Side | None]:
    """The side of square inputs, how it is known, and the other where it is not."""
    if y.ndim == 2 and y.shape[0] != y.shape[1] and outputs in y.shape and 1 not in y.shape:
        return ("columns" if len(y) == outputs else "rows"), ", as the targets have them", None
    side: Side = "rows" if name.lower() == "x_train" else "columns"
    other: Side = "rows" if side == "columns" else "columns"
    return side, f", which is assumed because it is square; if they are {other}, set `samples={other}`", other


def _targets(
    y: np.ndarray, outputs: int, count: int, side: Side, where: str
) -> tuple[np.ndarray, Int[np.ndarray, " N"] | None, str]:
    """Targets as columns, classes where they are, and what they are in words."""
    if y.dtype.kind not in "fiuU":
        raise InputError(f"{where} holds {y.dtype}, not numbers.")
    fitting = [turned for turned in (y, y.T) if turned.shape == (outputs, count)]
    if y.ndim == 2 and 1 in y.shape and not fitting:
        y = y.ravel()
    if y.ndim == 2:
        if not fitting or y.dtype.kind == "U":
            raise InputError(
                f"{where} has shape {y.shape}, but there are {count} samples and the last factor has {outputs} rows."
            )
        columns = fitting[0] if len(fitting) == 1 or side == "columns" else fitting[1]
        is_one_hot = bool(np.isin(columns, (0, 1)).all() and (columns.sum(axis=0) == 1).all())
        kind = f"{outputs} classes, one-hot" if is_one_hot else f"{outputs} targets each"
        return columns, columns.argmax(axis=0) if is_one_hot else None, kind
    if y.shape != (count,):
        raise InputError(f"{where} has shape {y.shape}, but there are {count} samples.")
    if outputs == 1 and y.dtype.kind in "fiu":
        return y[None], None, "one target each"
    if y.dtype.kind == "f" and not (y == np.rint(y)).all():
        raise InputError(f"{where} holds one fraction per sample, but the last factor has {outputs} rows.")
    classes, labels = np.unique(y, return_inverse=True)
    if y.dtype.kind in "fiu" and len(classes) < outputs and classes.min() >= 0 and classes.max() < outputs:
        labels = y.astype(np.int64)  # a class without samples
    elif len(classes) != outputs:
        raise InputError(
            f"{where} holds {len(classes)} different class numbers, but the last factor has {outputs} rows: give targets with "
            f"{outputs} numbers per sample."
        )
    kind = f"{outputs} classes, made one-hot"
    if not np.array_equal(classes, np.arange(len(classes))) and len(classes) == outputs:
        kind += f" in the order {listed([str(one) for one in classes])}"
    return one_hot(labels, outputs), labels.astype(np.int64), kind

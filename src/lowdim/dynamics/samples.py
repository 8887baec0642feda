"""Inputs and targets from a NumPy file, in any of the usual forms: samples as rows or as columns, classes as numbers or one-hot."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from lowdim._numbers import listed
from lowdim._reading import read_arrays
from lowdim.dynamics._causes import downhill, first_steps, fit_descent
from lowdim.dynamics._history import WeightHistory
from lowdim.dynamics._network import end_to_end
from lowdim.dynamics._problem import Problem, one_hot
from lowdim.errors import InputError

Side = Literal["rows", "columns"]

DOWNHILL = 0.2
"""Cosine of a change with the negative gradient, from which it is no chance: for networks of a few hundred weights four times that of a random one."""

PAIRS = (("x", "y"), ("x_train", "y_train"), ("X", "Y"), ("X", "y"), ("X_train", "y_train"))
"""Names of inputs and targets; the first pair that a file holds is read."""


@dataclass(frozen=True)
class Samples:
    """A problem and, where the targets are classes, their numbers; `read` says in words what was made of the file.

    `side` is what a sample is in the inputs. Where their shapes allow both, one was assumed and `other` holds the samples of the other.
    """

    problem: Problem
    labels: Int[np.ndarray, " N"] | None
    read: str
    side: Side
    other: "Samples | None" = None

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
            ``x_train`` and columns in ``x``, with the `other` way beside where it gives other samples.

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

    def taken(side: Side, why: str = "") -> Samples:
        count = x.shape[1] if side == "columns" else len(x)
        targets, labels, kind = _targets(y, outputs, count, side, f"{y_name} in {path}")
        read = f"{x_name}: {count} samples of {inputs} inputs (as {side}{why}); {y_name}: {kind}"
        return Samples(Problem(targets, x if side == "columns" else x.T), labels, read, side)

    if x.shape[0] != x.shape[1]:
        return taken("columns" if len(x) == inputs else "rows")
    if side is not None:
        return taken(side)
    if y.ndim == 2 and y.shape[0] != y.shape[1] and outputs in y.shape and 1 not in y.shape:
        return taken("columns" if len(y) == outputs else "rows", ", as the targets have them")
    sides: tuple[Side, Side] = ("rows", "columns") if x_name.lower() == "x_train" else ("columns", "rows")
    first, second = map(taken, sides)
    same = all(
        np.array_equal(getattr(first.problem, each), getattr(second.problem, each)) for each in ("inputs", "targets")
    )
    return first if same else replace(first, other=second)


def told_apart(
    history: WeightHistory, first: Samples, second: Samples, holds: tuple[bool | None, bool | None]
) -> tuple[Samples, str, bool]:
    """Which of two readings of square arrays the weights were trained on, in words why, and whether anything shows it.

    Args:
        history: Weights over time.
        first: The reading that is assumed where nothing shows which it is.
        second: The other.
        holds: Whether the theorem holds with each.
    """
    both, last, steps = (first, second), len(history.names) - 1, first_steps(history)
    products = [end_to_end(history.weights(index)) for index in (0, last)]
    along = [downhill(steps[0], one.problem) if steps else 0.0 for one in both]
    losses = [[float(one.problem.loss(product)) for product in products] for one in both]
    ends = [end for _, end in losses]
    signs = {
        "the first recorded steps are gradient descent on these": [
            fit_descent(steps, one.problem) is not None for one in both
        ],
        "the theorem holds with these": [one is True for one in holds],
        "training fits these better": [end <= 0.5 * other for end, other in (ends, ends[::-1])],
        "the first recorded change goes down their loss": [
            here > DOWNHILL and there < 0.5 * here for here, there in (along, along[::-1])
        ],
    }
    found = next(((words, here) for words, (here, there) in signs.items() if here != there), None)
    chosen, other = (0, 1) if found is None or found[1] else (1, 0)
    taken, left = both[chosen].side, both[other].side
    why = ", which is assumed, as nothing shows which they are" if found is None else f": {found[0]}"
    would = {True: "would hold", False: "would not hold", None: "could not be decided"}[holds[other]]
    here, there = (f"{start:.3g} to {end:.3g}" for start, end in (losses[chosen], losses[other]))
    said = (
        f"x is square, and its samples are taken as {taken}{why}. As {left} the theorem {would}, and the loss would go from {there} "
        f"instead of from {here} (`samples={left}` takes them so)"
    )
    return both[chosen], said, found is not None


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

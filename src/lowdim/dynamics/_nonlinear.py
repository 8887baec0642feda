r"""Is the product of the weights the function that was trained? From weights alone a nonlinearity cannot be seen; with the data it can.

Where training of a linear network rests, at an optimum or at a saddle, $\langle W X - Y, W X\rangle = 0$: no multiple of the product
fits better. Layers that lose a part of their input (ReLU, GELU, tanh) make up for it by larger weights, so that the product of these
overshoots.
"""

import numpy as np
from jaxtyping import Float

from lowdim.dynamics._history import WeightHistory
from lowdim.dynamics._network import end_to_end
from lowdim.dynamics._problem import Problem

OVERSHOT = 0.85
"""Best multiple of the product, below which it overshoots: 1 for the squared loss in a linear network at rest, more with decay."""

SCALED = 0.1
"""Best multiple below which one-hot targets were fitted by the cross-entropy, which lets the product grow without end."""

UNFIT = 0.05
"""Squared error over that of predicting nothing (or the mean), from which the product does not fit."""

MOVED = 0.5
"""Change of the product's outputs over the length of the targets, below which little was trained yet."""

FLAT = 0.1
"""Relative change of the squared error over the second half of the recording, below which it rests."""

WORSE = 1.2
"""Squared error over that at the start, above which it need not rest: training of linear layers does not lead there."""

DIVERGED = 10.0
"""Growth of the squared error over that time, from which training diverged."""


def unfit_product(history: WeightHistory, problem: Problem) -> str:
    """What shows that the layers are not linear, or the data others; empty where nothing does."""
    last, half = len(history.names) - 1, (len(history.names) - 1) // 2
    moved = float(np.linalg.norm(_outputs(history, problem, last) - _outputs(history, problem, 0)))
    if moved < MOVED * np.linalg.norm(problem.targets):
        return ""
    classes = _one_hot(problem)
    least = SCALED if classes else 0.0
    times = [_errors(history, problem, index) for index in (0, half, last)]
    for (first, _), (before, then), (after, now) in zip(*times, strict=True):
        falls = after < (1 - FLAT) * before and after < WORSE * first
        grows = after > (1 + FLAT if classes else DIVERGED) * before
        overshoots = least <= now <= OVERSHOT and (not half or least <= then <= OVERSHOT)
        if falls or grows or after < UNFIT or not overshoots:
            return ""
    start, (end, multiple) = times[0][0][0], times[-1][0]
    loss = ", or another loss than the squared one," if classes else ""
    return (
        f"There is a nonlinearity between the layers (as ReLU){loss} since the product of the weights does not fit the targets: its "
        f"squared error is {end:.3g} of ||Y||^2 at {history.time(last)} ({start:.3g} at {history.time(0)}), and {multiple:.2g} times "
        "the product would fit better; training of linear layers neither rests there nor leads there. (If they are linear, it was on "
        "other data, or samples are the wrong way round.)"
    )


def _outputs(history: WeightHistory, problem: Problem, index: int) -> Float[np.ndarray, "d_y N"]:
    product = end_to_end(history.weights(index))
    return product if problem.inputs is None else product @ problem.inputs


def _errors(history: WeightHistory, problem: Problem, index: int) -> list[tuple[float, float]]:
    """Relative squared error of the product and its best multiple: as it is, and with the best constant beside (as of biases)."""
    outputs = _outputs(history, problem, index)
    pairs = [(outputs, problem.targets)]
    if problem.inputs is not None:
        pairs.append(tuple(each - each.mean(axis=1, keepdims=True) for each in pairs[0]))
    return [_error(*pair) for pair in pairs]


def _error(outputs: Float[np.ndarray, "d_y N"], targets: Float[np.ndarray, "d_y N"]) -> tuple[float, float]:
    goal, size = float(np.sum(targets**2)), float(np.sum(outputs**2))
    if not goal or not size:
        return 0.0, 1.0
    return float(np.sum((outputs - targets) ** 2)) / goal, float(np.sum(outputs * targets)) / size


def _one_hot(problem: Problem) -> bool:
    """Whether every column of the targets is the unit vector of a class."""
    targets = problem.targets
    return bool(np.isin(targets, (0, 1)).all() and (targets.sum(axis=0) == 1).all())

r"""Is the product of the weights the function that was trained? From weights alone a nonlinearity cannot be seen; with the data it can.

Where training of a linear network rests, at an optimum or at a saddle, $\langle W X - Y, W X\rangle = 0$: no multiple of the product
fits better. Layers that lose a part of their input (ReLU, GELU, tanh) make up for it by larger weights, so that the product of these
overshoots.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import erf, expit

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
"""Change of the product's outputs over their length or that of the targets, below which little was trained yet."""

FLAT = 0.1
"""Relative change of the squared error over the second half of the recording, below which it rests."""

WORSE = 1.2
"""Squared error over that at the start, above which it need not rest: training of linear layers does not lead there."""

ALIKE = 0.4
"""Least cosine of the product's outputs with the targets that training leaves: weights that were never trained on them overshoot, too."""

DIVERGED = 10.0
"""Growth of the squared error over that time, from which training diverged."""


def unfit_product(history: WeightHistory, problem: Problem) -> str:
    """What shows that the layers are not linear, or the data others; empty where nothing does."""
    last, half = len(history.names) - 1, (len(history.names) - 1) // 2
    outputs = _outputs(history, problem, 0)
    moved = np.linalg.norm(_outputs(history, problem, last) - outputs)
    if moved < MOVED * max(np.linalg.norm(problem.targets), np.linalg.norm(outputs)):
        return ""
    classes = _one_hot(problem)
    least = SCALED if classes else 0.0
    times = [_errors(history, problem, index) for index in (0, half, last)]
    for (first, _, _), (before, then, _), (after, now, alike) in zip(*times, strict=True):
        if alike < ALIKE:
            return ""
        falls = after < (1 - FLAT) * before and after < WORSE * first
        grows = after > (1 + FLAT if classes else DIVERGED) * before
        overshoots = least <= now <= OVERSHOT and (not half or least <= then <= OVERSHOT)
        if falls or grows or after < UNFIT or not overshoots:
            return ""
    start, (end, multiple, _) = times[0][0][0], times[-1][0]
    turned = problem.inputs is not None and problem.inputs.shape[0] == problem.inputs.shape[1]
    loss = ", or another loss than the squared one," if classes else ","
    return (
        f"There is a nonlinearity between the layers (as ReLU){loss} since the product of the weights does not fit the targets. Its "
        f"squared error is {end:.3g} of ||Y||^2 at {history.time(last)} ({start:.3g} at {history.time(0)}), and {multiple:.2g} times "
        "the product would fit better; training of linear layers neither rests there nor leads there. (If they are linear, it was on "
        f"other data{', or samples are the wrong way round' if turned else ''}.)"
    )


def _outputs(history: WeightHistory, problem: Problem, index: int) -> Float[np.ndarray, "d_y N"]:
    product = end_to_end(history.weights(index))
    return product if problem.inputs is None else product @ problem.inputs


def _errors(history: WeightHistory, problem: Problem, index: int) -> list[tuple[float, float, float]]:
    """Relative squared error of the product, its best multiple and the cosine with the targets: as it is, and with the best constant
    beside (as of biases)."""
    outputs = _outputs(history, problem, index)
    pairs = [(outputs, problem.targets)]
    if problem.inputs is not None:
        pairs.append(tuple(each - each.mean(axis=1, keepdims=True) for each in pairs[0]))
    return [_error(*pair) for pair in pairs]


def _error(outputs: Float[np.ndarray, "d_y N"], targets: Float[np.ndarray, "d_y N"]) -> tuple[float, float, float]:
    goal, size, both = float(np.sum(targets**2)), float(np.sum(outputs**2)), float(np.sum(outputs * targets))
    if not goal or not size:
        return 0.0, 1.0, 0.0
    return float(np.sum((outputs - targets) ** 2)) / goal, both / size, both / np.sqrt(goal * size)


def _one_hot(problem: Problem) -> bool:
    """Whether every column of the targets is the unit vector of a class."""
    return _one_hot_columns(problem.targets)


def _one_hot_columns(targets: Float[np.ndarray, "d_y N"]) -> bool:
    return bool(np.isin(targets, (0, 1)).all() and (targets.sum(axis=0) == 1).all())


Function = Callable[[np.ndarray], np.ndarray]

ACTIVATIONS: dict[str, tuple[Function, Function]] = {
    "ReLU": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "GELU": (
        lambda z: z * (1 + erf(z / np.sqrt(2))) / 2,
        lambda z: (1 + erf(z / np.sqrt(2))) / 2 + z * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi),
    ),
    "SiLU": (lambda z: z * expit(z), lambda z: expit(z) * (1 + z * (1 - expit(z)))),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (expit, lambda z: expit(z) * (1 - expit(z))),
}
"""Functions between layers, and their derivatives."""


def gradients_of_layers(
    weights: Sequence[Float[np.ndarray, "m n"]], inputs: Float[np.ndarray, "d N"], targets: Float[np.ndarray, "d_y N"]
) -> Iterator[tuple[str, list[Float[np.ndarray, "m n"]]]]:
    """Gradients in every factor of networks that are more than their product, in words: a function between the layers, or skip connections."""
    square = [layer for layer, weight in enumerate(weights) if weight.shape[0] == weight.shape[1]]
    inner = [layer for layer in square if 0 < layer < len(weights) - 1]
    losses = ["squared"] + (["cross-entropy"] if _one_hot_columns(targets) else [])
    for loss in losses:
        for name, pair in ACTIVATIONS.items():
            yield (
                f"There is a nonlinearity between the layers ({name})",
                _backward(weights, inputs, targets, loss, pair),
            )
        for skipped in {tuple(layers): layers for layers in (square, inner, square[:-1], square[1:]) if layers}:
            yield (
                f"Factors {', '.join(str(layer + 1) for layer in skipped)} have skip connections (residual blocks)",
                _backward(weights, inputs, targets, loss, None, skipped),
            )


def _backward(
    weights: Sequence[Float[np.ndarray, "m n"]],
    inputs: Float[np.ndarray, "d N"],
    targets: Float[np.ndarray, "d_y N"],
    loss: str,
    pair: tuple[Function, Function] | None,
    skipped: tuple[int, ...] = (),
) -> list[Float[np.ndarray, "m n"]]:
    """Backpropagation through factors with a function between them, or with the identity beside some of them."""
    last, seen, scores = len(weights) - 1, [inputs], list[np.ndarray]()
    for layer, weight in enumerate(weights):
        scores.append(weight @ seen[-1])
        out = pair[0](scores[-1]) if pair and layer < last else scores[-1]
        seen.append(out + seen[-1] if layer in skipped else out)
    outputs = seen[-1]
    if loss == "cross-entropy":
        outputs = np.exp(outputs - outputs.max(axis=0))
        outputs /= outputs.sum(axis=0)
    pull, slopes = outputs - targets, list[np.ndarray]()
    for layer in range(last, -1, -1):
        own = pull * pair[1](scores[layer]) if pair and layer < last else pull
        slopes.insert(0, own @ seen[layer].T)
        pull = weights[layer].T @ own + (pull if layer in skipped else 0)
    return slopes

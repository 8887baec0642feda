r"""Why do these weights not obey the law? What can be measured on their own steps, with or without the data.

A step of gradient descent on any loss of the product is $-\eta W_{L:l+1}^\top Z W_{l-1:1}^\top$ with one $Z$ for all factors: that of the
whole data set, of a minibatch, or, for an optimizer that works entry by entry, none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from jaxtyping import Float

from lowdim._numbers import listed
from lowdim.dynamics._bases import Bases
from lowdim.dynamics._history import WeightHistory
from lowdim.dynamics._network import end_to_end, gradients, partial_products
from lowdim.dynamics._nonlinear import gradients_of_layers
from lowdim.dynamics._problem import Problem

Matrices = Sequence[Float[np.ndarray, "m n"]]

FITS = 1e-5
"""Part of a step that the fitted update may leave unexplained, beside rounding."""

COARSE_GRADIENT = 0.02
"""Part of a step that arithmetic coarser than the weights' (bfloat16 has 2^-8 for each number) may leave unexplained."""

NEARLY = 0.1
"""The same of a first step that is the full-batch gradient: coarse products of several factors add up. A minibatch's is another by more."""

ALONG = 0.9
"""Share of what is forbidden to the first factor that must point along the mean input for a bias to be the cause."""

ENTRYWISE = "the optimizer scales each entry by itself"
"""What is said of Adam and its like."""

UNTOLD = "The reason cannot be told"
"""How a sentence begins where nothing that was measured decides."""

MOST_SAMPLES = 1500
"""For which it is solved how much each counts in a step."""

KEPT = 0.1
"""Relative distance of a step's sizes along the gradient's leading singular directions from its singular values, at which it keeps them."""

SEEN = 3.0
"""What is forbidden to the first factor, in units of rounding, from which its direction means something."""

FEW = 3
"""Directions beside the active ones, up to which many point along the mean by chance: then every recorded time must."""

LEADING = 0.25
"""Part of the leading singular directions of a step of Muon that may lie beside every gradient of the product: of Adam's, over a third does."""

AS_MADE = 0.15
"""Relative distance at which singular values of a step are those that Muon's iteration makes of the gradient's: Adam's are at .25 and more."""

VISIBLE = 2.0**-9
"""Singular values of a gradient over its norm, above which bfloat16 leaves them what they are."""

ALONE = 0.1
"""Where Muon's gradients have rank one: relative difference between the lengths of that direction in the factors. Of steps that clip or
scale each entry they differ by a factor of two."""

ASIDE = 0.4
"""The same: what may leave that direction, over its length. Of minibatches half of it does, of steps that scale each entry more."""

CHANGED = 0.4
"""Logarithm of the gradient's change within a history from which it can be seen whether the steps follow it."""

STEADY = 0.35
"""Logarithm of the steps' change over that of the gradient, below which they do not follow it: 1 for gradient descent, 0 for Muon."""

FLAT = 2.5
"""Largest over smallest leading singular value of a step that still counts as orthogonalised."""

NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
"""Muon's polynomial a x + b x^3 + c x^5, applied five times to the singular values over their norm (Jordan et al. 2024)."""


@dataclass(frozen=True)
class Step:
    """Two neighbouring times: the weights before, and what was added."""

    weights: Matrices
    update: Matrices
    iterations: float
    noise: float

    @property
    def tolerance(self) -> float:
        """Relative residual of a fit below which it explains the step."""
        return max(FITS, 10 * self.noise)


def first_steps(history: WeightHistory, count: int = 4) -> list[Step]:
    """The first neighbouring times between which something moved by more than rounding."""
    found: list[Step] = []
    for index in range(min(len(history.names) - 1, 4 * count)):
        step = _step(history, index)
        if step.noise < 0.1:
            found.append(step)
        elif found:
            break
        if len(found) == count:
            break
    return found


def _step(history: WeightHistory, index: int) -> Step:
    before, after = history.weights(index), history.weights(index + 1)
    update = [b - a for a, b in zip(before, after, strict=True)]
    moved, size = _length(update), _length(before)
    noise = history.precision * size / moved if moved else np.inf
    return Step(before, update, float(np.diff(history.iterations)[index]), noise)


def beyond_one_step(start: Matrices, end: Matrices) -> float:
    """Part of a change that no single gradient step (and decay) of a linear network makes, whatever its loss."""
    update = [b - a for a, b in zip(start, end, strict=True)]
    return _common_residual(Step(start, update, 1.0, 0.0), update) if _length(update) else 0.0


@dataclass(frozen=True)
class Fit:
    """``U = beta U_before - eta (gradient + lambda W)`` (or Nesterov's form of it), and the part of the length of U that it leaves.

    `first` is eta of the first step, where it changes from step to step.
    """

    eta: float
    decay: float
    momentum: float
    residual: float
    first: float | None = None

    def describe(self) -> str:
        """In words."""
        extras = [f"momentum {self.momentum:.3g}"] if self.momentum else []
        extras += [f"weight decay {self.decay:.3g}"] if self.decay else []
        with_extras = f", {' and '.join(extras)}" if extras else ""
        change = f", at first {self.first:.3g} (a schedule, or clipped gradients)" if self.first is not None else ""
        return (
            f"gradient descent on all of the data, step {self.eta:.3g}{change}{with_extras} "
            f"(unexplained part of the recorded steps: {self.residual:.1g})"
        )


def fit_descent(steps: Sequence[Step], problem: Problem) -> Fit | None:
    """The plainest full-batch update that explains the recorded steps; None where there is none, or rounding hides it.

    Numbers that are the same in every step are plainer than such that change, and a term is named only where the steps are not
    explained without it.
    """
    if not steps or any(step.iterations != 1 or step.tolerance > COARSE_GRADIENT for step in steps):
        return None
    terms: list[dict[str, np.ndarray]] = []
    for index, step in enumerate(steps):
        slope = _flat(gradients(step.weights, problem.phi, problem.gram))
        nothing = np.zeros(len(slope))
        momentum, last = (_flat(steps[index - 1].update), terms[-1]["step"]) if index else (nothing, nothing)
        terms.append({"step": slope, "decay": _flat(step.weights), "momentum": momentum, "last": last})
    fits: list[Fit] = []
    targets, tolerance = [_flat(step.update) for step in steps], max(step.tolerance for step in steps)
    for names in (
        ("step",),
        ("step", "decay"),
        ("step", "momentum"),
        ("step", "momentum", "last"),
        ("step", "decay", "momentum"),
    ):
        lengths = [np.linalg.norm(target) for target in targets]
        columns = [
            np.concatenate([term[name] / size for term, size in zip(terms, lengths, strict=True)]) for name in names
        ]
        together = np.concatenate([target / size for target, size in zip(targets, lengths, strict=True)])
        numbers, _ = _regress(columns, together)
        left = [
            np.linalg.norm(target - sum(number * term[name] for number, name in zip(numbers, names, strict=True)))
            / size
            for target, term, size in zip(targets, terms, lengths, strict=True)
        ]
        found = dict(zip(names, numbers, strict=True))
        momentum = found.get("momentum", 0.0)
        # Nesterov's step is -eta ((1 + beta) gradient - beta times the one before); other numbers only follow a step that changes
        if "last" in found and not _is_one_number([-found["last"] / found["step"], momentum / (1 + momentum)]):
            continue
        eta = -numbers[0] / (1 + momentum if "last" in found else 1)
        fits.append(Fit(float(eta), found.get("decay", 0.0) / numbers[0], momentum, float(max(left))))
    for names in (("step",), ("step", "decay"), ("step", "momentum"), ("step", "decay", "momentum")):
        each = [_regress([term[name] for name in names], target) for term, target in zip(terms, targets, strict=True)]
        last = dict(zip(names, each[-1][0], strict=True))
        worst = max(residual for _, residual in each)
        found = [dict(zip(names, numbers, strict=True)) for numbers, _ in each]
        decays = [one["decay"] / one["step"] for one in found if "decay" in one]
        momenta = [one["momentum"] for one in found[1:] if "momentum" in one]  # the first step has none
        if not _is_one_number(decays) or not _is_one_number(momenta):
            continue
        fits.append(
            Fit(-last["step"], last.get("decay", 0.0) / last["step"], last.get("momentum", 0.0), worst, -each[0][0][0])
        )
    least = min(fit.residual for fit in fits)
    enough = min(tolerance, 3 * max(least, *(step.noise for step in steps)))
    fits = [fit for fit in fits if fit.residual <= enough and fit.eta]
    return fits[0] if fits else None


def downhill(step: Step, problem: Problem) -> float:
    """Cosine of a step with the negative gradient."""
    slope, update = _flat(gradients(step.weights, problem.phi, problem.gram)), _flat(step.update)
    return float(-slope @ update / (np.linalg.norm(slope) * np.linalg.norm(update) or 1.0))


def _is_one_number(values: Sequence[float]) -> bool:
    """Whether they agree to a twentieth: what only fits each step by another number explains none."""
    return not values or max(values) - min(values) <= 0.05 * max(map(abs, values))


def unwhitened_cause(problem: Problem) -> str:
    """The sentence about inputs that are not whitened."""
    condition = f"{problem.condition:.3g}" if np.isfinite(problem.condition) else "infinite"
    return (
        f"The inputs are not whitened (condition of X: {condition}), so the invariance is only approximate; training on "
        "whiten(x) makes it exact."
    )


def beside_cause(history: WeightHistory) -> str:
    """The sentence about biases and the like that are in the files and change; empty where there are none."""
    if not history.beside:
        return ""
    what = "biases" if not any(name.endswith("weight") for name in history.beside) else "more than linear layers"
    changes = "change" if len(history.beside) > 1 else "changes"
    return f"Beside the factors {listed(history.beside, most=4)} {changes}: the network has {what}, which the theorem does not cover."


def find_cause(
    history: WeightHistory, problem: Problem | None, bases: Bases, steps: Sequence[Step], broken: float
) -> str:
    """The first measured reason for which the law is broken on whitened inputs, or that none can be told.

    Args:
        history: Weights over time.
        problem: The data, in the user's units.
        bases: Of the law.
        steps: `first_steps` of the history.
        broken: What the law forbids, over the change: a step that is known less precisely than that explains nothing.
    """
    if not steps:
        return f"{UNTOLD}: the recorded steps are too small against rounding to be read."
    step = steps[0]
    if problem is not None and _along_the_mean(history, problem, bases):
        return (
            "What is forbidden to factor 1 points along the mean input X 1: the network has biases, which the theorem "
            "does not cover."
        )
    if _equal_entries(step):
        same = "Every entry of the first step has the same size"
        if problem is not None and not _downhill(step, gradients(step.weights, problem.phi, problem.gram)):
            return f"{UNTOLD}: {same.lower()}, but its signs are no more those of the data's gradient than random ones."
        untold = (
            ""
            if problem is not None
            else " Whether its signs are those of the gradient takes the data (`data`) to tell."
        )
        return f"{same}: {ENTRYWISE} (as Adam does) and is not equivariant.{untold}"
    missing, slopes = _common_residual(step, step.update), None
    several = 2 * _moved_on(step)
    if step.iterations != 1:
        return _of_many(step, missing, several, problem)
    if problem is not None:
        slopes = gradients(step.weights, problem.phi, problem.gram)
        known = _scaled_entries(step, slopes) or _another_network(step, problem)
        if known:
            return known
    if missing <= step.tolerance:
        return _of_the_product(step, problem, slopes, broken)
    beside = _unexplained(step, slopes) if slopes is not None else np.inf
    epoch = ""
    if problem is not None and min(beside, missing) <= several + 2 * _turned(step, problem):
        epoch = "several iterations lie in one recorded step, as in an epoch of minibatches, or "
    if problem is not None and beside <= NEARLY:
        return (
            f"The first step is the gradient of all the data to {beside:.1g} of its length only: {epoch}gradients were computed in numbers "
            "coarser than those of the weights (autocast, TF32, bfloat16), or something small was added to them (noise)."
        )
    muon = _like_muon(history, step, problem, slopes)
    if muon:
        return muon
    if slopes is not None and missing > COARSE_GRADIENT and _keeps_the_gradient(step, slopes):
        return (
            f"Along its own directions the first step is the gradient of all the data, and {missing:.0%} of its length fits no gradient of the "
            f"product: {epoch}something was added (noise, an L1 penalty), units were dropped (dropout), or there is more than linear layers."
        )
    if missing <= max(COARSE_GRADIENT, several):
        inputs = "" if problem is not None else ", inputs that are not whitened"
        return (
            f"{UNTOLD}: {missing:.1g} of the first step fits no gradient of the product. Minibatches{inputs}, another loss, biases or a weak "
            "nonlinearity do that where several iterations (an epoch) lie in one recorded step, where gradients are coarse or noise is added; "
            "and so does an optimizer that is nearly equivariant. Record every iteration at the start."
        )
    return (
        f"The steps are not gradients of the product ({missing:.0%} of the first one fits none): the optimizer is not "
        "equivariant (as Adam and RMSprop, or nearly so as Muon in bfloat16), or the network is not the product of these weights alone "
        "(biases, dropout, nonlinearities, other layers between), or noise was added."
    )


def _of_many(step: Step, missing: float, several: float, problem: Problem | None) -> str:
    """What is known of a change over several iterations: whether gradients of the product can add up to it."""
    between = f"{step.iterations:g} iterations lie between the first two recorded times"
    if missing > several + step.iterations * step.tolerance:
        return (
            f"{between}, and no gradients of the product add up to that change ({missing:.0%} of it fits none, and the weights hardly moved): "
            "the optimizer is not equivariant (as Adam, or nearly so as Muon), or the network is not the product of these weights alone (biases, dropout, "
            "nonlinearities), or noise was added."
        )
    inputs, ask = (
        ("", "") if problem is not None else (" inputs that are not whitened,", ", and pass the data (`data`)")
    )
    return (
        f"{UNTOLD}: {between}. Minibatches,{inputs} biases, another loss, a nonlinearity, noise or another optimizer (as Adam or Muon) look "
        f"alike then. Record every iteration at the start{ask}."
    )


def _moved_on(step: Step) -> float:
    """How far what stands around each factor moved during a step, over its size: what a sum of several gradients may leave of one."""
    turns = [
        np.linalg.norm(update, 2) / np.linalg.norm(weight, 2)
        for weight, update in zip(step.weights, step.update, strict=True)
    ]
    return float((1 + max(turns)) ** (len(turns) - 1) - 1)


def _turned(step: Step, problem: Problem) -> float:
    """How far the residual moved during a step, over its size."""
    products = [end_to_end(step.weights)]
    products.append(end_to_end([weight + update for weight, update in zip(step.weights, step.update, strict=True)]))
    before, after = (product @ problem.gram if problem.gram is not None else product for product in products)
    return float(np.linalg.norm(after - before) / (np.linalg.norm(before - problem.phi) or 1.0))


def _of_the_product(step: Step, problem: Problem | None, slopes: Matrices | None, broken: float) -> str:
    """What is known of steps that have one Z for all factors."""
    far = slopes is not None and _unexplained(step, slopes) > 3 * step.tolerance
    if step.tolerance > (2 * NEARLY if far else min(broken, COARSE_GRADIENT)):
        return (
            f"{UNTOLD}: the first step is a gradient of the product to {step.tolerance:.1g} of its length, as far as rounding shows it, and "
            f"what is broken is {broken:.1g} of the change. Larger steps, or weights in float64, would tell."
        )
    if problem is None or slopes is None:
        return (
            "The steps are gradients of a linear network, but not of one loss with whitened inputs: minibatches, inputs "
            "that are not whitened, a bias, or another loss. The data (`data`) would tell which."
        )
    if _is_polar(step, slopes):
        return (
            "The steps are the exact polar factor of the gradient, which keeps the law only while the number on the invariant "
            "part is away from 0; there rounding is amplified."
        )
    if _is_cross_entropy(step, problem):
        return "The first step is the gradient of the cross-entropy on all of the data; the theorem is about the squared loss."
    if _unexplained(step, slopes) <= step.tolerance:
        return (
            "The first step is the gradient of all of the data, so what breaks the law came later: batches, a loss or an optimizer that "
            "change during training (RAdam begins to scale entries after some steps), biases that grew, or rounding."
        )
    return (
        "The first step is a gradient of the product, but not that of the squared loss on all the data: "
        + _of_some_samples(step, problem)
    )


def _of_some_samples(step: Step, problem: Problem) -> str:
    r"""Which samples a step is the gradient of, where their residuals and inputs allow only one answer: $Z = \sum_i c_i r_i x_i^\top$."""
    batch, loss = "minibatches, whose X_B X_B^T is not a multiple of the identity", "another loss or other targets"
    inputs, common = problem.inputs, _common(step, step.update)
    count = 0 if inputs is None else inputs.shape[1]
    if inputs is None or not 1 < count <= min(MOST_SAMPLES, common.size):
        return f"{batch}, or {loss}."
    product = end_to_end(step.weights)
    residuals = product @ inputs - problem.targets
    # the last column is weight decay: from orthogonal weights of one scale it is the gradient that has the product as its Z
    columns = np.column_stack([np.einsum("kn,dn->kdn", residuals, inputs).reshape(common.size, count), product.ravel()])
    columns /= np.maximum(scales := np.linalg.norm(columns, axis=0), np.finfo(float).tiny)
    sizes = np.linalg.svd(columns, compute_uv=False)
    if len(sizes) < count + 1 or sizes[-1] <= sizes[0] * max(1e-3, 1e2 * step.noise):
        return f"{batch}, or {loss}."
    numbers, left = _regress(list(columns.T), common.ravel())
    if left > max(1e-2, 10 * step.tolerance):
        return f"{loss}, as no weights of the samples explain it."
    weights = (numbers / scales)[:-1]
    weights = weights / weights[np.abs(weights).argmax()]
    inside = weights > 0.5
    if np.abs(weights - inside).max() > 0.1 or inside.all():
        return f"samples count differently (weights of classes or samples, several batches in one recorded step, or {loss})."
    return f"it is that of {inside.sum()} of the {count} samples, so of {batch}."


def started_late(weights: Matrices, tolerance: float) -> bool:
    """Whether the factors look like those of a run that began orthogonal: some singular values are one number, others are not.

    Three that agree by chance are not to be expected of a few hundred values drawn otherwise.
    """
    values = np.sort(np.linalg.svd(weights[0], compute_uv=False))
    agree = np.searchsorted(values, values + max(1e-6, tolerance) * values[-1], side="right") - np.arange(len(values))
    return bool(3 <= agree.max() < len(values))


def _along_the_mean(history: WeightHistory, problem: Problem, bases: Bases) -> bool:
    if problem.inputs is None:
        return False
    mean = problem.inputs.sum(axis=1)
    if np.linalg.norm(mean) <= 1e-6 * np.linalg.norm(problem.inputs):
        return False
    start, right, times = history.weight(1, 0), bases.right[0], 0.0
    inside = right @ (right.T @ mean)
    directions = np.linalg.svd(np.stack([inside, mean - inside]), full_matrices=False)[2]
    for index in range(1, len(history.names)):
        found = _forbidden(bases, history.weight(1, index) - start)
        seen = float(np.linalg.norm(found) / (history.rounding[index] * np.linalg.norm(start)))
        if seen < SEEN:
            continue
        times = max(times, seen)  # biases point there at every time, others by chance at some
        if np.linalg.norm(found @ directions.T) ** 2 < (ALONG - 1 / seen) * np.linalg.norm(found) ** 2:
            return False
        if seen > 30 and len(right) - right.shape[1] > FEW:
            break
    return times > SEEN


def _forbidden(bases: Bases, change: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m n"]:
    """What of a change of factor 1 lies neither in the active block nor is one number on an invariant part."""
    _, blocks, beside = bases.split(1, change)
    for block, part in blocks.items():
        form = bases.form(1, block)
        beside = beside + part - np.sum(part * form) / bases.count(block) * form
    return beside


def _around(step: Step) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What stands after and before each factor in the product."""
    befores = [np.eye(step.weights[0].shape[1]), *partial_products(step.weights)[:-1]]
    afters = [np.eye(step.weights[-1].shape[0])]
    for weight in reversed(step.weights[1:]):
        afters.insert(0, afters[0] @ weight)
    return afters, befores


def _best_common(afters: Matrices, befores: Matrices, matrices: Matrices) -> Float[np.ndarray, "m n"]:
    """The Z whose gradients are nearest to the matrices; the start is orthogonal, so its normal equations are scalar."""
    scale = sum(
        np.sum(after**2) / len(after) * np.sum(before**2) / len(before)
        for after, before in zip(afters, befores, strict=True)
    )
    parts = zip(afters, matrices, befores, strict=True)
    return reduce(np.add, (after @ matrix @ before for after, matrix, before in parts)) / scale


def _without_common(afters: Matrices, befores: Matrices, matrices: Matrices) -> Float[np.ndarray, " p"]:
    """The matrices without their best common Z."""
    common = _best_common(afters, befores, matrices)
    fits = [after.T @ common @ before.T for after, before in zip(afters, befores, strict=True)]
    return _flat([matrix - fit for matrix, fit in zip(matrices, fits, strict=True)])


def _decay_in(step: Step, residual: np.ndarray, decay: np.ndarray) -> float:
    """How much of the weights the update contains, from what no Z explains of either."""
    return float(residual @ decay / (decay @ decay)) if np.linalg.norm(decay) > 1e-6 * _length(step.weights) else 0.0


def _common(step: Step, update: Matrices) -> Float[np.ndarray, "m n"]:
    """Z of an update, up to the step, without weight decay."""
    around = _around(step)
    decay = _decay_in(step, _without_common(*around, update), _without_common(*around, step.weights))
    return _best_common(*around, [change - decay * weight for change, weight in zip(update, step.weights, strict=True)])


def _common_residual(step: Step, update: Matrices) -> float:
    """Part of the length of an update that is no gradient of the product, whatever the loss: no common Z (and no decay) gives it."""
    around = _around(step)
    residual, decay = _without_common(*around, update), _without_common(*around, step.weights)
    return float(np.linalg.norm(residual - _decay_in(step, residual, decay) * decay) / _length(update))


def _is_polar(step: Step, slopes: Matrices) -> bool:
    """Each update is the gradient with all singular values equal, to 1e-2, where the gradient's own are not."""
    others = False
    for weight, update, slope in zip(step.weights, step.update, slopes, strict=True):
        between, sizes, values = _in_the_gradients_directions(weight, update, slope, max(1e-6, 100 * step.noise))
        if not len(sizes) or sizes.min() <= 0 or sizes.max() > (1 + 1e-2) * sizes.min() or between > 1e-2:
            return False
        others = others or values[0] > (1 + 1e-1) * values[-1]
    return others


def _is_cross_entropy(step: Step, problem: Problem) -> bool:
    """Where targets are one-hot: the gradient of the mean or sum of -log softmax fits the step."""
    targets = problem.targets
    if problem.inputs is None or not (np.isin(targets, (0, 1)).all() and (targets.sum(axis=0) == 1).all()):
        return False
    scores = reduce(lambda product, weight: weight @ product, step.weights, problem.inputs)
    weights = np.exp(scores - scores.max(axis=0))
    pull = (weights / weights.sum(axis=0) - targets) @ problem.inputs.T
    slopes = gradients(step.weights, end_to_end(step.weights) - pull)
    return _regress([_flat(slopes), _flat(step.weights)], _flat(step.update))[1] <= max(step.tolerance, COARSE_GRADIENT)


def _in_the_gradients_directions(
    weight: np.ndarray, update: np.ndarray, slope: np.ndarray, above: float
) -> tuple[float, Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Among the gradient's singular directions: the part of the update between different ones, and its sizes along each; and the
    gradient's own over its norm, those above some part of it."""
    left, values, right = np.linalg.svd(slope, full_matrices=False)
    values = values / np.linalg.norm(slope)
    kept = values > above
    left, right = left[:, kept], right[kept]
    decay = _regress([(left @ right).ravel(), weight.ravel()], update.ravel())[0][1]
    inner = -left.T @ (update - decay * weight) @ right.T
    sizes = np.diagonal(inner)
    whole = float(np.linalg.norm(inner))
    return float(np.linalg.norm(inner - np.diag(sizes))) / whole if whole else 0.0, sizes, values[kept]


def _like_muon(history: WeightHistory, step: Step, problem: Problem | None, slopes: Matrices | None) -> str:
    """Whether the steps keep the leading singular directions of a gradient and not its singular values, in words.

    One step shows it where the gradient's singular values differ; where they agree, only the length of the steps, which does not follow
    that of the gradient: noise fills the other directions as bfloat16 does.
    """
    sure = False
    if problem is not None and slopes is not None:
        pace = _pace(history, problem)
        if _keeps_the_gradient(step, slopes) or (pace is not None and abs(pace - 1) < STEADY):
            return ""
        sure = _made_by_newton_schulz(step, slopes)
        alike = sure or _equal_leading(step) or _keeps_one_direction(step, slopes)
        sure = sure or (pace is not None and abs(pace) < STEADY)
    else:
        alike = _equal_leading(step)
    if not alike:
        return ""
    if sure:
        return (
            f"The steps have the gradient's singular values brought together ({_spread(step)}), but not to one: Muon's "
            "Newton-Schulz iteration, which is not the exact polar factor."
        )
    return (
        "The first step is a gradient of the product in its leading directions, and what lies beside them fits none: Muon's Newton-Schulz "
        "iteration in bfloat16, or something added to gradients whose singular values agree (noise, dropout, a nonlinearity). Every iteration "
        f"until the gradient has changed{'' if problem is not None else ', with the data,'} would tell which."
    )


def _pace(history: WeightHistory, problem: Problem) -> float | None:
    """How much the length of steps changes with that of the gradient, as a power: 1 for gradient descent, 0 for Muon.

    Along the leading direction of factor 1, between the first step and that where the gradient differs most; None where it hardly does.
    """
    lengths: list[tuple[float, float]] = []
    for index in np.unique(np.linspace(0, len(history.names) - 2, 12).astype(int)):
        step = _step(history, int(index))
        if step.iterations != 1 or step.noise > 0.1:
            continue
        left, values, right = np.linalg.svd(gradients(step.weights, problem.phi, problem.gram)[0], full_matrices=False)
        along = -left[:, 0] @ step.update[0] @ right[0]
        if along <= 0:
            break
        lengths.append((float(np.log(values[0])), float(np.log(along))))
    changes = [(slope - lengths[0][0], moved - lengths[0][1]) for slope, moved in lengths]
    slope, moved = max(changes, key=lambda pair: abs(pair[0]), default=(0.0, 0.0))
    return moved / slope if abs(slope) >= CHANGED else None


def _made_by_newton_schulz(step: Step, slopes: Matrices) -> bool:
    """Along the gradient's singular directions the sizes are those that the iteration makes of its singular values, not these."""
    for weight, update, slope in zip(step.weights, step.update, slopes, strict=True):
        _, sizes, values = _in_the_gradients_directions(weight, update, slope, VISIBLE)
        made = _newton_schulz(values)
        if len(sizes) < 2:
            return False
        if _regress([made], sizes)[1] > min(AS_MADE, 0.7 * _regress([values], sizes)[1]):
            return False
    return True


def _newton_schulz(values: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """What Muon makes of singular values over their norm."""
    for _ in range(5):
        values = NEWTON_SCHULZ[0] * values + NEWTON_SCHULZ[1] * values**3 + NEWTON_SCHULZ[2] * values**5
    return values


def _keeps_one_direction(step: Step, slopes: Matrices) -> bool:
    """Gradients of rank one whose direction is as long in every factor, with what bfloat16 fills in beside it."""
    lengths: list[float] = []
    filled = False
    for weight, update, slope in zip(step.weights, step.update, slopes, strict=True):
        left, values, right = np.linalg.svd(slope, full_matrices=False)
        u, v = left[:, 0], right[0]
        decay = _regress([np.outer(u, v).ravel(), weight.ravel()], update.ravel())[0][1]
        change = update - decay * weight
        lengths.append(float(-u @ change @ v))
        leaves = max(np.linalg.norm(change @ v + lengths[-1] * u), np.linalg.norm(u @ change + lengths[-1] * v))
        if values[1:].max(initial=0) > VISIBLE * values[0] or not leaves <= ASIDE * lengths[-1]:
            return False
        filled = filled or np.linalg.norm(change) > (1 + ALONE) * lengths[-1]
    return bool(filled) and max(lengths) <= (1 + ALONE) * min(lengths)


def _equal_leading(step: Step) -> bool:
    """Whether the leading directions of all factors have one Z, although the steps have none: bfloat16 fills the others; or all
    singular values are nearly equal, and there is one Z only nearly."""
    parts = [np.linalg.svd(update, full_matrices=False) for update in step.update]
    missing = _common_residual(step, step.update)
    if all(len(values) > 2 and values[-1] >= values[0] / FLAT for _, values, _ in parts):
        return COARSE_GRADIENT / 4 < missing <= LEADING
    for count in range(1, 1 + min(int(np.sum(values >= values[0] / FLAT)) for _, values, _ in parts)):
        leading = [(left[:, :count] * values[:count]) @ right[:count] for left, values, right in parts]
        if missing > COARSE_GRADIENT and _common_residual(step, leading) <= min(LEADING, 0.6 * missing):
            return True
    return False


def _spread(step: Step) -> str:
    values = np.linalg.svd(step.update[0], compute_uv=False)
    large = values[values > values[0] / FLAT]
    return f"the {len(large)} largest of factor 1 are {large[-1] / large[0]:.2f} to 1 times the first"


def _unexplained(step: Step, slopes: Matrices) -> float:
    """Part of a step that is neither a multiple of the gradient nor weight decay."""
    return _regress([_flat(slopes), _flat(step.weights)], _flat(step.update))[1]


def _scaled_entries(step: Step, slopes: Matrices) -> str:
    """Whether each entry is the gradient's, g, over a + b |g|, as in the first step of Adam or RMSprop with a large epsilon; or an L1 penalty."""
    update, slope, weights = _flat(step.update), _flat(slopes), _flat(step.weights)
    plain, enough = _unexplained(step, slopes), max(1e-4, 10 * step.noise)
    sizes = np.abs(slope)
    if _regress([update, sizes * update, weights, sizes * weights], slope)[1] <= min(enough, plain / 10):
        return (
            f"Each entry of the first step is that of the gradient, g, over a + b |g|: {ENTRYWISE} (as Adam and RMSprop do with a large "
            "epsilon) and is not equivariant."
        )
    if _regress([slope, weights, np.sign(weights)], update)[1] <= min(enough, plain / 10):
        return "The first step is the gradient of all the data and the sign of each weight: an L1 penalty, which is not equivariant."
    return ""


def _another_network(step: Step, problem: Problem) -> str:
    """Whether the first step is the gradient of a network that has more than the product of its factors."""
    if problem.inputs is None:
        return ""
    found = [
        (_unexplained(step, slopes), words)
        for words, slopes in gradients_of_layers(step.weights, problem.inputs, problem.targets)
    ]
    left, words = min(found)
    if (
        left > max(1e-3, step.tolerance)
        or left > _unexplained(step, gradients(step.weights, problem.phi, problem.gram)) / 10
    ):
        return ""
    return (
        f"{words}, which the theorem does not cover: the first step is the gradient of that network on all of the data."
    )


def _keeps_the_gradient(step: Step, slopes: Matrices) -> bool:
    """Along the gradient's singular directions the step has its singular values, which differ: Muon would bring them together."""
    for weight, update, slope in zip(step.weights, step.update, slopes, strict=True):
        _, sizes, values = _in_the_gradients_directions(weight, update, slope, VISIBLE)
        large = values >= values[0] / 4  # below, noise is as large as the gradient
        values, sizes = values[large], sizes[large]
        kept = _regress([values], sizes)[1]
        if len(values) < 2 or kept > KEPT or kept > 0.5 * _regress([_newton_schulz(values)], sizes)[1]:
            return False
    return True


def _equal_entries(step: Step) -> bool:
    """All entries are of one size, as in the first step of an optimizer that divides by the root of the mean square."""
    update, weights = _flat(step.update), _flat(step.weights)
    decay = _regress([np.sign(update), weights], update)[0][1]  # decoupled from the rest, as AdamW has it
    sizes = np.abs(update - decay * weights)
    typical = np.median(sizes)
    return bool(np.mean(np.abs(sizes - typical) <= min(max(1e-2, 10 * step.noise), 0.3) * typical) > 0.9)


def _downhill(step: Step, slopes: Matrices) -> bool:
    """Whether the signs of a step are against those of the gradient by more than random ones are: four standard deviations."""
    signs = -np.sign(_flat(step.update)) * np.sign(_flat(slopes))
    return bool(signs.sum() > 4 * np.sqrt(np.count_nonzero(signs)))


def _regress(columns: Sequence[np.ndarray], target: np.ndarray) -> tuple[np.ndarray, float]:
    scales = np.array([np.linalg.norm(column) or 1.0 for column in columns])
    matrix = np.stack(columns, 1) / scales
    numbers = np.linalg.lstsq(matrix, target, rcond=1e-10)[0]
    return numbers / scales, float(np.linalg.norm(target - matrix @ numbers) / (np.linalg.norm(target) or 1.0))


def _flat(matrices: Matrices) -> Float[np.ndarray, " p"]:
    return np.concatenate([matrix.ravel() for matrix in matrices])


def _length(matrices: Matrices) -> float:
    return float(np.linalg.norm(_flat(matrices)))

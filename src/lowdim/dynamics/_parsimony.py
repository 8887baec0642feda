"""Is the law of parsimony true of these weights? Every statement of the theorem, on a run or on anyone's weights."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from lowdim._verdicts import Check
from lowdim.dynamics._bases import Bases, NoInvariantPartError, orthogonal_part
from lowdim.dynamics._blocks import BlockForms, block_forms
from lowdim.dynamics._history import WeightHistory
from lowdim.dynamics._network import end_to_end
from lowdim.dynamics._problem import Problem
from lowdim.dynamics._recursion import scale_recursion
from lowdim.dynamics._rules import Rule
from lowdim.dynamics._trajectory import Trajectory
from lowdim.errors import InputError, UsageError

SUBSPACES = "invariant subspaces"


def check_parsimony(
    source: WeightHistory | Trajectory | Sequence[Sequence[np.ndarray]],
    *,
    problem: Problem | None = None,
    rank: int | None = None,
    rule: Rule | None = None,
) -> list[Check]:
    r"""Checks the law of parsimony: $W_l(t) = U_l\,\mathrm{diag}(\widetilde W_l(t), \rho_l(t) I)\,V_l^\top$ with fixed bases.

    Args:
        source: Weights over time, from the start of training.
        problem: The data: gives the bases by the theorem's formula and allows the loss identity. Without it the bases are
            read off the change of the first factor, and tested on all factors.
        rank: r, when it is to be larger than the target's (with data) or than the observed change needs (without).
        rule: How the weights were trained, one iteration per recorded time, to compare rho with its recursion.

    Returns:
        Orthogonal start, (whitened inputs,) invariant subspaces, one scalar per factor, (recursion of rho,) (loss
        identity). The list ends early where a failed assumption leaves nothing to check. Tolerances follow the precision
        in which the weights are stored.

    Raises:
        InputError: If the history is malformed or nothing was trained in it.
        UsageError: If the rank leaves no invariant part.

    References:
        Yaras et al. (2023), arXiv:2306.01154.

    Example:
        >>> from lowdim.dynamics import GradientDescent, initialize, low_rank_target, simulate
        >>> random = np.random.default_rng(0)
        >>> problem = Problem(low_rank_target((12, 12), 2, random))
        >>> run = simulate(problem, initialize([12] * 4, random), GradientDescent(step=0.01), steps=30, mode="full")
        >>> {check.name: check.holds for check in check_parsimony(run)}
        {'orthogonal initialisation': True, 'invariant subspaces': True, 'one scalar on the invariant part': True}
    """
    history = WeightHistory.of(source)
    if len(history.names) < 2:
        raise InputError("the history has one time only. Pass the weights at the start and at one later time at least.")
    tolerance = max(1e-10, 1e3 * history.precision)
    checks = [_orthogonal_start(history, tolerance)]
    if not checks[0].holds:
        return checks
    if problem is not None:
        _require_fit(problem, history)
        checks.append(_whitened(problem))
    try:
        bases = _find_bases(history, problem, rank, tolerance)
    except NoInvariantPartError as error:
        width = history.shapes[0][1]
        return [*checks, Check(SUBSPACES, False, 1.0, (width - 2) / width, f"share of changing directions. {error}")]
    forms = block_forms(history, bases)
    checks += [_invariant_subspaces(history, forms, tolerance), _one_scalar(forms, bases, tolerance)]
    if rule is not None:
        checks.append(_recursion(forms, rule, tolerance))
    if problem is not None:
        checks.append(_loss_identity(history, forms, bases, problem, tolerance))
    return checks


def _orthogonal_start(history: WeightHistory, tolerance: float) -> Check:
    name, width = "orthogonal initialisation", history.shapes[0][1]
    for number, (rows, columns) in enumerate(history.shapes, 1):
        if columns != width or rows > width or (rows < width and number < history.depth):
            reason = (
                f"factor {number} is {rows} x {columns}; the theorem needs square factors of the input's width {width}, "
                "except for fewer rows in the last."
            )
            return Check(name, False, 1.0, tolerance, reason)
    gaps = [orthogonal_part(weight)[2] for weight in history.weights(0)]
    worst = int(np.argmax(gaps))
    holds = gaps[worst] <= tolerance
    reason = f"largest entry of W W^T / eps^2 - I, in factor {worst + 1} at step {history.names[0]}."
    if not holds:
        reason += " The theorem starts from scaled orthogonal weights; is this the first step of training?"
    return Check(name, holds, gaps[worst], tolerance, reason)


def _require_fit(problem: Problem, history: WeightHistory) -> None:
    if problem.phi.shape != (history.shapes[-1][0], history.shapes[0][1]):
        raise InputError(
            f"the data have {problem.phi.shape[1]} input and {problem.phi.shape[0]} output dimensions, but the network "
            f"has {history.shapes[0][1]} and {history.shapes[-1][0]}. x and y need one column per sample."
        )


def _whitened(problem: Problem) -> Check:
    gap = problem.whitening_gap
    reason = "spectral norm of X X^T - I."
    if gap:
        reason += " Without whitened inputs the invariance is only approximate; training on whiten(x) makes it exact."
    return Check("whitened inputs", gap == 0, gap, 1e-8, reason)


def _find_bases(history: WeightHistory, problem: Problem | None, rank: int | None, tolerance: float) -> Bases:
    start = history.weights(0)
    if problem is not None:
        return Bases.from_data(problem, start, rank)
    width = history.shapes[0][1]
    if rank is not None and not 0 < 2 * rank < width:
        raise UsageError(f"rank {rank} leaves no invariant part of width {width}: it needs 0 < 2 x rank < width.")
    changed, directions = _observed_change(history, orthogonal_part(start[0])[0], tolerance)
    if not changed:
        raise InputError("factor 1 never changes, apart from its scale: there is no training to check.")
    rank = -(-changed // 2) if rank is None else rank
    if 2 * rank >= width:
        raise NoInvariantPartError(
            f"Factor 1 changed in {changed} of {width} directions, so no part of it is invariant. An optimizer that is not "
            "equivariant (Adam, RMSprop), other initial weights or a target of high rank do this."
        )
    return Bases.from_change(start, directions[: 2 * rank].T)


def _observed_change(
    history: WeightHistory, direction: np.ndarray, tolerance: float
) -> tuple[int, Float[np.ndarray, "d d"]]:
    """Number of directions in which the first factor changed, apart from its scale, and these directions as rows."""
    differences: list[np.ndarray] = []
    for index in np.unique(np.linspace(0, len(history.names) - 1, 16).astype(int)):
        weight = history.weight(1, int(index))
        # Most singular values are the common rho, so the median is one of them; its sign is that of the overlap.
        rho = np.median(np.linalg.svd(weight, compute_uv=False)) * (np.sign(np.sum(weight * direction)) or 1.0)
        differences.append(weight - rho * direction)
    _, values, rows = np.linalg.svd(np.concatenate(differences), full_matrices=False)
    return int(np.sum(values > tolerance * np.linalg.norm(history.weight(1, 0), 2))), rows


def _invariant_subspaces(history: WeightHistory, forms: BlockForms, tolerance: float) -> Check:
    index, layer = np.unravel_index(int(forms.off_block.argmax()), forms.off_block.shape)
    residual = float(forms.off_block[index, layer])
    holds = residual <= tolerance
    reason = f"largest ||off-diagonal blocks||_F / ||W||_F, in factor {layer + 1} at step {history.names[index]}."
    if not holds:
        reason += (
            " The training mixes the invariant subspace with the rest: the update is not equivariant (as Adam's), or "
        )
        reason += "the data or their rank are others than assumed."
    return Check(SUBSPACES, holds, residual, tolerance, reason)


def _one_scalar(forms: BlockForms, bases: Bases, tolerance: float) -> Check:
    residual = float(forms.spread.max())
    parts = [f"{bases.sizes.silent} singular values of each factor but the last"] if bases.sizes.silent else []
    parts += [f"{bases.sizes.fading} singular values of each factor"] if bases.sizes.fading else []
    number = "are one number" if len(parts) == 1 else "are one number each"
    reason = (
        f"largest ||invariant block - rho I||_F / ||W||_F: {' and '.join(parts)} {number}, along unchanging directions."
    )
    return Check("one scalar on the invariant part", residual <= tolerance, residual, tolerance, reason)


def _recursion(forms: BlockForms, rule: Rule, tolerance: float) -> Check:
    depth = forms.silent.shape[1]
    residual, steps, names = 0.0, len(forms.silent) - 1, list[str]()
    for name, numbers, reaches in (("silent", forms.silent[:, :-1], False), ("fading", forms.fading, True)):
        if not numbers.size or np.isnan(numbers).any():
            continue
        start = numbers[0]
        if np.ptp(start) > tolerance * np.abs(start).max():
            raise UsageError("rho's recursion needs the same initial scale in all factors. Leave `rule` out.")
        expected = scale_recursion(float(start[0]), rule, steps, depth=depth, full_output=reaches)
        residual = max(residual, float(np.abs(numbers - expected[:, None]).max() / np.abs(expected).max()))
        names.append(f"{numbers.shape[1]} factors of the {name} part")
    reason = f"largest |rho - recursion| / max rho over {steps} iterations and {' and '.join(names)}."
    return Check("recursion of rho", residual <= tolerance, residual, tolerance, reason)


def _loss_identity(
    history: WeightHistory, forms: BlockForms, bases: Bases, problem: Problem, tolerance: float
) -> Check:
    target = bases.left[-1].T @ problem.phi @ bases.right[0]
    gaps: list[float] = []
    first = 0.0
    for index, inner in enumerate(forms.inner):
        loss = float(problem.loss(end_to_end(history.weights(index))))
        learned = 0.5 * np.linalg.norm(end_to_end(inner) - target) ** 2
        # a silent direction does not pass the last factor
        bulk = 0.5 * bases.sizes.fading * np.prod(forms.fading[index]) ** 2 if bases.sizes.fading else 0.0
        gaps.append(float(abs(loss - learned - bulk - problem.constant)))
        first = first or loss
    residual = max(gaps) / first
    reason = "largest |loss - reduced loss - m_2 rho^(2L) / 2 - constant| / loss at the start."
    return Check("loss identity", residual <= tolerance, residual, tolerance, reason)

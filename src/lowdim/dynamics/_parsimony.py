"""Is the law of parsimony true of these weights? Every statement of the theorem, on a run or on anyone's weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from lowdim._arguments import checked_arguments
from lowdim._verdicts import Check
from lowdim.dynamics._bases import Bases, NoInvariantPartError, orthogonal_part, singular_spaces
from lowdim.dynamics._blocks import BlockForms, best_blocks, block_forms
from lowdim.dynamics._causes import (
    ENTRYWISE,
    UNTOLD,
    Step,
    beside_cause,
    beyond_one_step,
    find_cause,
    first_steps,
    fit_descent,
    started_late,
    unwhitened_cause,
)
from lowdim.dynamics._history import COARSE, EXACT, WeightHistory
from lowdim.dynamics._network import end_to_end
from lowdim.dynamics._nonlinear import unfit_product
from lowdim.dynamics._problem import WHITE, Problem
from lowdim.dynamics._recursion import scale_recursion
from lowdim.dynamics._rules import GradientDescent, Rule, at
from lowdim.dynamics._trajectory import Trajectory
from lowdim.errors import InputError, UsageError

SUBSPACES = "invariant subspaces"

VISIBLE = 1.0
"""Length of a change, in units of the tolerance, from which a direction counts as changed when it is read off the weights."""

RESOLVED = 1e-2
"""Largest tolerance, in units of the change, at which "it stayed" means anything."""

UNSURE = 0.2
"""Error of a direction that changed by one unit of the tolerance, which rounding stays well below."""

KNOWN = 1e-3
"""Part of a step that rounding may hide where it is known to be full-batch gradient descent."""

BENT = 10.0
"""How much more than the tolerance must be no single gradient step before weights alone can show that a law of many steps holds."""


@dataclass(frozen=True)
class ParsimonyReport:
    """The law of parsimony on one history: yes or no, how much, and why not all of it.

    Attributes:
        checks: The statements.
        steps: Name of each recorded time.
        share: Part of the squared change of each factor that the law allows, from 0 to 1; NaN before the first change.
        chance: The share that a change of random direction has, per factor.
        update: The update that explains the recorded steps; empty where none was found or could be tried.
        causes: What was measured to break the law, the first one first.
        rank: r of the law, or of the blocks that are given instead.
        block: ``"law"``: shares of the block that the theorem allows; ``"best"``: where its assumptions fail, of the 2r directions on
            each side that hold most of the last change, with the chance of the same choice in a random change.

    Example:
        >>> report = ParsimonyReport([], ["0", "1"], np.array([[np.nan], [0.9]]), np.array([0.2]), "descent", [], 1)
        >>> report.degrees()["shares"]
        {'steps': ['0', '1'], 'share': [[None], [0.9]], 'chance': [0.2], 'rank': 1, 'block': 'law'}
    """

    checks: list[Check]
    steps: list[str]
    share: Float[np.ndarray, "T L"]
    chance: Float[np.ndarray, " L"]
    update: str
    causes: list[str]
    rank: int
    block: Literal["law", "best"] = "law"

    def degrees(self) -> dict[str, Any]:
        """All but the checks, ready for JSON; a share that is not known is None."""
        share = [[None if np.isnan(value) else float(value) for value in row] for row in self.share]
        chance = [None if np.isnan(value) else float(value) for value in self.chance]
        shares = {"steps": self.steps, "share": share, "chance": chance, "rank": self.rank, "block": self.block}
        return {"shares": shares, "update": self.update, "causes": self.causes}


@checked_arguments
def check_parsimony(
    source: WeightHistory | Trajectory | Sequence[Any],
    *,
    problem: Problem | None = None,
    rank: int | None = None,
    rule: Rule | None = None,
) -> list[Check]:
    r"""Checks the law of parsimony: $W_l(t) = U_l \widetilde W_l(t) V_l^\top + \rho_l(t) S_l + \varrho_l(t) F_l$ with fixed bases.

    What should not change is held against what did: residuals are relative to the change of the factor, so that a short history
    or small steps prove nothing. Tolerances follow the coarsest numbers among weights and data.

    Args:
        source: Weights over time, from the start of training.
        problem: The data: gives the bases by the theorem's formula and allows the loss identity. Without it the bases are
            read off the change of the first factor, and tested on all factors.
        rank: r, when it is to be larger than the target's (with data) or than the observed change needs (without).
        rule: How the weights were trained, one iteration per recorded time, to compare rho with its recursion.

    Returns:
        Orthogonal start, (whitened inputs,) invariant subspaces, one scalar per factor, (recursion of rho,) (loss
        identity); `holds` is None where the precision, or a change below it, decides nothing. The list ends early where a failed
        assumption leaves nothing to check. `report_parsimony` adds degrees and causes.

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
    return report_parsimony(source, problem=problem, rank=rank, rule=rule).checks


def report_parsimony(
    source: WeightHistory | Trajectory | Sequence[Sequence[np.ndarray]],
    *,
    problem: Problem | None = None,
    rank: int | None = None,
    rule: Rule | None = None,
) -> ParsimonyReport:
    """The checks of `check_parsimony`, how much of each factor's change obeys the law over time, and what breaks the rest.

    Args:
        source: As in `check_parsimony`.
        problem: As in `check_parsimony`; more causes can be told apart with it.
        rank: As in `check_parsimony`.
        rule: As in `check_parsimony`.

    Raises:
        InputError: If the history is malformed or nothing was trained in it.
        UsageError: If the rank leaves no invariant part.

    Note:
        Cost: three reads of the history and a few products of d x d matrices per factor and recorded time.

    Example:
        >>> from lowdim.dynamics import Adam, initialize, low_rank_target, simulate
        >>> random = np.random.default_rng(0)
        >>> problem = Problem(low_rank_target((12, 12), 2, random))
        >>> run = simulate(problem, initialize([12] * 4, random), Adam(step=0.01), steps=30, mode="full")
        >>> report = report_parsimony(run, problem=problem)
        >>> [check.name for check in report.checks if not check.holds]
        ['invariant subspaces', 'one scalar on the invariant part', 'loss identity']
        >>> report.causes[0][:50], bool(report.share[-1].max() < 0.9)
        ('Every entry of the first step has the same size: t', True)
    """
    history = WeightHistory.of(source)
    if len(history.names) < 2:
        raise InputError("the history has one time only. Pass the weights at the start and at one later time at least.")
    unit = max(history.unit, problem.precision if problem else 0.0)
    checks, causes = [_orthogonal_start(history)], list[str]()
    nonlinear, unwhitened, given = "", False, problem
    if problem is not None:
        _require_fit(problem, history)
        causes += [nonlinear] if (nonlinear := unfit_product(history, problem)) else []
    if checks[0].holds is False:
        others = [checks[0].reason, *([beside] if (beside := beside_cause(history)) else [])]
        return _ended(history, checks, [*causes, *others], problem, rank)
    if problem is not None:
        scale, problem = _unit_scale(problem)
        rule = _rescaled(rule, scale)
        checks.append(_whitened(problem, unit, scale))
        unwhitened = checks[1].holds is False
        causes += [unwhitened_cause(problem)] if unwhitened else []
    try:
        bases, observed = _find_bases(history, problem, rank, unit)
    except NoInvariantPartError as error:
        width = history.shapes[0][1]
        reason = f"share of changing directions. {error} The theorem says nothing here, whatever the training."
        checks.append(Check(SUBSPACES, False, 1.0, (width - 2) / width, reason))
        return _ended(history, checks, [*causes, str(error)], problem, rank)
    forms, steps = block_forms(history, bases), first_steps(history)
    judged = _Judged(history, forms, unit)
    fit = fit_descent(steps, given) if given is not None else None  # in the user's units of step and decay
    if history.depth > 1 and (fit is None or max(step.tolerance for step in steps) > KNOWN):
        judged.doubt = _too_few_steps(history, bases, judged, known=problem is not None)
    parts = [judged.check(SUBSPACES, forms.off_block, _SUBSPACES), _one_scalar(judged, forms, bases)]
    if any(check.holds is False for check in parts):
        broken = next(check.residual for check in parts if check.holds is False)
        others = _causes(history, given, bases, steps, broken, described=fit is not None, known=unwhitened)
        if nonlinear and any("cross-entropy" in cause for cause in others):
            causes.remove(nonlinear)
        if beside := beside_cause(history):  # from which much of what is measured on the factors alone comes
            causes, others = [beside, *causes], [cause for cause in others if ENTRYWISE in cause]
        causes += [] if nonlinear in causes else others
        first = next(index for index, check in enumerate(parts) if check.holds is False)
        words = " ".join(part for part in (parts[first].reason, observed, *causes[:1]) if part)
        parts[first] = replace(parts[first], reason=words)
    elif nonlinear:
        causes.remove(nonlinear)
    checks += parts
    if rule is not None:
        checks.append(_recursion(forms, rule, judged))
    if problem is not None:
        checks.append(_loss_identity(history, forms, bases, problem, judged))
    update = fit.describe() if fit else ""
    return ParsimonyReport(checks, history.names, judged.share, forms.chance, update, causes, bases.rank)


def _ended(
    history: WeightHistory, checks: list[Check], causes: list[str], problem: Problem | None, rank: int | None
) -> ParsimonyReport:
    """Where the law predicts no block: how much of the change the best one holds."""
    outputs = history.shapes[-1][0]
    if rank is None:
        rank = outputs if problem is None else max(1, singular_spaces(problem.phi, problem.precision)[0].shape[1])
    share, chance = best_blocks(history, 2 * rank)
    return ParsimonyReport(checks, history.names, share, chance, "", causes, rank, "best")


class _Judged:
    """Residuals of statements "this stays" against what changed and what rounding can do."""

    def __init__(self, history: WeightHistory, forms: BlockForms, unit: float) -> None:
        self.history, self.unit, self.forms = history, unit, forms
        self.relative = max(EXACT, 1e3 * unit)
        times, change = history.iterations[:, None], forms.change
        tiny = change < unit * times  # steps below the rounding unit are rounded the same way each time
        self.rounding = np.where(tiny, np.maximum(history.rounding[:, None], unit * times), history.rounding[:, None])
        self.moved = change > 0
        self.moved[0] = False
        self.resolved = bool(self.shown(self.relative * change + self.rounding).any()) and unit <= COARSE
        self.doubt = ""

    def shown(self, tolerance: Float[np.ndarray, "T L"]) -> "np.ndarray":
        """Where the change is large enough against the tolerance for "it stayed" to mean anything."""
        return self.moved & (tolerance <= RESOLVED * self.forms.change)

    @property
    def share(self) -> Float[np.ndarray, "T L"]:
        """`BlockForms.share` where the change is more than rounding."""
        return np.where(self.forms.change > self.rounding, self.forms.share, np.nan)

    def check(self, name: str, residual: Float[np.ndarray, "T L"], what: str) -> Check:
        """The worst place decides; residual and tolerance in units of the change there."""
        if not self.moved.any():
            return Check(name, None, 0.0, self.relative, f"{what}. Undecided: nothing changed.")
        # what was off at the start is no change
        tolerance = self.relative * self.forms.change + self.rounding + 2 * residual[0]
        ratio, shown = np.where(self.moved, residual / tolerance, -1.0), self.shown(tolerance)
        broken = bool(ratio.max() > 1) and self.unit <= COARSE
        if not broken and shown.any():
            ratio = np.where(shown, ratio, -1.0)
        index, layer = np.unravel_index(int(ratio.argmax()), ratio.shape)
        change = self.forms.change[index, layer]
        holds = False if broken else True if self.resolved and shown.any() and not self.doubt else None
        reason = f"{what}, in factor {layer + 1} at {self.history.time(int(index))}."
        if holds is None:
            reason += f" {self.undecided}"
        return Check(
            name, holds, float(residual[index, layer] / change), float(tolerance[index, layer] / change), reason
        )

    @property
    def undecided(self) -> str:
        """Why nothing can be said."""
        if self.unit > COARSE:
            return f"Undecided at this precision: numbers with a rounding unit of {self.unit:.1g} cannot show it. Store float32 or float64."
        if self.resolved and self.doubt:
            return self.doubt
        return (
            f"Undecided at this precision: the weights changed by {self.forms.change.max():.1g} of their size, which is too little "
            f"against rounding ({self.rounding[-1].max():.1g}). Record a longer training."
        )


def _too_few_steps(history: WeightHistory, bases: Bases, judged: _Judged, *, known: bool) -> str:
    """Why nothing is shown yet where no recorded step is known to be one of descent: so few iterations, or so little beyond one gradient
    step, leave any descent in a block (from weights alone), or that of an epoch of minibatches, which see each sample once."""
    iterations, last = int(history.iterations[-1]), len(history.names) - 1
    more = "Record a longer training" + (" and its first iterations." if known else ", or pass the data (`data`).")
    if not known and history.counted and iterations <= bases.rank:
        return (
            f"Undecided: the names of the times tell of {iterations} iteration{'s' * (iterations > 1)}, which leave the changes of any gradient "
            f"descent in so few directions (r = {bases.rank}). {more}"
        )
    bent = beyond_one_step(history.weights(0), history.weights(last))
    changes = np.maximum(judged.forms.change[last], np.finfo(float).tiny)
    if bent >= BENT * (judged.relative + float((judged.rounding[last] / changes).min())):
        return ""
    return (
        f"Undecided: the whole change is that of one gradient step to {bent:.1g} of its length, which obeys the law whatever the "
        f"{'order of the samples' if known else 'inputs and batches'}, and what more steps add is too little against rounding. {more}"
    )


_SUBSPACES = (
    "what leaves the invariant subspaces, over what changed: largest ||off-diagonal blocks||_F / ||change of W||_F"
)


def _orthogonal_start(history: WeightHistory) -> Check:
    name, width, tolerance = "orthogonal initialisation", history.shapes[0][1], max(EXACT, 1e2 * history.unit)
    start = history.weights(0)
    zero = [number for number, weight in enumerate(start, 1) if not weight.any()]
    narrow = min(rows for rows, _ in history.shapes[:-1]) if history.depth > 1 else width
    shapes = " and ".join(f"{rows} x {columns}" for rows, columns in history.shapes)
    if history.depth == 2 and narrow < min(width, history.shapes[-1][0]):
        reason = f"the factors, {shapes}, meet in {narrow} dimensions, as those of LoRA do"
        reason += f", and factor {zero[0]} starts at zero. " if zero else ". "
        reason += (
            f"The theorem needs square factors of the input's width {width} that start as scaled orthogonal matrices."
        )
        return Check(name, False, 1.0, tolerance, reason)
    for number, (rows, columns) in enumerate(history.shapes, 1):
        if columns != width or rows > width or (rows < width and number < history.depth):
            reason = (
                f"factor {number} is {rows} x {columns}; the theorem needs square factors of the input's width {width}, "
                "except for fewer rows in the last."
            )
            return Check(name, False, 1.0, tolerance, reason)
    if zero:
        reason = (
            f"factor {zero[0]} is zero at the start, so that no gradient reaches the others; the theorem starts from scaled "
            "orthogonal weights."
        )
        return Check(name, False, 1.0, tolerance, reason)
    gaps = [orthogonal_part(weight)[2] for weight in start]
    worst = int(np.argmax(gaps))
    holds = gaps[worst] <= tolerance
    measured = f"largest entry of W W^T / eps^2 - I, in factor {worst + 1} at {history.time(0)}"
    reason = f"{measured}."
    if not holds:
        reason = f"The initialisation is not a scaled orthogonal matrix ({measured}: {gaps[worst]:.3g})."
    if not holds and started_late(start, tolerance):
        reason += (
            " Many of its singular values are one number and others are not, as after some training from orthogonal weights: "
            "the history does not begin at the start. Record step 0, too."
        )
    elif not holds:
        reason += " The theorem starts from scaled orthogonal weights; these were drawn otherwise, or are not the first of the training."
    elif history.unit > COARSE:
        return Check(name, None, gaps[worst], tolerance, f"{reason} Undecided at this precision.")
    if holds and history.depth == 1:
        reason += " With one factor the network is linear regression, and the law that of its linear steps."
    return Check(name, holds, gaps[worst], tolerance, reason)


def _require_fit(problem: Problem, history: WeightHistory) -> None:
    if problem.phi.shape != (history.shapes[-1][0], history.shapes[0][1]):
        raise InputError(
            f"the data have {problem.phi.shape[1]} input and {problem.phi.shape[0]} output dimensions, but the network "
            f"has {history.shapes[0][1]} and {history.shapes[-1][0]}. x and y need one column per sample."
        )


def _unit_scale(problem: Problem) -> tuple[float, Problem]:
    """The number c in ``X X^T = c I``, and the same problem with inputs of unit covariance: only the clock is another."""
    if problem.gram is None:
        return 1.0, problem
    scale = float(np.trace(problem.gram)) / len(problem.gram)
    return (scale, problem.scaled(scale**-0.5)) if scale > 0 else (1.0, problem)


def _rescaled(rule: Rule | None, scale: float) -> Rule | None:
    """The rule on the loss that is `scale` times smaller."""
    if scale == 1 or not isinstance(rule, GradientDescent):
        return rule
    return replace(
        rule, step=lambda iteration: scale * at(rule.step, iteration), weight_decay=rule.weight_decay / scale
    )


def _whitened(problem: Problem, unit: float, scale: float) -> Check:
    gap, tolerance = problem.unwhitened, max(problem.white, 1e2 * unit)
    holds = None if unit > COARSE and gap <= tolerance else gap <= tolerance
    reason = "largest entry of X X^T - I."
    if scale != 1:
        reason = f"largest entry of X X^T / {scale:.4g} - I."
    if holds is None and gap > WHITE:
        reason += " Undecided at this precision."
    elif holds is None:
        holds = True
    elif not holds:
        reason += f" {unwhitened_cause(problem)}"
    return Check("whitened inputs", holds, gap, tolerance, reason)


def _find_bases(history: WeightHistory, problem: Problem | None, rank: int | None, unit: float) -> tuple[Bases, str]:
    """The bases, and what was seen of the first factor where they were read off the weights."""
    start = history.weights(0)
    if problem is not None:
        return Bases.of_target(problem.phi, [orthogonal_part(weight)[0] for weight in start], rank, unit), ""
    width = history.shapes[0][1]
    if rank is not None and not 0 < 2 * rank < width:
        raise UsageError(f"rank {rank} leaves no invariant part of width {width}: it needs 0 < 2 x rank < width.")
    changed, energy, sizes, directions = _observed_change(history, start, unit)
    weighted = (sizes / (sizes[0] or 1.0))[:, None] * directions
    if not changed and all((history.weight(1, index) == start[0]).all() for index in range(len(history.names))):
        if all((history.weight(l, -1) == start[l - 1]).all() for l in range(2, history.depth + 1)):
            raise InputError("no factor ever changes: there is no training to check.")
        raise InputError(
            "factor 1 never changes while others do (is it frozen?), so that the directions cannot be read off it. Pass the data "
            "(`data`), from which the theorem's formula gives them."
        )
    if rank is not None:
        return Bases.from_change(start, weighted.T, rank, unit), ""
    words, count, outputs = "", max(1, changed), history.shapes[-1][0]
    if changed > 2 * outputs and 2 * outputs < width:
        words = (
            f"Factor 1 changed in {changed} of {width} directions; with {outputs} outputs the law leaves it {2 * outputs} "
            f"(r = {outputs}), of which those that changed most are taken."
        )
        return Bases.from_change(start, weighted.T, outputs, unit), words
    if 2 * -(-count // 2) >= width:
        words = f"Factor 1 changed in {changed} of {width} directions."
        count = min(energy, max(2, width // 2))
    while True:
        try:
            errors = UNSURE / np.maximum(sizes[:count], VISIBLE)
            return Bases.from_change(start, directions[:count].T, precision=unit, errors=errors), words
        except NoInvariantPartError:
            if count == 1:
                raise
            words, count = words or f"Factor 1 changed in {changed} of {width} directions.", count // 2


def _observed_change(
    history: WeightHistory, start: list[np.ndarray], unit: float
) -> tuple[int, int, Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
    """In how many directions the first factor changed, apart from one number on each invariant part; how many of them hold
    99 % of that change; how much each changed; and the directions as rows.

    Silent directions lie out of the network's sight at the start, fading ones in it: each space has a number of its own, the
    eigenvalue that most of its directions share.
    """
    orthogonal = [orthogonal_part(weight)[0] for weight in start]
    first, scale = orthogonal[0], orthogonal_part(start[0])[1]
    passed = first
    for direction in orthogonal[1:]:
        passed = direction @ passed
    complete = np.linalg.qr(passed.T, mode="complete")[0]
    spaces = [complete[:, : len(passed)], complete[:, len(passed) :]]
    size, rounding, relative = np.linalg.norm(start[0]), history.rounding, max(EXACT, 1e3 * unit)
    differences: list[np.ndarray] = []
    for index in np.unique(np.linspace(0, len(history.names) - 1, 16).astype(int))[1:]:
        weight = history.weight(1, int(index))
        tolerance = float(max(relative * np.linalg.norm(weight - start[0]), rounding[index] * size))
        seen = first.T @ weight
        for space in spaces:
            block = space.T @ seen @ space
            number = _shared(np.linalg.eigvalsh((block + block.T) / 2), tolerance, float(scale)) if block.size else 0.0
            seen = seen - number * (space @ (space.T @ first.T @ first))
        differences += [seen / tolerance, seen.T / tolerance]  # directions in which it changed, and into which
    _, values, rows = np.linalg.svd(np.concatenate(differences), full_matrices=False)
    energy = np.cumsum(values**2) / max(float(np.sum(values**2)), np.finfo(float).tiny)
    return int(np.sum(values > VISIBLE)), int(np.searchsorted(energy, 0.99)) + 1, values, rows


def _shared(values: Float[np.ndarray, " k"], width: float, default: float) -> float:
    """The number that most of the ascending values have to within `width`; the default when no two agree."""
    ends = np.searchsorted(values, values + width, side="right")
    counts = ends - np.arange(len(values))
    best = int(counts.argmax())
    return float(np.median(values[best : ends[best]])) if counts[best] > 1 else default


def _causes(
    history: WeightHistory,
    problem: Problem | None,
    bases: Bases,
    steps: Sequence[Step],
    broken: float,
    *,
    described: bool,
    known: bool,
) -> list[str]:
    """What broke the law beside inputs that are not whitened, where that is known."""
    if described and known:
        return []
    if described and max(step.tolerance for step in steps) <= broken:
        return [
            "The first recorded steps are those of gradient descent on all of the data, so what is broken comes later, from rounding "
            "(a direction that is learned amplifies it), from a nonlinearity that small weights hardly show, or from a rank or data other "
            "than assumed."
        ]
    cause = find_cause(history, problem, bases, steps, broken)
    return [] if known and ("minibatches" in cause or cause.startswith(UNTOLD)) else [cause]


def _one_scalar(judged: _Judged, forms: BlockForms, bases: Bases) -> Check:
    parts = [f"{bases.sizes.silent} singular values of each factor but the last"] if bases.sizes.silent else []
    parts += [f"{bases.sizes.fading} singular values of each factor"] if bases.sizes.fading else []
    number = "are one number" if len(parts) == 1 else "are one number each"
    what = (
        f"what is not one number on the invariant part, over what changed: largest ||invariant block - rho I||_F / ||change of W||_F "
        f"({' and '.join(parts)} {number}, along unchanging directions)"
    )
    return judged.check("one scalar on the invariant part", forms.spread, what)


def _recursion(forms: BlockForms, rule: Rule, judged: _Judged) -> Check:
    depth = forms.silent.shape[1]
    residual, steps, names = 0.0, len(forms.silent) - 1, list[str]()
    tolerance = max(judged.relative, float(judged.rounding.max()))
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
    holds = residual <= tolerance if judged.resolved else None
    return Check(
        "recursion of rho", holds, residual, tolerance, reason if judged.resolved else f"{reason} {judged.undecided}"
    )


def _loss_identity(history: WeightHistory, forms: BlockForms, bases: Bases, problem: Problem, judged: _Judged) -> Check:
    target = bases.left[-1].T @ problem.phi @ bases.right[0]
    gaps, losses, sizes, scales = np.zeros((4, len(forms.inner)))
    for index, inner in enumerate(forms.inner):
        product = end_to_end(history.weights(index))
        losses[index] = problem.loss(product)
        reach, goal = np.linalg.norm(product), np.linalg.norm(problem.targets)
        sizes[index], scales[index] = (reach + goal) * reach, (reach + goal) ** 2
        learned = 0.5 * np.linalg.norm(end_to_end(inner) - target) ** 2
        # a silent direction does not pass the last factor
        bulk = 0.5 * bases.sizes.fading * np.prod(forms.fading[index]) ** 2 if bases.sizes.fading else 0.0
        gaps[index] = abs(losses[index] - learned - bulk - problem.constant)
    change = float(np.abs(losses - losses[0]).max())
    # W X and Y are each known to the data's precision, and the loss is a small difference of large numbers
    rounding = history.depth * float((judged.rounding.max(axis=1) * sizes).max()) + 10 * judged.unit * float(
        scales.max()
    )
    tolerance = max(judged.relative * change, rounding) / change if change else np.inf
    residual = float(gaps.max()) / change if change else 0.0
    reason = "largest |loss - reduced loss - m_2 rho^(2L) / 2 - constant| / change of the loss."
    if judged.unit > COARSE or not judged.resolved or (residual <= tolerance and tolerance > 1e-2):
        return Check("loss identity", None, residual, tolerance, f"{reason} {judged.undecided}")
    return Check("loss identity", residual <= tolerance, residual, tolerance, reason)

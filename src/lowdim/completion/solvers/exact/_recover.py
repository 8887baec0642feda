"""The `exact` solver: recovery of a nearly noise-free matrix of unknown rank from few entries, and when it is sure."""

from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from lowdim._linalg import product_svd
from lowdim.completion.solvers._completions import factor_completion, solved
from lowdim.completion.solvers._solver import (
    Completion,
    Entries,
    HeldOut,
    Journal,
    Mask,
    Settings,
    Solved,
    Solver,
)
from lowdim.completion.solvers.exact._stages import Array, Estimate, Polished, polish, reweighted
from lowdim.errors import UsageError

VANISHED = 1e-6  # relative residual that counts as none
SURE_RESIDUAL = 1e-7  # an ill-conditioned matrix can be fitted to 1e-6 at a wrong rank
LATE, PROMISING = 220, 1e-4  # later iterations only resolve tiny singular values, of what nearly fits by then
PATIENT = 20_000  # entries up to which a brief search has the time for the most successful plan
ADMISSIBLE = 1.02  # entries per degree of freedom that a rank needs to be looked for
CHECKABLE = 1.3  # entries per degree of freedom from which a recovery nearly always succeeds
WELL_PREDICTED = 0.05  # held-out error over the spread of the entries, below which no recovery is tried
MOST_ENTRIES, LEAST_SIDE, MOST_DENSITY = 300_000, 40, 0.15  # of matrices in which it is


@dataclass(frozen=True)
class Plan:
    """One run of the reweighting: its bound on the rank, how slowly the smoothing falls, and when to look.

    A quick look polishes the rank at the spectral gap alone, for a few steps.
    """

    bound: int
    decay: float
    checks: tuple[int, ...]
    quick: bool = False


@dataclass(frozen=True)
class Recovery:
    """What was recovered.

    Attributes:
        U: (m, rank) orthonormal columns.
        singular_values: (rank,) descending.
        V: (n, rank) orthonormal columns: the matrix is ``U * singular_values @ V.T``.
        rank: The smallest one found whose residual vanishes, or the best fitting one.
        relative_residual: On the observed entries.
        iterations: Reweighting iterations, over all plans.
        converged: Whether the residual vanished.
        sure: Whether the matrix is determined: a residual below 1e-7, at least 1.15 entries per degree of freedom, and
            as many entries as the rank in every row and column.
        reason: What ``sure`` rests on.
    """

    U: Array
    singular_values: Array
    V: Array
    rank: int
    relative_residual: float
    iterations: int
    converged: bool
    sure: bool
    reason: str


def recover(
    entries: Entries,
    *,
    rank: int | None = None,
    rank_bound: int | None = None,
    depth: int = 3,
    random_state: int = 0,
    brief: bool = False,
    journal: Journal | None = None,
) -> Recovery:
    """Recover a low-rank matrix exactly from few of its entries, its rank known or not.

    The Schatten-2/L quasi-norm is minimised with slowly falling smoothing. At some iterations Gauss-Newton polishes
    a rank a little above the spectral gap and, truncating by one, lower ones: the gap alone misleads with few entries,
    and a rank too high can fit them and be wrong. The smallest rank whose residual vanishes is taken.

    Args:
        entries: Observed entries, nearly free of noise (else use another solver).
        rank: Of the matrix, where known.
        rank_bound: The largest rank looked for when it is not; 20, or what the entries allow if that is less.
        depth: L: larger values weigh small singular values harder. At least 2.
        random_state: Seed of the subspace iterations.
        brief: Give up after a quick plan and the most successful one (of many entries one of medium length) where nothing nearly
            fits: a fraction of the time on noise.
        journal: Where to report and to keep the state.

    Raises:
        UsageError: If the rank, its bound or the depth is unusable.

    References:
        Kümmerle and Verdun (2021), ICML; Zilber and Nadler (2022), doi:10.1137/21M1433812.

    Example:
        >>> random = np.random.default_rng(0)
        >>> truth = random.standard_normal((40, 2)) @ random.standard_normal((2, 30))
        >>> observed = random.random((40, 30)) < 0.4
        >>> found = recover(Entries.from_dense(np.where(observed, truth, np.nan)))
        >>> found.rank, found.sure, bool(np.abs(found.U * found.singular_values @ found.V.T - truth).max() < 1e-6)
        (2, True, True)
    """
    _validate(entries, rank, rank_bound, depth)
    if not entries.values.any():
        m, n = entries.shape
        return Recovery(np.empty((m, 0)), np.empty(0), np.empty((n, 0)), 0, 0.0, 0, True, False, "all entries are 0")
    with threadpool_limits(1, "blas"):
        return _Search(entries, rank, rank_bound, depth, brief).run(random_state, journal or Journal())


class _Search:
    """The plans, tried one after the other until an answer is sure."""

    def __init__(self, entries: Entries, rank: int | None, rank_bound: int | None, depth: int, brief: bool) -> None:
        self.entries, self.given, self.depth, self.brief = entries, rank, depth, brief
        smaller = min(entries.shape)
        ranks = range(1, smaller)
        self.admissible = max((k for k in ranks if entries.oversampling(k) >= ADMISSIBLE), default=1)
        fitting = max((k for k in ranks if entries.oversampling(k) >= 1 / ADMISSIBLE), default=1)
        wanted = 2 * rank if rank else rank_bound or min(20, fitting + 2)
        self.bound = min(wanted, smaller - 1)
        self.largest = min(self.bound, fitting)  # rank to polish
        self.best: Polished | None = None  # smallest rank that fits, else least residual
        self.iterations = 0

    def plans(self) -> tuple[Plan, ...]:
        fewer = min(self.bound, max(self.admissible, self.given or 1) + 2)
        quick = Plan(self.bound, 0.8, (8, 14, 20, 30, 40), quick=True)
        patient = Plan(self.bound, 0.96, (30, 100, 140, 180, 220, 260, 300, 340))
        if self.brief and self.entries.size > PATIENT:
            return quick, Plan(self.bound, 0.93, (60,))
        return (
            quick,
            patient,
            Plan(fewer, 0.97, (100, 150, 200, 250)),
            Plan(self.bound, 0.93, (60, 100, 150)),
        )

    def run(self, random_state: int, journal: Journal) -> Recovery:
        if self.bound == 0:  # a single row or column: every matrix has rank 1, and nothing ties its entries
            left, values, right = self.entries.leading_svd(self.entries.values, 1, np.random.default_rng(0))
            self.keep(polish(self.entries, left * values, right))
            return self.answer()
        for number, plan in enumerate(self.plans()):
            if self.follow(plan, (random_state, number), journal):
                break
            if self.brief and number and self.best and self.best.relative_residual > PROMISING:
                break
        return self.answer()

    def follow(self, plan: Plan, seed: tuple[int, ...], journal: Journal) -> bool:
        """Whether the plan led to a sure answer."""
        before, most = self.iterations, plan.checks[-1]
        stage = journal.stage(most)
        saved = stage.saved()
        if saved is not None and "best.left" in saved:
            residual = float(saved["best.residual"])
            self.best = Polished(saved["best.left"], saved["best.right"], residual, 0)
        start = Estimate.of_state(saved) if saved is not None else None
        for estimate in reweighted(self.entries, plan.bound, self.depth, plan.decay, most, seed, start):
            self.iterations = before + estimate.iteration
            if estimate.last or estimate.iteration in plan.checks:
                if self.glance(estimate) if plan.quick else self.look(estimate):
                    return True
                if estimate.iteration >= LATE and self.best and self.best.relative_residual > PROMISING:
                    return False
            if not estimate.last:
                stage.report(estimate.iteration, lambda: estimate.state() | self.state())  # noqa: B023
        return False

    def state(self) -> dict[str, Array]:
        if self.best is None:
            return {}
        residual = np.array(self.best.relative_residual)
        return {"best.left": self.best.left, "best.right": self.best.right, "best.residual": residual}

    def glance(self, estimate: Estimate) -> bool:
        """A few cheap steps at the rank of the spectral gap; only if they fit, a look at lower ranks."""
        gap, _ = self.ranks(estimate)
        left, right = estimate.factors(gap)
        polished = polish(self.entries, left, right, max_steps=10, most_inner=60)
        if polished.relative_residual >= VANISHED:
            self.keep(polished)
            return False
        return self.descend(polished.left, polished.right, gap)

    def look(self, estimate: Estimate) -> bool:
        """Polish from a little above the spectral gap downwards."""
        gap, top = self.ranks(estimate)
        return self.descend(*estimate.factors(top), gap)

    def descend(self, left: Array, right: Array, gap: int) -> bool:
        """Polish, truncate by one rank, polish again, and so on; whether a sure answer came out."""
        found = False
        for rank in range(left.shape[1], 0, -1):
            polished = polish(self.entries, left[:, :rank], right[:, :rank])
            fits = polished.relative_residual < VANISHED
            if not fits and (found or rank < gap):
                break
            found = found or fits
            self.keep(polished)
            left, right = polished.left, polished.right
            if self.given is not None:
                break
        return found and self.best is not None and self.is_sure(self.best)

    def ranks(self, estimate: Estimate) -> tuple[int, int]:
        """The rank at the largest spectral gap, and the one to start from."""
        if self.given is not None:
            return self.given, self.given
        considered = max(1, min(self.admissible, estimate.values.size - 2))
        values = estimate.values[: considered + 1]
        gap = int(np.argmax(values[:-1] / np.maximum(values[1:], np.finfo(np.float64).eps * values[0]))) + 1
        most = min(self.largest, estimate.values.size - 1)
        scarce = self.entries.oversampling(min(gap + 1, self.admissible)) < 1.5
        return gap, most if scarce else min(gap + 2, most)

    def keep(self, polished: Polished) -> None:
        if self.best is None:
            self.best = polished
            return
        fits, fitted = (p.relative_residual < VANISHED for p in (polished, self.best))
        smaller = polished.left.shape[1] < self.best.left.shape[1]
        better = polished.relative_residual < self.best.relative_residual
        if (fits and not fitted) or (fits and fitted and smaller) or (not fits and not fitted and better):
            self.best = polished

    def is_sure(self, polished: Polished) -> bool:
        return polished.relative_residual < SURE_RESIDUAL and self.entries.determines(polished.left.shape[1])

    def answer(self) -> Recovery:
        assert self.best is not None
        left, values, right = product_svd(self.best.left, self.best.right)
        rank, residual = values.size, self.best.relative_residual
        reason = self.entries.facts(rank, residual)
        fits, sure = residual < VANISHED, self.is_sure(self.best)
        return Recovery(left, values, right, rank, residual, self.iterations, fits, sure, reason)


def _validate(entries: Entries, rank: int | None, rank_bound: int | None, depth: int) -> None:
    smaller = min(entries.shape)
    for name, value in (("rank", rank), ("rank_bound", rank_bound)):
        if value is not None and not 1 <= value < max(2, smaller):
            raise UsageError(f"{name} must be at least 1 and below {smaller}, the smaller side, not {value}.")
    if depth < 2:
        raise UsageError(f"depth must be at least 2, not {depth}: depth 1 regularises no rank.")


def solve_exact(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Recover a nearly noise-free matrix; see `recover`.

    All entries are used first. If the recovery is sure, its rank is known, and the check is made with what remains when the held-out
    entries are taken away, as long as that suffices for a recovery; otherwise nothing is held out.
    """
    del start  # the path of the smoothing is the method
    return _checked(_recovery(entries, settings, settings.rank), entries, held, settings)


def check_exact(entries: Entries, held: Mask, settings: Settings) -> HeldOut:
    """The check of an unsure recovery alone, without the recovery from all entries."""
    training = entries.select(~held)
    return HeldOut.of(factor_completion(_recovery(training, settings, settings.rank), training), entries, held)


def rescue(entries: Entries, held: Mask, settings: Settings, badly: Solved) -> tuple[Solved, str] | None:
    """A recovery where few and continuous entries were badly predicted, soon given up where nothing fits: None unless it is sure."""
    few = entries.size <= MOST_ENTRIES and entries.density <= MOST_DENSITY and min(entries.shape) >= LEAST_SIDE
    if not few or 2 * np.unique(entries.values).size <= entries.size:
        return None
    if badly.held_out.rmse < WELL_PREDICTED * float(np.std(entries.values)):
        return None
    recovery = _recovery(entries, settings, settings.rank, brief=True)
    why = "few entries that a matrix of low rank fits exactly"
    return (_checked(recovery, entries, held, settings), why) if recovery.sure else None


def _checked(recovery: Recovery, entries: Entries, held: Mask, settings: Settings) -> Solved:
    rank = recovery.rank
    if recovery.sure and (rank == 0 or entries.select(~held).oversampling(rank) < CHECKABLE):
        unknown: Array = np.full(int(held.sum()), np.nan)
        held_out = HeldOut(entries.cols[held], entries.values[held], unknown, unknown)
    else:
        held_out = check_exact(entries, held, replace(settings, rank=rank) if recovery.sure else settings)
    return solved(recovery, entries, held_out)


def _recovery(entries: Entries, settings: Settings, rank: int | None, *, brief: bool = False) -> Recovery:
    bound = None if rank else max(min(settings.max_rank, min(entries.shape) - 1), 1)
    return recover(
        entries,
        rank=rank,
        rank_bound=bound,
        depth=settings.depth,
        random_state=settings.seed,
        brief=brief,
        journal=settings.journal,
    )


EXACT = Solver(
    name="exact",
    title="nearly noise-free, few entries: recovery with the rank unknown, and whether it is sure",
    solve=solve_exact,
    check=check_exact,
    rescue=rescue,
    memory=lambda entries, shape, rank: 80 * entries + 280 * sum(shape) * rank,
    reads=frozenset({"depth"}),
    biased=False,
    one_scale=True,
)

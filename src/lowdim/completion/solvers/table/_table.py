"""The `table` solvers: factor analysis of columns of unit variance, then what trees and a kernel find in what it leaves over.

Every known cell is predicted as if it were unknown (see `_worlds`). So the error, the deviations of each column and the decision between
the model and means rest on all known cells, without a fit that lacks some of them.
"""

from dataclasses import replace

import numpy as np

from lowdim.completion.solvers._solver import (
    Array,
    Completion,
    Entries,
    HeldOut,
    Mask,
    Settings,
    Solved,
    Solver,
    described,
    to_dense,
)
from lowdim.completion.solvers.table import _factor_analysis as factor_analysis
from lowdim.completion.solvers.table._completion import TableCompletion
from lowdim.completion.solvers.table._gaps import Copies, copies_of_gaps
from lowdim.completion.solvers.table._holes import held_stretches, not_at_random
from lowdim.completion.solvers.table._in_time import CLASSES, Checked, InTime, follow_each_other
from lowdim.completion.solvers.table._second_stage import LEAST_ROWS, TRAINING_ROWS, fit_second_stage
from lowdim.completion.solvers.table._spread import Errors, spread, surplus
from lowdim.completion.solvers.table._unseen import Unseen
from lowdim.completion.solvers.table._worlds import EXTREME, MOST_CELLS, PARTS, FactorModel, NormalScores

SWEEPS = 30
TOLERANCE = 3e-3  # of a cell, in root mean square
FEWEST = 3  # entries from which a check says anything
UNLIKE = (
    "No known stretch is long enough to hide a copy of a gap in it: the error and the deviations are those of single cells, and too small "
    "for those inside the gaps."
)


def _memory(entries: int, shape: tuple[int, int], rank: int) -> int:
    rows = min(shape[0], max(LEAST_ROWS, MOST_CELLS // ((PARTS + 1) * shape[1])), TRAINING_ROWS)
    worlds = rows * shape[1] * (PARTS + 1)
    return 20 * 2**20 + 150 * shape[0] * shape[1] + 56 * worlds


def solve_table(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Fit a table in two rounds; see the module.

    Cost: ``O(m n K^2)`` per sweep of the factor model, and what `fit_second_stage` says.
    """
    return _solve(entries, held, settings, start, rounds=2)


def solve_quickly(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Fit a table in one round."""
    return _solve(entries, held, settings, start, rounds=1)


def _solve(entries: Entries, held: Mask, settings: Settings, start: Completion | None, rounds: int) -> Solved:
    del held  # known cells are predicted as if they were unknown
    values, observed = to_dense(entries)
    clock, fitted = settings.clock, _stages(values, observed, settings, start, rounds)
    ordered = clock is not None and follow_each_other(observed, clock)
    hidden = _hidden(observed, settings, ordered)
    checks = [(_stages(values, observed & ~one.hidden, settings, fitted, rounds), one) for one in hidden]
    unseen = Unseen.of_copies(checks, fitted, clock) if checks else Unseen.alone(fitted, clock)
    checked = (unseen.copy >= 0) & (entries.size >= FEWEST)
    rows, cols = np.nonzero(checked)
    place, modelled, in_time = unseen.place[checked], unseen.modelled, None
    if clock is not None:
        in_time = InTime.fit(Checked.of(fitted.values, modelled, unseen.line, unseen.place, checked), values.shape)
        modelled = modelled if in_time is None else in_time.added(modelled, unseen.line, unseen.place)
    sizes = np.abs(fitted.values - modelled)[checked] / unseen.unit[checked]
    errors = Errors(sizes, cols, place, unseen.copy[checked])
    factors = spread(errors, (values.shape[1], CLASSES))
    completion = replace(fitted, spread=factors * surplus(errors, factors), clock=clock, in_time=in_time)
    predicted = (fitted.mean + fitted.scale * modelled)[checked]
    deviations = (fitted.scale * unseen.unit)[checked] * factors[cols, place]
    held_out = HeldOut(cols, values[checked], predicted, deviations)
    remarks = not_at_random(entries, completion, rows, held_out, settings.seed)
    if ordered and (not hidden or any(one.cut for one in hidden)):
        remarks = (UNLIKE, *remarks)
    return Solved(
        completion,
        held_out,
        remarks=remarks,
        checked=checked[entries.rows, entries.cols],
        reason="neighbours in time help" if in_time else "",
        at_once=len(hidden) == 1,
    )


def _hidden(observed: Mask, settings: Settings, ordered: bool) -> list[Copies]:
    """What is hidden in each of the fits that check the model; nothing where known cells are checked each by itself."""
    if ordered:
        assert settings.clock is not None
        return copies_of_gaps(observed, settings.clock, settings.seed)
    stretches = held_stretches(observed, settings.together, settings.seed)
    return [] if stretches is None else [Copies.of_cells(stretches)]


def _stages(
    values: Array, observed: Mask, settings: Settings, start: Completion | None, rounds: int
) -> TableCompletion:
    """Both stages, fitted to the observed cells; not yet checked."""
    counts = np.maximum(observed.sum(0), 1)
    mean = np.where(observed, values, 0.0).sum(0) / counts
    centred = np.where(observed, values - mean, 0.0)
    scale = np.sqrt((centred**2).sum(0) / counts)
    scale[scale == 0] = 1.0
    standard = centred / scale
    rank = min(settings.rank or settings.max_rank, max(min(values.shape) - 1, 0))
    sweeps = min(SWEEPS, settings.iterations)
    earlier = start.stage.plain.loadings if isinstance(start, TableCompletion) else None
    fit = _fit(np.clip(standard, -EXTREME, EXTREME), observed, rank, sweeps, settings, earlier)
    scores = tuple(
        NormalScores.of(column[known] if known.any() else np.zeros(1))
        for column, known in zip(standard.T, observed.T, strict=True)
    )
    ranked = np.stack([score.forward(column) for score, column in zip(scores, standard.T, strict=True)], axis=1)
    scored = _fit(np.where(observed, ranked, 0.0), observed, rank, sweeps, settings, None)
    stage = fit_second_stage(
        standard,
        observed,
        FactorModel(fit.loadings),
        FactorModel(scored.loadings, scores),
        together=settings.together,
        rounds=rounds,
        seed=settings.seed,
    )
    spread = np.ones((len(mean), CLASSES))
    return TableCompletion(mean, scale, stage, spread, fit.iterations, fit.converged, standard, observed)


def _fit(
    values: Array,
    observed: Mask,
    rank: int,
    sweeps: int,
    settings: Settings,
    start: factor_analysis.Loadings | None,
) -> factor_analysis.Fit:
    stage = settings.journal.stage(sweeps)
    return factor_analysis.fit(values, observed, rank, sweeps=sweeps, tolerance=TOLERANCE, start=start, stage=stage)


def _suits(entries: Entries, settings: Settings) -> str:
    return f"{described(entries)}: a noisy table"


TABLE = Solver(
    name="table",
    title="noisy tables of at most a few thousand columns",
    solve=solve_table,
    memory=_memory,
    suits=_suits,
    rescued=True,
    reads=frozenset({"iterations"}),
    shrinks=True,
)
TABLE_QUICK = Solver(
    name="table-quick",
    title="the same in one round, hardly less accurate",
    solve=solve_quickly,
    memory=_memory,
    reads=frozenset({"iterations"}),
    shrinks=True,
)

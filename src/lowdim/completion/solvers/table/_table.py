"""The `table` solvers: factor analysis of columns of unit variance, then what trees and a kernel find in what it leaves over.

Every known cell is predicted as if it were unknown (see `_worlds`). So the error, the deviations of each column and the decision between
the model and means rest on all known cells, without a fit that lacks some of them.
"""

from dataclasses import replace

import numpy as np

from lowdim.completion.solvers._solver import (
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
from lowdim.completion.solvers.table._completion import fit_stages
from lowdim.completion.solvers.table._gaps import Copies, copies_of_gaps
from lowdim.completion.solvers.table._holes import held_stretches, not_at_random
from lowdim.completion.solvers.table._in_time import CLASSES, Checked, InTime, follow_each_other
from lowdim.completion.solvers.table._second_stage import cells_of_worlds
from lowdim.completion.solvers.table._unseen import Errors, Unseen, spread, surplus

FEWEST = 3  # entries from which a check says anything
UNLIKE = (
    "No known stretch is long enough to hide a copy of a gap in it: the error and the deviations are those of single cells, and too small "
    "for those inside the gaps."
)


def _memory(entries: int, shape: tuple[int, int], rank: int) -> int:
    return 20 * 2**20 + 150 * shape[0] * shape[1] + 56 * cells_of_worlds(*shape)


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
    clock, fitted = settings.clock, fit_stages(values, observed, settings, start, rounds)
    ordered = clock is not None and follow_each_other(observed, clock)
    hidden = _hidden(observed, settings, ordered)
    checks = [(fit_stages(values, observed & ~one.hidden, settings, fitted, rounds), one) for one in hidden]
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

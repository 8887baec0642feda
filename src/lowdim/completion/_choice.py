"""Which solver: by shape, density and a look at the values, confirmed on held-out entries."""

from dataclasses import dataclass

from lowdim.completion._completion import Completion, Mask, Settings, Solved, Solver, SolverName
from lowdim.completion._entries import Entries

TABLE_COLUMNS = 3_000
TABLE_CELLS = 50_000_000


@dataclass(frozen=True)
class Choice:
    """The solver, why it was chosen, and its answer."""

    solver: str
    reason: str
    solved: Solved


def choose(
    entries: Entries, held: Mask, settings: Settings, solver: SolverName | None, start: Completion | None
) -> Choice:
    """Run the solver that was asked for, or the one that suits the data."""
    if solver is not None:
        return Choice(solver, "asked for", _solver(solver)(entries, held, settings, start))
    return Choice("table", "a table", _solver("table")(entries, held, settings, start))


def _solver(name: SolverName) -> Solver:
    from lowdim.completion._table import solve_table

    return {"table": solve_table}[name]

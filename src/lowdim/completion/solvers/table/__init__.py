"""The solver of noisy tables: variational factor analysis, and what similar rows know."""

from lowdim.completion.solvers._solver import Entries, Settings, Solver, described
from lowdim.completion.solvers.table._table import check_table, solve_table


def _suits(entries: Entries, settings: Settings) -> str:
    return f"{described(entries)}: a noisy table"


TABLE = Solver(
    name="table",
    title="noisy tables of at most a few thousand columns",
    solve=solve_table,
    check=check_table,
    memory=lambda entries, shape, rank: 150 * shape[0] * shape[1] + 100 * 2**20,
    suits=_suits,
    rescued=True,
    reads=frozenset({"iterations"}),
    shrinks=True,
)

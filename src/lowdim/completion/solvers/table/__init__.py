"""The solvers of noisy tables: factor analysis, and what trees and a kernel find in what it leaves over."""

from lowdim.completion.solvers._solver import Entries, Settings, Solver, described
from lowdim.completion.solvers.table._second_stage import LEAST_ROWS, TRAINING_ROWS
from lowdim.completion.solvers.table._table import solve_quickly, solve_table
from lowdim.completion.solvers.table._worlds import MOST_CELLS, PARTS


def _suits(entries: Entries, settings: Settings) -> str:
    return f"{described(entries)}: a noisy table"


def _memory(entries: int, shape: tuple[int, int], rank: int) -> int:
    rows = min(shape[0], max(LEAST_ROWS, MOST_CELLS // ((PARTS + 1) * shape[1])), TRAINING_ROWS)
    worlds = rows * shape[1] * (PARTS + 1)
    return 20 * 2**20 + 150 * shape[0] * shape[1] + 56 * worlds


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

"""The solvers by name, in the order in which ``auto`` asks whether they suit a matrix: one file or folder, and one line here, for each.

A solver's module is imported when it is asked for: its kernels take time to load.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lowdim.completion.solvers._solver import Solver

SOLVERS = {
    "inpaint": "_inpaint:INPAINT",
    "ratings": "ratings._ratings:RATINGS",
    "ratings-quick": "ratings._ratings:RATINGS_QUICK",
    "als": "_als:ALS",
    "table": "table._table:TABLE",
    "table-quick": "table._table:TABLE_QUICK",
    "exact": "exact._recover:EXACT",
    "gd": "gd._gradient_descent:GD",
}
"""The module in this room, and the record in it."""


def solver(name: str) -> "Solver":
    """The record of a solver."""
    module, record = SOLVERS[name].split(":")
    return getattr(import_module(f"{__name__}.{module}"), record)


def solvers() -> "list[Solver]":
    """All records, in the order in which ``auto`` asks them."""
    return [solver(name) for name in SOLVERS]

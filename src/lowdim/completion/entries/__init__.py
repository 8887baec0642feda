"""The observed entries of a matrix: read, validated and stored once, with the sums over them that several solvers need."""

from lowdim.completion.entries._entries import Entries
from lowdim.completion.entries._least_squares import (
    PADDING,
    TILE,
    add_normal_equations,
    add_products,
    pair_products,
    solve_normal_equations,
    solve_rows,
)

__all__ = [
    "PADDING",
    "TILE",
    "Entries",
    "add_normal_equations",
    "add_products",
    "pair_products",
    "solve_normal_equations",
    "solve_rows",
]

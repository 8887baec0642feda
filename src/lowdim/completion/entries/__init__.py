"""The observed entries of a matrix: read, validated and stored once, with the sums over them that all solvers need."""

from lowdim._memory import require_memory
from lowdim.completion.entries._entries import Entries
from lowdim.completion.entries._inputs import entries_of, is_mixed, is_triplets, numeric, places_of, read_triplets
from lowdim.completion.entries._kernels import (
    LANES,
    add_both_products,
    kernel,
    product_rows,
    residual_products,
    run_rows,
    step_down,
)
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
    "LANES",
    "PADDING",
    "TILE",
    "Entries",
    "add_both_products",
    "add_normal_equations",
    "add_products",
    "entries_of",
    "is_mixed",
    "is_triplets",
    "kernel",
    "numeric",
    "pair_products",
    "places_of",
    "product_rows",
    "read_triplets",
    "require_memory",
    "residual_products",
    "run_rows",
    "solve_normal_equations",
    "solve_rows",
    "step_down",
]

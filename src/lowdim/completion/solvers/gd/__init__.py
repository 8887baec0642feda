"""The solver `gd`: the compressed deep linear network of the lecture, trained by gradient descent."""

from typing import Any

from lowdim.completion.solvers._factors import factor_completion, solved
from lowdim.completion.solvers._solver import Completion, Entries, HeldOut, Mask, Settings, Solved, Solver
from lowdim.completion.solvers.gd._gradient_descent import gradient_descent


def solve_gd(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Train on all entries; see `gradient_descent`."""
    del start  # it must start near zero
    held_out = check_gd(entries, held, settings)
    return solved(gradient_descent(entries, **_options(entries, settings)), entries, held_out)


def check_gd(entries: Entries, held: Mask, settings: Settings) -> HeldOut:
    """The check of `solve_gd` alone, without the fit of all entries."""
    training = entries.select(~held)
    first = gradient_descent(training, **_options(entries, settings))
    return HeldOut.of(factor_completion(first, training), entries, held)


def _options(entries: Entries, settings: Settings) -> dict[str, Any]:
    rank = settings.rank or entries.affordable_rank(settings.max_rank)
    return {"rank": rank, "depth": settings.depth, "random_state": settings.seed, "journal": settings.journal}


GD = Solver(
    name="gd",
    title="the compressed deep linear network trained by gradient descent",
    solve=solve_gd,
    check=check_gd,
    memory=lambda entries, shape, rank: 95 * entries + 120 * sum(shape) * rank,
    reads=frozenset({"depth"}),
    biased=False,
    one_scale=True,
)

"""What the parsimony experiments share: a run in full, measured against the theorem, as verdicts and surfaces."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lowdim._verdicts import Verdict
from lowdim.dynamics import (
    Bases,
    BlockForms,
    Polar,
    Problem,
    Rule,
    Trajectory,
    block_forms,
    initialize,
    low_rank_target,
    scale_recursion,
    simulate,
)
from lowdim.errors import UsageError
from lowdim.figures import Lines, Panels, Series, Surface

SOURCE = "Yaras, Wang, Hu, Zhu, Balzano and Qu (2023), arXiv:2306.01154"

EQUIVARIANT = 1e-14
"""Largest share of off-diagonal blocks for which the invariance is exact in float64."""

RESOLVED = 1e-4
"""Relative gap in the spectrum above which float64 gives the middle singular vectors to 1e-11."""


def require_invariant(width: int, rank: int) -> None:
    """Whether some directions are outside the theorem's 2r."""
    if width <= 2 * rank:
        raise UsageError(
            f"rank must be at most {(width - 1) // 2} at width {width}, not {rank}: nothing is invariant unless width > 2 x rank."
        )


@dataclass(frozen=True)
class Setting:
    """A random target and orthogonal weights.

    Attributes:
        depth: L, the number of factors.
        width: d.
        rank: Rank of the target; also its number of rows when `full_output` is False.
        eps: Scale of the initial weights.
    """

    depth: int
    width: int
    rank: int
    eps: float
    seed: int

    def build(self, *, full_output: bool = True) -> tuple[Problem, list[Float[np.ndarray, "m n"]]]:
        """Target and weights: Case 2 (as many outputs as inputs) or Case 1."""
        random = np.random.default_rng(self.seed)
        outputs = self.width if full_output else self.rank
        problem = Problem(low_rank_target((outputs, self.width), self.rank, random))
        return problem, initialize([self.width] * self.depth + [outputs], random, scale=self.eps)


@dataclass(frozen=True)
class Study:
    """A run of all matrices beside the theorem's prediction for it."""

    run: Trajectory
    bases: Bases
    forms: BlockForms
    rho: Float[np.ndarray, " T"]

    @property
    def layers(self) -> int:
        """Factors with an invariant part."""
        return self.run.depth if self.bases.full_output else self.run.depth - 1


def study(setting: Setting, rule: Rule, iterations: int, *, full_output: bool = True) -> Study:
    """Trains all matrices and measures them against the analytic bases and the recursion of rho."""
    problem, weights = setting.build(full_output=full_output)
    run = simulate(problem, weights, rule, steps=iterations, mode="full")
    bases = Bases.from_data(problem, weights)
    rho = (
        scale_recursion(setting.eps, rule, iterations, depth=setting.depth, full_output=full_output)
        if rule.equivariant
        else np.full(iterations + 1, np.nan)
    )
    return Study(run, bases, block_forms(run, bases), rho)


def exact_verdicts(prefix: str, result: Study, rule: Rule) -> list[Verdict]:
    """The law of parsimony, statement by statement.

    A polar step divides the gradient by its singular values, of which the invariant ones are smaller than the largest by about
    ``rho^L / sigma_1``: by that much its rounding may exceed that of other steps.
    """
    run, layers = result.run, range(1, result.layers + 1)
    reduced = simulate(run.problem, run.weights(0), rule, steps=int(run.times[-1]))
    bulk = max(_bulk_error(run.singular_values(layer), result) for layer in layers)
    angle = max(float(middle_angles(result, layer, side).max()) for layer in layers for side in ("left", "right"))
    difference = max(float(np.abs(run.weight(l) - reduced.weight(l)).max()) for l in range(1, run.depth + 1))
    identity = float(np.abs(run.loss() - reduced.loss()).max() / run.loss(0))
    smallest = float(np.abs(result.rho).min()) ** run.depth
    rounding = np.finfo(np.float64).eps * float(np.linalg.norm(run.problem.phi, 2)) / smallest
    rounding = rounding if isinstance(rule, Polar) else 0.0
    count = f"{result.bases.multiplicity} of {result.bases.right[0].shape[0]}"
    found = {
        f"{count} singular values on rho(t), relative error": (bulk, 1e-10),
        "off-diagonal blocks": (result.forms.off_block.max(), EQUIVARIANT),
        "angle of the middle subspaces (rad)": (angle, 1e-10),
        "loss = reduced loss + m rho^(2L) / 2, relative error": (identity, 1e-12),
        "reduced run equals the full one, largest difference": (difference, 1e-12),
    }
    return [Verdict.of(prefix + name, value, "<=", max(bound, rounding)) for name, (value, bound) in found.items()]


def _bulk_error(values: Float[np.ndarray, "T d"], result: Study) -> float:
    """Relative distance from |rho(t)| of the m-th nearest singular value, at the worst time."""
    rho = np.abs(result.rho)[:, None]
    distances = np.sort(np.abs(values - rho) / rho, axis=1)
    return float(distances[:, result.bases.multiplicity - 1].max())


def middle_indices(values: Float[np.ndarray, " d"], rho: float, count: int) -> np.ndarray:
    """Positions of the `count` singular values nearest to rho, ascending."""
    return np.sort(np.argsort(np.abs(values - abs(rho)), kind="stable")[:count])


def middle_angles(result: Study, layer: int, side: str) -> Float[np.ndarray, " t"]:
    """Angle of the span of the middle singular vectors against the analytic invariant subspace, over time.

    The arcsine of what sticks out. Times at which another singular value is within `RESOLVED` of the middle ones are left
    out: there, as at t = 0 where all are equal, rounding alone turns the vectors by more than the verdict's threshold.
    """
    changing = (result.bases.left if side == "left" else result.bases.right)[layer - 1]
    angles = [0.0]
    for index, time in enumerate(result.run.times[1:], 1):
        left, values, right = result.run.svd(layer, time)
        vectors, rho = left if side == "left" else right.T, _rho(result, index, values)
        middle = middle_indices(values, rho, result.bases.multiplicity)
        others = np.delete(values, middle)
        if np.abs(others - abs(rho)).min() > RESOLVED * values[0]:
            angles.append(float(np.arcsin(min(1.0, np.linalg.norm(changing.T @ vectors[:, middle], 2)))))
    return np.array(angles)


def _rho(result: Study, index: int, values: np.ndarray) -> float:
    return float(np.median(values) if np.isnan(result.rho[index]) else result.rho[index])


def surfaces(name: str, title: str, result: Study, layers: Sequence[int] = (1, 2, 3)) -> list[Panels]:
    """Singular values, and angles of right and left singular vectors to their reference, per layer over time."""
    shown = [layer for layer in layers if layer <= result.run.depth]
    values = [_values_surface(name, result, layer) for layer in shown]
    rights = [_angle_surface(name, result, layer, "right") for layer in shown]
    lefts = [_angle_surface(name, result, layer, "left") for layer in shown]
    caption = "Reference: the vectors at iteration 1; the middle ones against the analytic invariant subspace, as one subspace."
    return [
        Panels(f"{name}-values", f"{title}: singular values of the factors", values),
        Panels(f"{name}-right", f"{title}: angle of right singular vectors to their start", rights, caption=caption),
        Panels(f"{name}-left", f"{title}: angle of left singular vectors to their start", lefts, caption=caption),
    ]


def _values_surface(name: str, result: Study, layer: int) -> Surface:
    values = result.run.singular_values(layer)
    index = np.arange(1, values.shape[1] + 1)
    return Surface(
        f"{name}-values-{layer}", f"W_{layer}", index, result.run.times, values, "index", "iteration", "singular value"
    )


def _angle_surface(name: str, result: Study, layer: int, side: str) -> Surface:
    times = result.run.times[1:]
    rows: list[np.ndarray] = []
    reference = np.empty(0)
    changing = (result.bases.left if side == "left" else result.bases.right)[layer - 1]
    for index, time in enumerate(times, 1):
        left, values, right = result.run.svd(layer, time)
        vectors = left if side == "left" else right.T
        count = max(0, vectors.shape[1] - changing.shape[1])
        middle = middle_indices(values, _rho(result, index, values), count)
        outer = np.setdiff1d(np.arange(vectors.shape[1]), middle)
        if not reference.size:
            reference = vectors[:, outer]
        angles = np.empty(vectors.shape[1])
        angles[middle] = _arcsine(changing.T @ vectors[:, middle])
        angles[outer] = _arcsine(vectors[:, outer] - reference * np.sum(reference * vectors[:, outer], axis=0))
        rows.append(angles)
    order = np.arange(1, len(rows[0]) + 1)
    return Surface(
        f"{name}-{side}-{layer}", f"W_{layer}", order, times, np.array(rows), "index", "iteration", "angle (rad)"
    )


def _arcsine(residual: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " n"]:
    return np.arcsin(np.minimum(1.0, np.linalg.norm(residual, axis=0)))


def loss_lines(name: str, result: Study, rule: Rule) -> Lines:
    """Loss of the full run, and the part that the reduced network learns."""
    run = result.run
    reduced = simulate(run.problem, run.weights(0), rule, steps=int(run.times[-1]))
    series = [
        Series("full network", run.times, run.loss()),
        Series("reduced network + m rho^(2L) / 2", run.times, reduced.loss(), style="dashed"),
        Series("reduced network alone", run.times, reduced.reduced_loss(), style="dotted"),
    ]
    return Lines(f"{name}-loss", "Loss against iteration", "iteration", "loss", series, log_y=True)

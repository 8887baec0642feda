"""What factor models leave over: trees and a kernel regression on their residuals, weighted per column by honest errors.

For each column j with holes, in the world that hides it (see `_worlds`): two forests (of the residual ``x_j - p_j`` of the factor
model, and of ``x_j`` itself, which suits columns that follow others exactly), a kernel ridge regression, the factor model of normal scores,
and ``-p_j``, which leads back to the mean where columns are unrelated. Their non-negative weights come from predictions that did not
see the cell. A second round does the same with holes filled by the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from threadpoolctl import threadpool_limits

from lowdim.completion.solvers.table._factor_model import FactorModel, NormalScores
from lowdim.completion.solvers.table._learners import WIDTHS, Bins, Forest, KernelRidge
from lowdim.completion.solvers.table._worlds import MOST_CELLS, PARTS, Design, Known, World, leverage

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Indices = NDArray[np.integer[Any]]

ROUNDS = 2
FOLDS, FIRST_TREES, TREES, MOST_TREES = 5, 3, 5, 8
TREE_ROWS = 600  # rows times trees up to which more trees are grown: few rows make a forest noisy, and cost little
RESIDUAL_SHARE, DIRECT_SHARE = 0.6, 0.7  # of the features that a node may ask about
LIMIT = 3.0  # deviations beyond which an input of the kernel counts as this many
INPUTS = 40  # other columns that predict one, the most related
TRAINING_ROWS, LEAST_ROWS = 4_000, 200
FEWEST = 8  # known cells of a column that is predicted by more than the factor model
WORTH = 0.99  # of the factor model's error: what the first columns must reach for the others to be tried
TRIED, TRIED_ROWS = 8, 2_000  # columns, and about how many of the rows
AGAIN = 0.97  # what the first round must reach for a second
SPREAD = 0.3  # of a weight over columns: the prior of its estimate
PRIOR = 3.0


class Inputs(NamedTuple):
    """What predicts a column in some rows."""

    codes: NDArray[np.uint8]  # (others + 1, rows): of the other columns, of the factor model's prediction
    others: Array  # (rows, others)
    linear: Array  # (rows,)
    ranked: Array  # (rows,): by normal scores

    @classmethod
    def of(
        cls,
        worlds: Mapping[int, World],
        at: Indices,
        rows: Indices,
        column: int,
        others: Indices,
        bins: Sequence[Bins],
        scores: NormalScores,
    ) -> "Inputs":
        """Of rows, each in the world of that number."""

        def cells(name: str, columns: Indices) -> Array:
            found = np.empty((rows.size, columns.size))
            for number in np.unique(at):
                own = at == number
                found[own] = getattr(worlds[int(number)], name)[np.ix_(rows[own], columns)]
            return found

        filled, column_alone = cells("filled", others), np.array([column])
        linear, means, deviations = (
            cells(name, column_alone)[:, 0] for name in ("linear", "scored", "scored_deviation")
        )
        codes = np.stack([part.codes(values) for part, values in zip(bins, [*filled.T, linear], strict=True)])
        return cls(codes, np.clip(filled, -LIMIT, LIMIT), linear, scores.expected(means, deviations))


@dataclass(frozen=True)
class Column:
    """The fitted predictors of one column's residual, and their weights."""

    column: int
    others: Indices
    bins: tuple[Bins, ...]
    scores: NormalScores
    residual: Forest
    direct: Forest
    kernel: KernelRidge
    weights: Array

    def inputs(self, worlds: Mapping[int, World], at: Indices, rows: Indices) -> Inputs:
        """The inputs in some rows, each in the world of that number."""
        return Inputs.of(worlds, at, rows, self.column, self.others, self.bins, self.scores)

    def predict(self, inputs: Inputs) -> Array:
        """The column itself, ``(rows,)``."""
        residual, direct, kernel, ranked, mean = self.weights
        prediction = (1 - mean) * inputs.linear + ranked * (inputs.ranked - inputs.linear)
        if residual > 0:
            prediction = prediction + residual * self.residual.predict(inputs.codes)
        if direct > 0:
            prediction = prediction + direct * (self.direct.predict(inputs.codes) - inputs.linear)
        return prediction + kernel * self.kernel.predict(inputs.others) if kernel > 0 else prediction


@dataclass(frozen=True)
class SecondStage:
    """Fitted rounds.

    Attributes:
        plain: Factor model of the standardised columns.
        scored: Of their normal scores.
        rounds: The predictors of each column that had holes.
        low: ``(n,)``, the least observed value of each column, below which nothing is filled; ``high`` likewise.
        rows: Of the table, on which the rounds were fitted.
        honest: ``(rows, n)`` predictions of the known cells of those rows by models that did not see them; NaN elsewhere.
        deviation: ``(rows, n)``, of the factor model in the same worlds.
    """

    plain: FactorModel
    scored: FactorModel
    rounds: tuple[dict[int, Column], ...]
    low: Array
    high: Array
    rows: Indices
    honest: Array
    deviation: Array

    def complete(self, values: Array, observed: Mask) -> Array:
        """The modelled values of all cells of any rows, from their observed ones; those of the observed are the factor model's."""
        if not self.rounds:
            return self.plain.means(self.plain.inner(values), observed)
        world = Known(values, self.plain, self.scored).world(observed)
        for columns in self.rounds:
            filled = world.filled.copy()
            for column, model in columns.items():
                rows = np.flatnonzero(~observed[:, column])
                prediction = model.predict(model.inputs({0: world}, np.zeros(rows.size, int), rows))
                filled[rows, column] = np.clip(prediction, self.low[column], self.high[column])
            world = replace(world, filled=filled)
        return np.where(observed, world.linear, world.filled)


def fit_second_stage(
    values: Array,
    observed: Mask,
    plain: FactorModel,
    scored: FactorModel,
    *,
    together: Sequence[Indices] | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> SecondStage:
    """Fit the predictors of all columns with holes, or of all columns where none has one.

    `together` has for each column those that are unknown whenever it is; 0 `rounds` give the factor model with its honest predictions.

    Cost: ``O(h m log m n)`` for the trees of h columns with holes, ``O(h m n K^2)`` for the worlds.
    """
    m, n = values.shape
    together = [np.array([j]) for j in range(n)] if together is None else together
    rows = np.sort(np.random.default_rng(seed).permutation(m)[: _training_rows(n)])
    holed = ~observed.all(0)
    targets = np.flatnonzero((holed | ~holed.any()) & (observed[rows].sum(0) > 1))
    low, high = np.where(observed, values, np.inf).min(0), np.where(observed, values, -np.inf).max(0)
    with threadpool_limits(1, "blas"):  # the matrices are small: threads would wait for each other
        fitting = _Fitting(values[rows], observed[rows], plain, scored, targets, together, low, high, seed)
        fitted, honest, deviation = fitting.run(rounds)
    return SecondStage(plain, scored, fitted, low, high, rows, honest, deviation)


def cells_of_worlds(m: int, n: int) -> int:
    """Of all worlds together, where cells are hidden in parts."""
    return min(m, _training_rows(n)) * n * (PARTS + 1)


def _training_rows(n: int) -> int:
    """Rows that the predictors of `n` columns are fitted to, at most."""
    return min(TRAINING_ROWS, max(LEAST_ROWS, MOST_CELLS // ((PARTS + 1) * n)))


class Candidates(NamedTuple):
    """Honest predictions ``(rows, candidates)`` of a target ``(rows,)``, and the variance of each beyond that of its final form."""

    predictions: Array
    target: Array
    noise: Array


class _Worlds(dict[int, World]):
    """The worlds of a design, each computed when it is first asked for."""

    def __init__(self, known: Known, observed: Mask, design: Design) -> None:
        super().__init__()
        self.known, self.observed, self.design = known, observed, design

    def seen(self, number: int) -> Mask:
        return self.observed & ~self.design.hides[number]

    def __missing__(self, number: int) -> World:
        self[number] = self.known.world(self.seen(number))
        return self[number]


class _Fitting:
    """The state of `fit_second_stage`."""

    def __init__(
        self,
        values: Array,
        observed: Mask,
        plain: FactorModel,
        scored: FactorModel,
        targets: Indices,
        together: Sequence[Indices],
        low: Array,
        high: Array,
        seed: int,
    ) -> None:
        self.values, self.observed, self.plain, self.scored = values, observed, plain, scored
        self.targets, self.together, self.low, self.high, self.seed = targets, together, low, high, seed
        self.design = Design.of(observed, targets, together, seed)
        self.worlds = _Worlds(Known(values, plain, scored), observed, self.design)
        self.linear, self.deviation, self.leverages = self.alone()
        self.bins = [
            Bins.of(column[known] if known.any() else np.zeros(1))
            for column, known in zip(values.T, observed.T, strict=True)
        ]

    def alone(self) -> tuple[Array, Array, Array]:
        """The factor model's honest predictions, its deviations (NaN where there are none) and the leverages of known cells, ``(rows, n)``.

        The loadings have seen each cell that they predict: the leverage says how much of it the prediction takes up.
        """
        loadings, rows = self.plain.loadings, np.arange(len(self.values))
        linear, deviation = (np.full(self.values.shape, np.nan) for _ in range(2))
        latents = np.empty((len(self.design.hides), rows.size, loadings.rank + 1))
        for number in range(len(latents)):
            hidden = np.equal(self.design.of_column.T, number)
            columns = np.flatnonzero(hidden.any(0))
            latents[number], means, deviations = self.worlds.known.plainly(self.worlds.seen(number), columns)
            for all_cells, found in ((linear, means), (deviation, deviations)):
                all_cells[:, columns] = np.where(hidden[:, columns], found, all_cells[:, columns])
        shares = np.zeros(self.values.shape)
        for j in self.targets:
            known = self.observed[:, j]
            own = latents[self.design.of_column[j], rows][known]
            shares[known, j] = leverage(own, loadings.noise[j] * loadings.precision)
        return linear, deviation, shares

    def run(self, rounds: int) -> tuple[tuple[dict[int, Column], ...], Array, Array]:
        """The rounds, the honest predictions, and the factor model's deviations."""
        honest = self.linear.copy()
        fitted: list[dict[int, Column]] = []
        learned = self.targets[self.observed[:, self.targets].sum(0) >= FEWEST]
        if rounds and learned.size and self.worthwhile(learned):
            for step in range(rounds):
                before = self.error(honest, learned)
                columns, predictions = self.round(learned, fitted[-1] if fitted else {}, last=step == rounds - 1)
                fitted.append(columns)
                honest[:, learned] = predictions
                if step == rounds - 1 or self.error(honest, learned) > AGAIN * before:
                    break
                self.refill(columns, honest)
        honest[~self.observed] = np.nan
        # the loadings, alone, are not refitted without each cell: this is what that would change
        honest = self.values - (self.values - honest) / (1 - self.leverages)
        return tuple(fitted), honest, self.deviation

    def worthwhile(self, columns: Indices) -> bool:
        """Whether some columns gain from more than the factor model; where there are few columns nothing is saved by asking."""
        if columns.size <= 2 * TRIED:
            return True
        tried = np.random.default_rng(self.seed).permutation(columns)[:TRIED]
        step = max(1, len(self.values) // TRIED_ROWS)
        parts = [self.fit(j, None, last=False, step=step)[1] for j in tried]
        linear = np.concatenate([part.target for part in parts])
        gained = [part.predictions @ weight for part, weight in zip(parts, stack(parts), strict=True)]
        return bool(np.mean((linear - np.concatenate(gained)) ** 2) < WORTH**2 * np.mean(linear**2))

    def error(self, honest: Array, columns: Indices) -> float:
        return _error(honest[:, columns], self.values[:, columns], self.observed[:, columns])

    def round(self, columns: Indices, earlier: dict[int, Column], *, last: bool) -> tuple[dict[int, Column], Array]:
        """Predictors of columns, and their predictions ``(rows, columns)``: honest where the cell is known."""
        parts = [self.fit(j, earlier.get(int(j)), last=last) for j in columns]
        weights = stack([candidates for _, candidates in parts])
        fitted: dict[int, Column] = {}
        predictions = np.empty((len(self.values), len(columns)))
        for place, (column, (model, candidates), weight) in enumerate(zip(columns, parts, weights, strict=True)):
            known = self.observed[:, column]
            fitted[int(column)] = model = replace(model, weights=weight)
            predictions[known, place] = self.linear[known, column] + candidates.predictions @ weight
            holes = np.flatnonzero(~known)
            predictions[holes, place] = model.predict(
                model.inputs(self.worlds, self.design.of_column[column][holes], holes)
            )
        return fitted, np.clip(predictions, self.low[columns], self.high[columns])

    def fit(self, column: int, earlier: Column | None, *, last: bool, step: int = 1) -> tuple[Column, Candidates]:
        """The predictors of a column, not yet weighted, and their honest predictions, from every so many of its known cells."""
        known, others = np.flatnonzero(self.observed[:, column])[::step], self.related(column)
        bins = (*(self.bins[j] for j in others), Bins.of(self.linear[known, column]))
        assert self.scored.scores is not None
        scores, at = self.scored.scores[column], self.design.of_column[column][known]
        inputs = Inputs.of(self.worlds, at, known, column, others, bins, scores)
        truth, linear = self.values[known, column], inputs.linear
        centres = np.stack([part.centres for part in bins])
        least = TREES if last else FIRST_TREES
        trees = int(np.clip(TREE_ROWS // len(truth), least, MOST_TREES))
        residual, direct = (
            Forest.grow(inputs.codes, centres, target, folds=FOLDS, trees=trees, share=share, seed=self.seed)
            for target, share in ((truth - linear, RESIDUAL_SHARE), (truth, DIRECT_SHARE))
        )
        widths = (earlier.kernel.width,) if earlier is not None else WIDTHS
        kernel = KernelRidge.fit(inputs.others, truth - linear, self.seed, widths)
        candidates = [residual.left_out, direct.left_out - linear, kernel.left_out, inputs.ranked - linear, -linear]
        noise = np.array([residual.noise, direct.noise, 0.0, 0.0, 0.0])
        model = Column(column, others, bins, scores, residual, direct, kernel, np.zeros(len(candidates)))
        return model, Candidates(np.stack(candidates, axis=1), truth - linear, noise)

    def related(self, column: int) -> Indices:
        """The other columns that predict one: the most correlated in the factor model, where there are many."""
        others = np.setdiff1d(np.arange(self.values.shape[1]), self.together[column])
        if others.size <= INPUTS:
            return others
        loadings = self.plain.loadings.mean[:, :-1]
        sizes = np.sqrt((loadings**2).sum(1) + self.plain.loadings.noise)
        correlation = np.abs(loadings[others] @ loadings[column]) / sizes[others]
        return np.sort(others[np.argsort(-correlation, kind="stable")[:INPUTS]])

    def refill(self, columns: dict[int, Column], honest: Array) -> None:
        """Fill the unseen cells of all worlds by the predictors of a round."""
        worlds = [self.worlds[number] for number in range(len(self.design.hides))]
        filled = [world.filled.copy() for world in worlds]
        whole = [(world.seen == self.observed).all(1) for world in worlds]
        for column, model in columns.items():
            own = self.design.of_column[column]
            at, rows = np.nonzero(np.stack([~world.seen[:, column] for world in worlds]))
            # predicted already: a cell in the world that predicts it, and one of a row in which the world hides nothing
            done = (own[rows] == at) | np.stack(whole)[at, rows]
            new = np.empty(rows.size)
            new[done] = honest[rows[done], column]
            prediction = model.predict(model.inputs(self.worlds, at[~done], rows[~done]))
            new[~done] = np.clip(prediction, self.low[column], self.high[column])
            for number, fill in enumerate(filled):
                fill[rows[at == number], column] = new[at == number]
        for number, (world, fill) in enumerate(zip(worlds, filled, strict=True)):
            self.worlds[number] = replace(world, filled=fill)


def _error(predictions: Array, truth: Array, known: Mask) -> float:
    return float(np.sqrt(np.mean((predictions - truth)[known] ** 2)))


def stack(columns: Sequence[Candidates]) -> list[Array]:
    """The weights ``(candidates,)`` of each column.

    They minimise the squared error of the honest predictions plus a pull to the weights that are best for all columns together, the
    stronger the fewer rows there are. The noise of small left-out forests is taken off the diagonal of their second moments: their
    final form has less of it.
    """
    grams = [_second_moments(column) for column in columns]
    moments = [column.predictions.T @ column.target / len(column.target) for column in columns]
    common = _least_squares(sum(grams), sum(moments))
    pulls = [
        PRIOR * float(np.mean((column.target - column.predictions @ common) ** 2)) / SPREAD**2 / len(column.target)
        for column in columns
    ]
    identity = np.eye(len(common))
    return [
        _least_squares(gram + pull * identity, moment + pull * common)
        for gram, moment, pull in zip(grams, moments, pulls, strict=True)
    ]


def _second_moments(column: Candidates) -> Array:
    predictions = column.predictions
    noise = np.minimum(column.noise, 0.5 * np.mean(predictions**2, axis=0))
    return predictions.T @ predictions / len(predictions) - np.diag(noise)


def _least_squares(gram: Any, moment: Any) -> Array:
    """Non-negative minimiser of ``w' gram w - 2 w' moment``, of a gram matrix that the noise may have left indefinite."""
    sizes, basis = np.linalg.eigh(gram)
    root = np.sqrt(np.maximum(sizes, 1e-6 * sizes[-1] + 1e-12))
    return nnls((basis * root).T, (basis / root).T @ moment)[0]

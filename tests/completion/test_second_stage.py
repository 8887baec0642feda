"""The second stage of tables: each part against its definition, honesty, and planted truth."""

import numpy as np
import pytest

from lowdim.completion.solvers.table import _factor_analysis as factor_analysis
from lowdim.completion.solvers.table import _worlds as worlds
from lowdim.completion.solvers.table._factor_model import FactorModel, NormalScores
from lowdim.completion.solvers.table._learners import Bins, Forest, KernelRidge
from lowdim.completion.solvers.table._second_stage import Candidates, SecondStage, _Fitting, fit_second_stage, stack

Array = np.ndarray


def binned(inputs: Array) -> tuple[Array, Array]:
    bins = [Bins.of(column) for column in inputs.T]
    return np.stack([part.codes(column) for part, column in zip(bins, inputs.T, strict=True)]), np.stack(
        [part.centres for part in bins]
    )


def test_bins_keep_few_distinct_values_apart_and_the_order_of_many() -> None:
    few = Bins.of(np.array([3.0, 1.0, 1.0, 7.0]))
    assert few.codes(np.array([1.0, 3.0, 7.0, -5.0, 99.0])).tolist() == [0, 1, 2, 0, 2]
    np.testing.assert_array_equal(few.centres[:3], [1, 3, 7])
    many = np.random.default_rng(0).normal(size=2_000) ** 3
    codes = Bins.of(many).codes(many)
    assert (np.diff(codes[np.argsort(many)].astype(int)) >= 0).all() and len(np.unique(codes)) > 200


def test_a_forest_learns_and_its_left_out_predictions_have_not_seen_their_row() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(120, 3))
    target = np.sign(inputs[:, 0]) + (inputs[:, 1] > 0.5)
    codes, centres = binned(inputs)
    grown = Forest.grow(codes, centres, target, folds=5, trees=4, share=1.0, seed=1)
    assert np.mean((grown.predict(codes) - target) ** 2) < 0.05 * np.var(target)
    assert np.mean((grown.left_out - target) ** 2) < 0.3 * np.var(target)
    first_fold = np.flatnonzero(np.random.default_rng(1).permutation(120) % 5 == 0)
    for row in first_fold[:3]:  # its trees are grown first, so their random numbers are the same
        changed = target.copy()
        changed[row] += 100
        again = Forest.grow(codes, centres, changed, folds=5, trees=4, share=1.0, seed=1)
        assert again.left_out[row] == grown.left_out[row]
        assert not np.array_equal(again.left_out, grown.left_out)


def test_a_forest_of_a_constant_is_the_constant() -> None:
    codes, centres = binned(np.ones((10, 2)))
    grown = Forest.grow(codes, centres, np.full(10, 3.0), folds=5, trees=2, share=0.5, seed=0)
    np.testing.assert_array_equal(grown.predict(codes), 3.0)


def test_leave_one_out_of_the_kernel_ridge_is_a_fit_without_the_row() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(30, 2))
    target = np.sin(2 * inputs[:, 0]) + 0.1 * generator.normal(size=30)
    fitted = KernelRidge.fit(inputs, target, seed=0)
    kernel = np.exp(-fitted.rate * ((inputs[:, None] - fitted.landmarks) ** 2).sum(2))
    between = np.exp(-fitted.rate * ((fitted.landmarks[:, None] - fitted.landmarks) ** 2).sum(2))
    # all rows are landmarks: the ridge follows from the coefficients, K (a ridge) = K (y - K a)
    residual = target - kernel @ fitted.coefficients
    ridge = float(np.median((kernel.T @ residual) / (between @ fitted.coefficients)))
    for row in range(5):
        rest = np.arange(30) != row
        part = kernel[rest]
        coefficients = np.linalg.lstsq(part.T @ part + ridge * between, part.T @ target[rest], rcond=None)[0]
        assert fitted.left_out[row] == pytest.approx(kernel[row] @ coefficients, abs=2e-4)
    np.testing.assert_allclose(fitted.predict(inputs), kernel @ fitted.coefficients, atol=1e-10)


def test_stacking_finds_planted_weights_and_never_a_negative_one() -> None:
    generator = np.random.default_rng(0)
    predictions = generator.normal(size=(4_000, 3))
    target = predictions @ np.array([0.7, 0.0, 0.2]) - 0.3 * predictions[:, 1] + 0.1 * generator.normal(size=4_000)
    alone = stack([Candidates(predictions, target, np.zeros(3))])[0]
    np.testing.assert_allclose(alone, [0.7, 0.0, 0.2], atol=0.02)
    few = Candidates(predictions[:5], predictions[:5, 2], np.zeros(3))
    drawn = stack([Candidates(predictions, target, np.zeros(3)), few])[1]
    assert (drawn >= 0).all()
    assert np.linalg.norm(drawn - alone) < np.linalg.norm(stack([few])[0] - alone)  # few rows are drawn to the others


def test_normal_scores_keep_the_order_and_come_back() -> None:
    column = np.exp(2 * np.random.default_rng(0).normal(size=500))
    scores = NormalScores.of(column)
    forward = scores.forward(column)
    assert (np.diff(forward[np.argsort(column)]) >= 0).all()
    assert np.std(forward) == pytest.approx(1, abs=0.01) and abs(np.mean(forward)) < 0.01
    np.testing.assert_allclose(scores.expected(forward, np.zeros(500)), column)
    # the mean of a log-normal value lies above the value of the mean
    assert scores.expected(np.array([0.0]), np.array([0.5]))[0] > scores.expected(np.array([0.0]), np.array([0.0]))[0]


def models(values: Array, observed: Array) -> tuple[FactorModel, FactorModel]:
    rank = min(values.shape) - 1
    plain = factor_analysis.fit(values, observed, rank).loadings
    scores = tuple(NormalScores.of(column[known]) for column, known in zip(values.T, observed.T, strict=True))
    ranked = np.stack([score.forward(column) for score, column in zip(scores, values.T, strict=True)], axis=1)
    return FactorModel(plain), FactorModel(
        factor_analysis.fit(np.where(observed, ranked, 0.0), observed, rank).loadings, scores
    )


def holed(values: Array, share: float, seed: int) -> tuple[Array, Array]:
    values = (values - values.mean(0)) / values.std(0)
    return values, np.random.default_rng(seed).random(values.shape) >= share


def fitted(values: Array, observed: Array, **options: object) -> SecondStage:
    hidden = np.where(observed, values, 0.0)
    return fit_second_stage(hidden, observed, *models(hidden, observed), **options)  # type: ignore[arg-type]


def curved(rows: int, seed: int) -> Array:
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(2, rows))
    return np.stack([x, y, x**2, x * y, np.abs(y), x + 0.1 * generator.normal(size=rows)], axis=1)


def rmse(errors: Array) -> float:
    return float(np.sqrt(np.mean(errors**2)))


@pytest.fixture(scope="module")
def table() -> tuple[Array, Array, SecondStage]:
    values, observed = holed(curved(300, 0), 0.25, 1)
    return values, observed, fitted(values, observed)


def test_what_no_factor_explains_is_found(table: tuple[Array, Array, SecondStage]) -> None:
    values, observed, stage = table
    completed = stage.complete(np.where(observed, values, 0.0), observed)
    linear = stage.plain.means(stage.plain.inner(np.where(observed, values, 0.0)), observed)
    assert len(stage.rounds) == 2
    assert rmse((completed - values)[~observed]) < 0.75 * rmse((linear - values)[~observed])


def test_honest_errors_are_those_of_unseen_cells(table: tuple[Array, Array, SecondStage]) -> None:
    values, observed, stage = table
    completed = stage.complete(np.where(observed, values, 0.0), observed)
    promised, true = rmse((stage.honest - values)[observed]), rmse((completed - values)[~observed])
    assert promised == pytest.approx(true, rel=0.15)
    assert np.isnan(stage.honest[~observed]).all()


def test_new_rows_are_filled_as_the_old_ones(table: tuple[Array, Array, SecondStage]) -> None:
    values, observed, stage = table
    hidden = np.where(observed, values, 0.0)
    together = stage.complete(hidden, observed)
    np.testing.assert_allclose(stage.complete(hidden[:7], observed[:7]), together[:7], atol=1e-9)


def test_a_world_does_not_see_what_it_hides() -> None:
    values, observed = holed(curved(80, 2), 0.2, 3)
    values = np.where(observed, values, 0.0)
    plain, scored = models(values, observed)
    seen = observed.copy()
    seen[:, 2] = False
    changed = values.copy()
    changed[:, 2] += 5
    first, second = (worlds.Known(known, plain, scored) for known in (values, changed))
    for name, found in vars(first.world(seen)).items():
        np.testing.assert_array_equal(found, getattr(second.world(seen), name))
    _, means, deviations = second.plainly(seen, np.array([1, 2]))
    np.testing.assert_allclose(means, first.world(seen).linear[:, 1:3], rtol=1e-12)
    np.testing.assert_allclose(deviations, first.world(seen).deviation[:, 1:3], rtol=1e-12)


def test_unrelated_columns_keep_their_means() -> None:
    values, observed = holed(np.random.default_rng(0).normal(size=(200, 5)), 0.3, 1)
    completed = fitted(values, observed).complete(np.where(observed, values, 0.0), observed)
    means = np.where(observed, values, 0.0).sum(0) / observed.sum(0)
    assert rmse((completed - values)[~observed]) < 1.03 * rmse((means - values)[~observed])


def test_many_columns_share_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    values, observed = holed(curved(200, 0), 0.25, 1)
    own = fitted(values, observed)
    monkeypatch.setattr(worlds, "MOST_WORLDS", 3)
    shared = fitted(values, observed)
    hidden = np.where(observed, values, 0.0)
    errors = [rmse((stage.complete(hidden, observed) - values)[~observed]) for stage in (own, shared)]
    assert errors[1] == pytest.approx(errors[0], rel=0.15)
    assert rmse((shared.honest - values)[observed]) == pytest.approx(errors[1], rel=0.2)


def test_columns_of_one_category_are_hidden_together() -> None:
    generator = np.random.default_rng(0)
    level = generator.integers(3, size=200)
    values = np.concatenate([np.eye(3)[level], generator.normal(size=(200, 2))], axis=1)
    values, observed = holed(values, 0.2, 1)
    observed[:, :3] = observed[:, :1]
    together = [np.arange(3)] * 3 + [np.array([3]), np.array([4])]
    stage = fitted(values, observed, together=together)
    # nothing tells the level: were one column of the block seen, the others would follow from it
    assert rmse((stage.honest[:, :3] - values[:, :3])[observed[:, :3]]) > 0.9


def test_a_second_round_begins_with_what_the_first_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "MOST_WORLDS", 3)
    values, observed = holed(curved(100, 0), 0.2, 1)
    stage, hidden = fitted(values, observed, rounds=1), np.where(observed, values, 0.0)
    every = [np.array([j]) for j in range(hidden.shape[1])]
    targets = np.arange(hidden.shape[1])
    fitting = _Fitting(hidden, observed, stage.plain, stage.scored, targets, every, stage.low, stage.high, 0)
    columns, honest = fitting.round(targets, {}, last=True)
    fitting.refill(columns, honest)
    nothing_hidden = fitting.worlds[len(fitting.design.hides) - 1].filled
    np.testing.assert_allclose(nothing_hidden[~observed], stage.complete(hidden, observed)[~observed], rtol=1e-9)
    np.testing.assert_array_equal(nothing_hidden[observed], hidden[observed])


def test_no_round_gives_the_factor_model() -> None:
    values, observed = holed(curved(100, 0), 0.2, 1)
    stage = fitted(values, observed, rounds=0)
    hidden = np.where(observed, values, 0.0)
    np.testing.assert_array_equal(
        stage.complete(hidden, observed), stage.plain.predict(stage.plain.inner(hidden), observed)[1]
    )

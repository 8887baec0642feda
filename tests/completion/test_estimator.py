"""`DeepMatrixCompletion`: every form of input, one meaning; what scikit-learn's own checks do not look at."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lowdim.completion import CompletionWarning, DeepMatrixCompletion, Entries
from lowdim.errors import InputError, ResourceError, UsageError

NAN = float("nan")


@pytest.fixture(scope="module")
def wine() -> np.ndarray:
    data = load_wine().data
    missing = np.random.default_rng(0).random(data.shape) < 0.3
    return np.where(missing, NAN, data)


def test_fit_transform_is_fit_then_transform(wine: np.ndarray) -> None:
    together = DeepMatrixCompletion().fit_transform(wine)
    apart = DeepMatrixCompletion().fit(wine).transform(wine)
    np.testing.assert_array_equal(together, apart)


def test_observed_entries_are_unchanged_and_nothing_is_missing(wine: np.ndarray) -> None:
    completed = DeepMatrixCompletion().fit_transform(wine)
    observed = ~np.isnan(wine)
    np.testing.assert_array_equal(completed[observed], wine[observed])
    assert np.isfinite(completed).all()


def test_two_runs_with_one_seed_are_bit_identical(wine: np.ndarray) -> None:
    first, second = (DeepMatrixCompletion(random_state=5).fit_transform(wine) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_rows_are_completed_alone_or_together(wine: np.ndarray) -> None:
    model = DeepMatrixCompletion().fit(wine[:120])
    together = model.transform(wine[120:])
    alone = np.vstack([model.transform(row[None]) for row in wine[120:]])
    np.testing.assert_allclose(alone, together, rtol=1e-8)


def test_new_rows_are_completed_better_than_by_means() -> None:
    data = load_breast_cancer().data
    data = (data - data.mean(0)) / data.std(0)
    missing = np.random.default_rng(1).random(data.shape) < 0.3
    holed = np.where(missing, NAN, data)
    completed = DeepMatrixCompletion().fit(holed[:400]).transform(holed[400:])
    error = (completed - data[400:])[missing[400:]]
    assert np.sqrt(np.mean(error**2)) < 0.5 * np.sqrt(np.mean(data[400:][missing[400:]] ** 2))


def test_units_and_offsets_of_columns_do_not_matter(wine: np.ndarray) -> None:
    units, offsets = np.logspace(-3, 3, 13), 10.0 * np.arange(13)
    plain = DeepMatrixCompletion().fit_transform(wine)
    other = DeepMatrixCompletion().fit_transform(wine * units + offsets)
    difference = ((other - offsets) / units - plain) / np.nanstd(wine, 0)
    assert np.abs(difference).max() < 1e-4  # columns of deviation 1e-4 lose digits to an offset of 100


def test_array_sparse_triplets_and_entries_agree(wine: np.ndarray) -> None:
    rows, cols = np.nonzero(~np.isnan(wine))
    values = wine[rows, cols]
    expected = DeepMatrixCompletion().fit_transform(wine)
    sparse = scipy.sparse.coo_array((values, (rows, cols)), shape=wine.shape).tocsr()
    np.testing.assert_array_equal(DeepMatrixCompletion().fit_transform(sparse), expected)
    np.testing.assert_array_equal(DeepMatrixCompletion().fit_transform((rows, cols, values)), expected)
    np.testing.assert_array_equal(DeepMatrixCompletion().fit_transform(Entries.from_dense(wine)), expected)
    order = np.random.default_rng(0).permutation(rows.size)
    shuffled = (rows[order], cols[order], values[order])
    np.testing.assert_array_equal(DeepMatrixCompletion().fit_transform(shuffled), expected)


def test_a_stored_zero_is_an_observation() -> None:
    generator = np.random.default_rng(0)
    dense = np.outer(generator.integers(0, 3, 40), generator.integers(0, 3, 6)).astype(float)
    missing = generator.random((40, 6)) < 0.3
    rows, cols = np.nonzero(~missing)
    sparse = scipy.sparse.coo_array((dense[rows, cols], (rows, cols)), shape=dense.shape)
    assert sparse.tocsr().count_nonzero() < sparse.nnz
    expected = DeepMatrixCompletion().fit_transform(np.where(missing, NAN, dense))
    np.testing.assert_array_equal(DeepMatrixCompletion().fit_transform(sparse), expected)


def test_pandas_in_pandas_out(wine: np.ndarray) -> None:
    names = [f"c{j}" for j in range(13)]
    frame = pd.DataFrame(wine, columns=names, index=np.arange(len(wine)) + 1000)
    model = DeepMatrixCompletion(add_indicator=True).set_output(transform="pandas")
    completed = model.fit_transform(frame)
    assert list(completed.columns) == names + [f"missingindicator_c{j}" for j in range(13)]
    assert (completed.index == frame.index).all()
    np.testing.assert_array_equal(completed["missingindicator_c3"], np.isnan(wine[:, 3]))
    assert model.predict([0, 1], ["c3", "c4"]) == pytest.approx(model.predict([0, 1], [3, 4]))
    with pytest.raises(InputError, match=r"no column 'c30'. Did you mean"):
        model.predict([0], ["c30"])


def test_empty_columns_are_dropped_or_kept_as_zeros(wine: np.ndarray) -> None:
    holed = wine.copy()
    holed[:, 2] = NAN
    dropped = DeepMatrixCompletion().fit(holed)
    assert dropped.transform(holed).shape == (178, 12)
    assert "x2" not in dropped.get_feature_names_out()
    kept = DeepMatrixCompletion(keep_empty_features=True).fit_transform(holed)
    np.testing.assert_array_equal(kept[:, 2], 0.0)
    np.testing.assert_allclose(np.delete(kept, 2, 1), dropped.transform(holed), rtol=1e-9)


def test_a_row_without_entries_gets_the_column_means(wine: np.ndarray) -> None:
    model = DeepMatrixCompletion().fit(wine)
    completed = model.transform(np.full((2, 13), NAN))
    assert (np.abs(completed - np.nanmean(wine, 0)) < np.nanstd(wine, 0)).all()


def test_clip(wine: np.ndarray) -> None:
    observed = DeepMatrixCompletion(clip="observed").fit_transform(wine)
    assert (observed >= np.nanmin(wine, 0)).all() and (observed <= np.nanmax(wine, 0)).all()
    bounded = DeepMatrixCompletion(clip=(0, 5)).fit_transform(wine)
    assert bounded[np.isnan(wine)].max() == 5.0


def test_nothing_missing_is_returned_as_it_is() -> None:
    data = load_wine().data
    np.testing.assert_array_equal(DeepMatrixCompletion().fit_transform(data), data)


def test_a_constant_matrix_is_completed_with_the_constant() -> None:
    matrix = np.full((20, 6), 3.0)
    matrix[4, 2] = NAN
    completed = DeepMatrixCompletion().fit_transform(matrix)
    np.testing.assert_allclose(completed, 3.0, rtol=1e-9)


def test_text_ids_and_ids_that_training_has_not_seen() -> None:
    generator = np.random.default_rng(3)
    left, right = generator.normal(size=(50, 2)), generator.normal(size=(20, 2))
    rows, cols = np.nonzero(generator.random((50, 20)) < 0.7)
    values = (left @ right.T)[rows, cols]
    users, items = np.array([f"u{i:02}" for i in range(50)]), np.array([f"item {j:02}" for j in range(20)])
    model = DeepMatrixCompletion().fit((users[rows], items[cols], values))
    assert model.column_ids_.tolist() == items.tolist()
    by_index = DeepMatrixCompletion().fit((rows, cols, values))
    np.testing.assert_array_equal(model.predict(["u07"], ["item 03"]), by_index.predict([7], [3]))
    with pytest.warns(CompletionWarning, match="2 of 3 pairs have an id that training has not seen"):
        pairs = ["u07", "nobody", "u07"], ["item 03", "item 03", "nothing"]
        predicted, deviations = model.predict(*pairs, return_std=True)
    biases, scale = model._completed.biases, model._completed.scale
    assert predicted[1] == pytest.approx((biases.mean + biases.cols[3]) * scale[3])
    assert predicted[2] == pytest.approx((biases.mean + biases.rows[7]) * np.median(scale))
    assert (deviations[1:] > deviations[0]).all()
    with pytest.raises(InputError, match="Column 'nothing' was not among the training columns"):
        model.transform((["v1"], ["nothing"], [1.0]))
    assert model.transform((["v1"], ["item 03"], [1.0])).shape == (1, 20)


def test_deviations_cover_new_observations() -> None:
    generator = np.random.default_rng(4)
    matrix = generator.normal(size=(300, 3)) @ generator.normal(size=(3, 30)) + generator.normal(size=(300, 30))
    missing = generator.random(matrix.shape) < 0.3
    model = DeepMatrixCompletion().fit(np.where(missing, NAN, matrix))
    rows, cols = np.nonzero(missing)
    values, deviations = model.predict(rows, cols, return_std=True)
    covered = np.abs(values - matrix[missing]) <= 1.6449 * deviations
    assert 0.88 <= covered.mean() <= 0.92


def test_score_is_r2_of_what_was_not_used(wine: np.ndarray) -> None:
    model = DeepMatrixCompletion().fit(wine)
    rows, cols = np.nonzero(np.isnan(wine))
    truth = load_wine().data[rows, cols]
    scale, mean = np.nanstd(wine, 0)[cols], np.nanmean(wine, 0)[cols]
    expected = 1 - np.sum(((truth - model.predict(rows, cols)) / scale) ** 2) / np.sum(((truth - mean) / scale) ** 2)
    assert model.score((rows, cols, truth)) == pytest.approx(expected, rel=1e-9)
    assert 0 < model.score(wine) < 1


def test_in_a_pipeline_and_a_grid_search(wine: np.ndarray) -> None:
    target = load_wine().target
    pipeline = make_pipeline(DeepMatrixCompletion(), StandardScaler(), LogisticRegression())
    assert cross_val_score(pipeline, wine, target, cv=3).mean() > 0.85
    search = GridSearchCV(DeepMatrixCompletion(solver="table"), {"max_rank": [1, 8]}, cv=3).fit(wine)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_ == {"max_rank": 8}


def test_survives_pickling(wine: np.ndarray) -> None:
    model = DeepMatrixCompletion().fit(wine)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(wine), model.transform(wine))


def test_warm_start_takes_fewer_sweeps(wine: np.ndarray) -> None:
    model = DeepMatrixCompletion(solver="table", warm_start=True, max_iter=200).fit(wine)
    first, sweeps = model.transform(wine), model.n_iter_
    again = model.fit(wine).transform(wine)
    # trees and weights answer to small changes of the factor model
    assert np.sqrt(np.mean(((again - first) / np.nanstd(wine, 0))[np.isnan(wine)] ** 2)) < 0.1
    assert model.converged_
    assert model.n_iter_ < sweeps


def test_warm_start_of_als() -> None:
    model = DeepMatrixCompletion(solver="als", warm_start=True).fit(with_offsets())
    first, sweeps, checked = model.transform(with_offsets()), model.n_iter_, model.held_out_entries_[1]
    again = model.fit(with_offsets()).transform(with_offsets())
    np.testing.assert_allclose(again, first, rtol=0.01)
    assert model.n_iter_ < sweeps
    np.testing.assert_array_equal(model.held_out_entries_[1], checked)


@pytest.mark.parametrize(
    ("solver", "changed"),
    [
        ("table", {"rank": 4}), ("table", {"max_rank": 5}), ("table", {"solver": "als"}), ("table", {"biases": True}),
        ("als", {"rank": 4}), ("als", {"solver": "table"}), ("als", {"solver": "exact"}), ("als", {"biases": True}),
        ("exact", {"solver": "als"}),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_warm_start_of_another_model_begins_anew(wine: np.ndarray, solver: str, changed: dict) -> None:
    model = DeepMatrixCompletion(solver=solver, rank=2, warm_start=True).fit(wine)
    warm = model.set_params(**changed).fit(wine)
    cold = DeepMatrixCompletion(**warm.get_params()).fit(wine)
    assert warm.n_iter_ == cold.n_iter_
    np.testing.assert_array_equal(warm.transform(wine), cold.transform(wine))


def with_offsets() -> np.ndarray:
    """Columns about 0, 10, 20, ... of unit deviation, a fifth of the cells missing."""
    generator = np.random.default_rng(8)
    matrix = generator.normal(size=(80, 2)) @ generator.normal(size=(2, 12)) / np.sqrt(2) + 10.0 * np.arange(12)
    return np.where(generator.random(matrix.shape) < 0.2, NAN, matrix + 0.1 * generator.normal(size=matrix.shape))


@pytest.mark.parametrize("arguments", [{"solver": "table"}, {"solver": "als", "biases": True}], ids=str)
def test_entries_of_a_column_that_was_empty_at_fit_change_nothing(arguments: dict) -> None:
    matrix = with_offsets()
    matrix[:, 2] = NAN
    model = DeepMatrixCompletion(**arguments, keep_empty_features=True).fit(matrix)
    expected, score = model.transform(matrix), model.score(matrix)
    matrix[:, 2] = 1e3
    completed = model.transform(matrix)
    np.testing.assert_array_equal(np.delete(completed, 2, 1), np.delete(expected, 2, 1))
    np.testing.assert_array_equal(completed[:, 2], 1e3)
    assert model.score(matrix) == score


@pytest.mark.parametrize("solver", ["table", "als"])
def test_clip_to_what_was_observed_is_by_column(solver: str) -> None:
    matrix = with_offsets()
    completed = DeepMatrixCompletion(solver=solver, clip="observed").fit_transform(matrix)
    assert (completed >= np.nanmin(matrix, 0)).all() and (completed <= np.nanmax(matrix, 0)).all()


@pytest.mark.parametrize("solver", ["exact", "gd", "ratings-quick"])
@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_clip_to_what_was_observed_is_of_all_entries_where_columns_share_a_scale(solver: str) -> None:
    model = DeepMatrixCompletion(solver=solver, clip="observed", rank=1).fit(with_offsets())
    low, high = model._bounds
    assert (low == np.nanmin(with_offsets())).all() and (high == np.nanmax(with_offsets())).all()


@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_a_column_that_training_has_not_seen_has_the_bounds_scale_and_mean_of_all() -> None:
    matrix = with_offsets()
    rows, cols = np.nonzero(~np.isnan(matrix))
    values = matrix[rows, cols]
    model = DeepMatrixCompletion(solver="table", clip="observed").fit(
        (np.char.mod("r%02d", rows), np.char.mod("c%02d", cols), values)
    )
    predicted = model.predict(["r00"], ["new"])
    assert np.nanmin(matrix) <= predicted[0] < np.nanmin(matrix[:, 11])
    scale = np.median(model._completed.scale)
    errors = np.array([50.0 - predicted[0], 60.0 - model.predict(["r01"], ["new"])[0]]) / scale
    spread = (np.array([50.0, 60.0]) - values.mean()) / scale
    score = model.score((["r00", "r01"], ["new", "new"], [50.0, 60.0]))
    assert score == pytest.approx(1 - np.sum(errors**2) / np.sum(spread**2))


def test_entries_with_another_number_of_columns(wine: np.ndarray) -> None:
    model = DeepMatrixCompletion().fit(wine)
    with pytest.raises(InputError, match="14 columns, but the model was fitted to 13"):
        model.transform(Entries.from_triplets([0], [0], [1.0], (1, 14)))


def test_triplets_have_no_feature_names(wine: np.ndarray) -> None:
    model = DeepMatrixCompletion().fit(pd.DataFrame(wine).add_prefix("c"))
    model.fit(Entries.from_dense(wine))
    assert not hasattr(model, "feature_names_in_")
    assert model.get_feature_names_out()[0] == "x0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 13}, "rank=13 must be below the smaller side"),
        ({"rank": 0}, "`rank` must be at least 1"),
        ({"rank": "many"}, "`rank` takes a whole number or 'auto', not 'many'"),
        ({"depth": 1}, "`depth` must be at least 2"),
        ({"solver": "tables"}, "no solver 'tables'. Did you mean table"),
        ({"clip": (2, 1)}, "low <= high"),
        ({"clip": "seen"}, "'observed'"),
        ({"clip": 5}, "`clip` takes a list .each a number. or 'observed', not 5"),
        ({"clip": (1, 2, 3)}, "`clip` takes a list"),
        ({"clip": (NAN, 2)}, "low <= high"),
        ({"tol": "x"}, "`tol` takes a number, not 'x'"),
        ({"tol": -1}, "`tol` must be at least 0"),
        ({"tol": NAN}, "`tol` must be at least 0"),
        ({"scale": "no"}, "`scale` takes True or False, not 'no'"),
        ({"biases": "some"}, "`biases` takes True or False or 'auto'"),
        ({"random_state": [1, "a"]}, "`random_state`"),
    ],
)
def test_bad_arguments_are_said_before_the_fit(
    wine: np.ndarray, monkeypatch: pytest.MonkeyPatch, arguments: dict, message: str
) -> None:
    monkeypatch.setattr("lowdim.completion._estimator.complete", lambda *_, **__: pytest.fail("fitted"))
    with pytest.raises(UsageError, match=message):
        DeepMatrixCompletion(**arguments).fit(wine)


def test_bad_entries() -> None:
    with pytest.raises(InputError, match="All 6 entries are missing"):
        DeepMatrixCompletion().fit(np.full((3, 2), NAN))
    with pytest.raises(ValueError, match="infinity"):
        DeepMatrixCompletion().fit(np.array([[1.0, np.inf], [2.0, 3.0]]))
    with pytest.raises(InputError, match="Each position may be observed once"):
        DeepMatrixCompletion().fit(([0, 0], [1, 1], [1.0, 2.0]))
    with pytest.raises(InputError, match="outside"):
        DeepMatrixCompletion().fit(([0, -1], [1, 1], [1.0, 2.0]))
    with pytest.raises(
        InputError, match="No column can be completed: 'size' \\(constant\\), 'city' \\(id: all different\\)"
    ):
        DeepMatrixCompletion().fit(pd.DataFrame({"size": [1.0, NAN], "city": ["A", "B"]}))
    with pytest.raises(InputError, match="must be integers from 0 or text"):
        DeepMatrixCompletion().fit(([0.5, 1.0], [0, 1], [1.0, 2.0]))


def test_a_pair_outside_the_matrix(wine: np.ndarray) -> None:
    model = DeepMatrixCompletion().fit(wine)
    with pytest.raises(InputError, match=r"Row 178 is outside 0\.\.177"):
        model.predict([178], [0])
    with pytest.raises(InputError, match="2 rows for 1 columns"):
        model.predict([1, 2], [0])


def test_says_before_when_memory_would_not_suffice(wine: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    model = DeepMatrixCompletion().fit(wine)
    monkeypatch.setattr("lowdim._memory.available_bytes", lambda: 1000)
    with pytest.raises(ResourceError, match=r"The filled matrix needs .* GiB"):
        model.transform(wine)


def test_importing_needs_no_torch() -> None:
    code = "import sys, lowdim.completion; lowdim.completion.DeepMatrixCompletion; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def known_users() -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], pd.DataFrame, np.ndarray]:
    """Ratings by the first 100 of 150 users, a table of all users that decides what they like, and the expected ratings."""
    generator = np.random.default_rng(0)
    traits = generator.normal(size=(150, 3))
    tastes = traits @ generator.normal(size=(3, 2)) * 0.5
    expected = 3.5 + tastes @ (0.8 * generator.normal(size=(2, 60))) + 0.3 * generator.normal(size=60)
    rows, cols = np.nonzero(generator.random((100, 60)) < 0.3)
    values = np.clip(np.round(expected[rows, cols] + 0.5 * generator.normal(size=rows.size)), 1, 5)
    names = np.array([f"u{row:03d}" for row in range(150)])
    table = pd.DataFrame({"user": names, "age": traits[:, 0], "height": traits[:, 1], "tall": traits[:, 2] > 0})
    table.loc[3, "age"] = np.nan
    return (names[rows], np.array([f"i{col:02d}" for col in range(60)])[cols], values), table, expected


def test_new_users_get_more_than_means_from_what_is_known_of_them() -> None:
    ratings, table, expected = known_users()
    model = DeepMatrixCompletion().fit(ratings, user_table=table)
    assert (model.solver_, model.shape_) == ("ratings", (150, 60))
    users = np.repeat(table["user"].to_numpy()[100:], 60)
    items = np.tile(np.unique(ratings[1]), 50)
    predicted = model.predict(users, items).reshape(50, 60)
    own_means = expected[100:].mean(1, keepdims=True)
    assert np.sqrt(np.mean((predicted - expected[100:]) ** 2)) < 0.7 * np.sqrt(
        np.mean((own_means - expected[100:]) ** 2)
    )


def test_units_of_what_is_known_of_users_do_not_matter() -> None:
    ratings, table, _ = known_users()
    model = DeepMatrixCompletion(solver="ratings-quick").fit(ratings, user_table=table)
    large = DeepMatrixCompletion(solver="ratings-quick").fit(
        ratings, user_table=table.assign(age=table["age"] * 2.0**1020, height=table["height"] * 2.0**-1000)
    )
    np.testing.assert_array_equal(
        large.predict(*np.array([["u120", "u130"], ["i03", "i04"]])),
        model.predict(*np.array([["u120", "u130"], ["i03", "i04"]])),
    )


def test_new_items_by_their_index() -> None:
    (users, items, values), table, expected = known_users()
    rows, cols = np.unique(users, return_inverse=True)[1], np.unique(items, return_inverse=True)[1]
    numbered = table.assign(user=np.arange(150))
    model = DeepMatrixCompletion(solver="ratings-quick").fit((cols, rows, values), item_table=numbered)
    assert model.shape_ == (60, 150)
    completed = model.transform((cols, rows, values))
    error = np.sqrt(np.mean((completed[:, 100:] - expected[100:].T) ** 2))
    assert error < 0.8 * np.std(expected[100:] - expected[100:].mean(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table[["user"]], "no column beside the ids"),
        (lambda table: pd.concat([table, table[:1]]), "'u000' twice"),
        (lambda table: table.assign(user=None), "empty id in row 1"),
        (lambda table: table.to_numpy(), "must be a pandas or polars frame"),
    ],
)
def test_tables_that_cannot_be_used(change, message: str) -> None:
    ratings, table, _ = known_users()
    with pytest.raises(InputError, match=message):
        DeepMatrixCompletion().fit(ratings, user_table=change(table))


def test_tables_are_for_triplets_and_their_solvers() -> None:
    ratings, table, _ = known_users()
    with pytest.raises(UsageError, match="are read by ratings and ratings-quick, not by 'als'"):
        DeepMatrixCompletion(solver="als").fit(ratings, user_table=table)
    with pytest.raises(UsageError, match="for triplets"):
        DeepMatrixCompletion().fit(pd.DataFrame({"a": [1.0, np.nan], "b": [2.0, 3.0]}), user_table=table)


def test_a_frame_with_dates_is_filled_along_them() -> None:
    generator = np.random.default_rng(0)
    wave = np.sin(np.arange(200) / 9)
    frame = pd.DataFrame(
        {
            "day": pd.date_range("2024-01-01", periods=200),
            "a": wave + 0.05 * generator.normal(size=200),
            "b": generator.normal(size=200),
        }
    )
    dark = np.r_[24:32, 52:60, 109:117]
    holed = frame.copy()
    holed.loc[dark, "a"] = np.nan
    model = DeepMatrixCompletion().fit(holed)
    filled = model.transform(holed)
    assert "neighbours in time" in model.reason_
    assert np.sqrt(np.mean((filled["a"] - frame["a"])[dark] ** 2)) < 0.3 * frame["a"].std()
    with pytest.raises(UsageError, match="name columns of a pandas or polars frame"):
        DeepMatrixCompletion(time="day").fit(holed[["a", "b"]].to_numpy())


@pytest.mark.parametrize("clip", [(2, 1), (np.nan, 1), (np.inf, np.inf), (-np.inf, -np.inf)])
def test_bounds_between_which_no_number_lies(wine: np.ndarray, clip: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="with a number between them"):
        DeepMatrixCompletion(clip=clip).fit(wine)

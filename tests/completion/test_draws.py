"""Several completed tables, and what they say together."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from lowdim.completion import DeepMatrixCompletion, pool
from lowdim.errors import InputError, UsageError


def test_rubins_rules() -> None:
    pooled = pool([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]], [[0.5, 0.2]] * 3)
    np.testing.assert_allclose(pooled.estimate, [2, 5])
    np.testing.assert_allclose(pooled.deviation**2, [0.5 + 4 / 3, 0.2])
    share = (4 / 3) / (0.5 + 4 / 3)
    np.testing.assert_allclose(pooled.missing_information, [share, 0])
    np.testing.assert_allclose(pooled.degrees, [2 / share**2, np.inf])
    np.testing.assert_allclose(pooled.high[0], 2 + student.ppf(0.975, 2 / share**2) * pooled.deviation[0])
    np.testing.assert_allclose(pooled.high + pooled.low, 2 * pooled.estimate)
    few = pool([1.0, 2.0, 3.0], [0.5] * 3, degrees=10)
    np.testing.assert_allclose(1 / few.degrees, share**2 / 2 + 1 / (11 / 13 * 10 * (1 - share)))
    with pytest.raises(InputError, match="m >= 2"):
        pool([1.0], [0.5])


@pytest.fixture(scope="module")
def correlated() -> tuple[np.ndarray, np.ndarray, DeepMatrixCompletion]:
    """A table whose first two columns have the correlation 0.69; with holes; and the model of it."""
    generator = np.random.default_rng(0)
    common = generator.normal(size=(400, 1))
    data = common * [1.5, 1.5, -1.5, 1.5] + generator.normal(size=(400, 4))  # no level that a row shares
    holed = np.where(generator.random(data.shape) < 0.4, np.nan, data)
    holed[:, 3] = data[:, 3]
    return data, holed, DeepMatrixCompletion(solver="table").fit(holed)


def test_draws_keep_what_is_known_and_the_spread_of_what_is_not(correlated) -> None:
    data, holed, model = correlated
    drawn = model.sample(holed, 6)
    known = ~np.isnan(holed)
    for table in drawn:
        np.testing.assert_array_equal(table[known], holed[known])
    assert not np.array_equal(drawn[0], drawn[1])
    of_draws = np.mean([np.cov(table.T) for table in drawn], axis=0)
    truth, one = np.cov(data.T), np.cov(model.transform(holed).T)
    np.testing.assert_allclose(of_draws, truth, atol=0.4)  # of variances of 3.25
    assert np.abs(np.diag(of_draws) - np.diag(truth))[:3].max() < np.abs(np.diag(one) - np.diag(truth))[:3].min()
    np.testing.assert_array_equal(model.sample(holed, 2)[1], drawn[1])
    assert not np.array_equal(model.sample(holed, 1, random_state=1)[0], drawn[0])


def test_deviations_of_draws_are_those_of_the_cells(correlated) -> None:
    _, holed, model = correlated
    drawn = np.stack(model.sample(holed, 40))
    holes = np.isnan(holed)
    said = model.transform(holed, return_std=True)[1][holes]
    ratio = drawn.std(0)[holes].mean() / said.mean()
    assert 0.85 < ratio < 1.15


def test_frames_are_drawn_in_their_types() -> None:
    generator = np.random.default_rng(1)
    size = generator.normal(size=300)
    frame = pd.DataFrame(
        {
            "size": size,
            "kind": pd.Categorical(np.where(size + generator.normal(size=300) > 0, "big", "small")),
            "n": np.arange(300) % 7,
        }
    )
    frame.loc[generator.random(300) < 0.3, "kind"] = np.nan
    model = DeepMatrixCompletion(solver="table").fit(frame)
    first, second = model.sample(frame, 2)
    assert first.dtypes.tolist() == frame.dtypes.tolist() and not first.isna().any().any()
    gone = frame["kind"].isna()
    assert (first["kind"] != second["kind"])[gone].any()  # drawn by their probabilities
    agree = (first["kind"] == np.where(size > 0, "big", "small"))[gone].mean()
    assert 0.55 < agree < 0.95


def test_other_solvers_have_no_draws() -> None:
    generator = np.random.default_rng(2)
    matrix = generator.normal(size=(60, 2)) @ generator.normal(size=(2, 40))
    holed = np.where(generator.random(matrix.shape) < 0.4, np.nan, matrix)
    with pytest.raises(UsageError, match="solver='table'"):
        DeepMatrixCompletion(solver="als", rank=2).fit(holed).sample(holed)


@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_draws_keep_weak_relations() -> None:
    generator = np.random.default_rng(4)
    data = generator.normal(size=(150, 4))
    data[:, 3] += 0.3 * data[:, 0]
    holed = data.copy()
    holed[:75, 3] = np.nan
    known = np.corrcoef(data[75:, 0], data[75:, 3])[0, 1]
    model = DeepMatrixCompletion(solver="table-quick").fit(holed)
    drawn = np.mean([np.corrcoef(table[:75, 0], table[:75, 3])[0, 1] for table in model.sample(holed, 30)])
    assert drawn == pytest.approx(known, abs=0.07)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lowdim.errors import InputError, NonFiniteError
from lowdim.ranking._agreement import agreement, kendall, ranks, spearman, weighted_kendall

pairs = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=3, max_size=15)


@given(pairs)
def test_equal_to_scipy_also_with_ties(values: list[tuple[int, int]]) -> None:
    x, y = np.array(values, dtype=float).T
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return
    np.testing.assert_allclose(ranks(x) + 1, stats.rankdata(x))
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)


@given(st.permutations(range(8)), st.permutations(range(8)))
def test_weighted_tau_equals_scipys_with_the_references_ranks(first: list[int], second: list[int]) -> None:
    x, y = np.array(first, dtype=float), np.array(second, dtype=float)
    expected = stats.weightedtau(x, y, rank=(7 - y).astype(int)).statistic
    assert weighted_kendall(x, y) == pytest.approx(expected, abs=1e-12)
    assert weighted_kendall(-x, y) == pytest.approx(-expected, abs=1e-12)


def test_weighted_tau_cares_about_the_best() -> None:
    reference = np.arange(8.0)
    best_wrong, worst_wrong = reference.copy(), reference.copy()
    best_wrong[[6, 7]] = best_wrong[[7, 6]]
    worst_wrong[[0, 1]] = worst_wrong[[1, 0]]
    assert kendall(best_wrong, reference) == kendall(worst_wrong, reference)
    assert weighted_kendall(best_wrong, reference) < weighted_kendall(worst_wrong, reference)


def test_groups_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(8, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    values = np.repeat(centres, 5, axis=0) + 0.01 * rng.normal(size=(40, 2))
    names = [str(index // 5) for index in range(40)]
    alone, together = agreement(values[:, 0], values[:, 1]), agreement(values[:, 0], values[:, 1], groups=names)
    assert alone is not None
    assert together is not None
    assert alone.interval is not None
    assert together.interval is not None
    assert (alone.groups, together.groups) == (40, 8)
    assert np.ptp(together.interval) > 1.5 * np.ptp(alone.interval)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_interval_is_that_of_resampled_groups(grouped: bool) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 5, 17).astype(float), rng.integers(0, 5, 17).astype(float)
    names = [str(index // 2 if grouped else index) for index in range(17)]
    members = [np.flatnonzero(np.array(names) == name) for name in dict.fromkeys(names)]
    draws, values = np.random.default_rng(7), list[float]()
    for _ in range(2000):
        chosen = np.concatenate([members[group] for group in draws.integers(0, len(members), len(members))])
        if np.ptp(x[chosen]) > 0 and np.ptp(y[chosen]) > 0:
            values.append(stats.spearmanr(x[chosen], y[chosen]).statistic)
    found = agreement(x, y, groups=names, seed=7)
    assert found is not None
    assert found.interval == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])), abs=1e-12)


def test_few_models_and_constant_scores_have_no_agreement() -> None:
    assert agreement([1, 2], [1, 2]) is None
    assert agreement([1, 1, 1], [1, 2, 3]) is None
    for models, groups in ((3, None), (7, None), (9, [*"aabcdefgg"])):
        result = agreement(range(models), range(models), groups=groups)
        assert result is not None and result.spearman == pytest.approx(1)
        assert result.interval is None
    assert (result := agreement(range(8), range(8))) is not None and result.interval is not None


def test_values_that_cannot_be_ordered_are_refused() -> None:
    with pytest.raises(NonFiniteError):
        agreement([1.0, np.nan, 2.0], [1, 2, 3])
    with pytest.raises(InputError, match="There are"):
        agreement([1.0, 2.0, 3.0], [1, 2])

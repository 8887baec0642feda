import numpy as np
import pytest

from lowdim._intervals import deviations, independent, together

COPIES = np.repeat(np.arange(9), [6, 4, 3, 2, 1, 1, 1, 1, 1])


def test_copies_make_a_mean_vary_as_what_is_said_of_them() -> None:
    """Numbers of which some are there up to six times: the variance of their mean over many draws, and what each draw says of it."""
    drawn = np.random.default_rng(0).standard_normal((5_000, 9))[:, COPIES]
    variance = drawn.mean(axis=1).var()
    assert 1 / independent(COPIES) == pytest.approx(variance, rel=0.06)
    said = [np.sum(together(deviations(row, COPIES), COPIES) ** 2) / len(COPIES) ** 2 for row in drawn]
    assert np.mean(said) == pytest.approx(variance, rel=0.06)  # of 5,000 draws, three standard errors


def test_without_copies_nothing_is_another() -> None:
    values = np.random.default_rng(1).standard_normal(7)
    assert independent(np.arange(7)) == 7
    assert independent([]) == 0
    np.testing.assert_array_equal(together(values, np.arange(7)), values)
    assert np.mean(deviations(values, np.arange(7)) ** 2) == pytest.approx(values.var(ddof=1))


def test_copies_of_one_say_nothing() -> None:
    assert independent([3, 3, 3]) == 1
    np.testing.assert_array_equal(deviations(np.array([0.1, 0.1, 0.1]), np.zeros(3)), np.zeros(3))

"""Which scale the noise calls for."""

import numpy as np
import pytest

from lowdim.completion import DeepMatrixCompletion
from lowdim.completion.solvers._solver import HeldOut


@pytest.mark.parametrize(("power", "uniform"), [(0.0, True), (0.3, True), (0.7, False), (1.0, False)])
def test_noise_that_grows_with_the_column_or_not(power: float, uniform: bool) -> None:
    generator = np.random.default_rng(0)
    scale = np.exp(0.4 * generator.normal(size=50))
    cols = generator.integers(0, 50, 5_000)
    errors = 0.1 * scale[cols] ** (power - 1) * generator.normal(size=5_000)
    assert HeldOut(cols, errors, 0 * errors, 0 * errors + 1).is_uniform(scale) is uniform


def test_without_noise_or_spread_there_is_no_verdict() -> None:
    errors, cols = np.full(100, 1e-6), np.arange(100) % 10
    assert not HeldOut(cols, errors, 0 * errors, errors).is_uniform(np.arange(1.0, 11.0))
    assert not HeldOut(cols, errors + 1, 0 * errors, errors).is_uniform(np.ones(10))


@pytest.mark.filterwarnings("ignore:This matrix is not low-rank")  # by the wrong scale
@pytest.mark.parametrize("units", [False, True])
def test_each_kind_of_noise_gets_the_scale_that_suits_it(units: bool) -> None:
    generator = np.random.default_rng(1)
    left, right = (generator.normal(size=(side, 3)) for side in (300, 200))
    right *= np.exp(0.5 * generator.normal(size=(200, 1)))
    matrix = left @ right.T
    scale = np.exp(3 * generator.normal(size=200)) if units else np.ones(200)
    noise = 0.02 * (matrix.std(0) if units else 1.0) * generator.normal(size=matrix.shape)
    observed = generator.random(matrix.shape) < 0.2
    holed = np.where(observed, (matrix + noise) * scale, np.nan)
    in_deviations = matrix.std(0) if units else 1.0

    def error(model: DeepMatrixCompletion, units_inside: np.ndarray | float) -> float:
        difference = model.fit_transform(holed / units_inside) * units_inside / scale - matrix
        return float(np.sqrt(np.mean((difference / in_deviations)[~observed] ** 2)))

    options = {"solver": "als", "rank": 3, "biases": False}
    chosen = error(DeepMatrixCompletion(**options), 1.0)
    right_scale = scale * matrix.std(0) if units else 1.0
    best = error(DeepMatrixCompletion(**options, scale=False), right_scale)
    wrong_scale = 1.0 if units else matrix.std(0)
    worst = error(DeepMatrixCompletion(**options, scale=False), wrong_scale)
    assert chosen < 1.02 * best < 1.1 * best < worst

"""What no solver may stumble over: a single row or column, zeros, constants, columns without entries."""

import numpy as np
import pandas as pd
import pytest

from lowdim.completion import DeepMatrixCompletion
from lowdim.completion.entries import Entries
from lowdim.completion.solvers import SOLVERS
from lowdim.completion.solvers._completions import fit_biases
from lowdim.errors import InputError, UsageError

NAN = float("nan")
pytestmark = pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def holed(matrix: np.ndarray) -> np.ndarray:
    """Every seventh cell missing, never the only one of a row or column."""
    matrix = matrix.copy()
    if min(matrix.shape) > 1:
        matrix.flat[3::7] = NAN
    else:
        matrix.flat[0] = NAN
    return matrix


def constant_column_and_empty_row() -> np.ndarray:
    matrix = np.zeros((8, 6))
    matrix[:, 2] = 3.0
    matrix[4] = NAN
    return matrix


MATRICES = {
    "one row": normal(1, 300),
    "one column": normal(300, 1),
    "one column with a hole": holed(normal(30, 1)),
    "one cell": np.array([[2.0]]),
    "zeros": np.zeros((50, 40)),
    "zeros with holes": holed(np.zeros((50, 40))),
    "constant": np.full((30, 20), 3.0),
    "constant with holes": holed(np.full((30, 20), 3.0)),
    "a constant column and an empty row": constant_column_and_empty_row(),
    "two rows, two columns": normal(2, 2),
}


ASKED = [("auto", "auto"), ("auto", True), ("als", True)]  # the others do the same whatever is asked for
ASKED += [(name, "auto") for name in SOLVERS if name != "inpaint"]  # see test_inpaint


@pytest.mark.parametrize(("solver", "biases"), ASKED)
@pytest.mark.parametrize("name", MATRICES)
def test_every_solver_answers_with_finite_numbers(name: str, solver: str, biases: object) -> None:
    matrix = MATRICES[name]
    model = DeepMatrixCompletion(solver=solver, biases=biases)
    if solver == "gd" and not np.nan_to_num(matrix).any():
        with pytest.raises(UsageError, match="All observed entries are 0"):
            model.fit(matrix)
        return
    completed = model.fit_transform(matrix)
    observed = ~np.isnan(matrix)
    np.testing.assert_array_equal(completed[observed], matrix[observed])
    assert np.isfinite(completed).all()
    rows, cols = np.indices(matrix.shape).reshape(2, -1)
    values, deviations = model.predict(rows, cols, return_std=True)
    assert np.isfinite(values).all() and np.isfinite(deviations).all()
    if "zeros" in name:
        np.testing.assert_allclose(completed, 0.0, atol=1e-3)
    if "constant w" in name:
        np.testing.assert_allclose(completed, 3.0, rtol=1e-2)


def test_biases_of_rows_and_columns_without_entries_are_zero() -> None:
    matrix = np.full((4, 3), 2.0)
    matrix[1], matrix[:, 2] = NAN, NAN
    biases = fit_biases(Entries.from_dense(matrix))
    np.testing.assert_array_equal(biases.rows, 0.0)
    np.testing.assert_array_equal(biases.cols, 0.0)
    np.testing.assert_array_equal(biases.complete(Entries.from_dense(matrix)), 2.0)


@pytest.mark.parametrize("exponent", [-1073, -1000, -400, 400, 1000, 1022])
def test_sizes_at_the_ends_of_the_numbers(exponent: int) -> None:
    """The values lie between -2 and 2; multiplied by a power of two, so are the answers."""
    matrix = holed(np.clip(np.round(normal(12, 4) * 4), -7, 7) / 4)
    plain = DeepMatrixCompletion().fit_transform(matrix)
    scaled = DeepMatrixCompletion().fit_transform(np.ldexp(matrix, exponent))
    np.testing.assert_allclose(scaled, np.ldexp(plain, exponent), rtol=1e-9, atol=5e-324)


@pytest.mark.parametrize("exponents", [(660, -660), (0, -1000), (1000, 0)])
def test_columns_of_sizes_far_apart(exponents: tuple[int, int]) -> None:
    matrix = holed(np.clip(np.round(normal(12, 4) * 4), -7, 7) / 4)
    sizes = np.array([*exponents, exponents[0], exponents[0]])
    plain, scaled = (DeepMatrixCompletion().fit_transform(one) for one in (matrix, np.ldexp(matrix, sizes)))
    np.testing.assert_allclose(scaled, np.ldexp(plain, sizes), rtol=1e-6)
    with pytest.raises(InputError, match="sizes so far apart"):
        DeepMatrixCompletion(scale=False).fit(np.ldexp(matrix, sizes))


def test_huge_values_beside_an_index_of_times() -> None:
    matrix = holed(np.cumsum(normal(12, 4), axis=0))
    frame = pd.DataFrame(matrix, index=pd.date_range("2024-01-01", periods=12))
    plain, scaled = (DeepMatrixCompletion().fit_transform(one) for one in (frame, frame * 2.0**1000))
    np.testing.assert_allclose(scaled, plain * 2.0**1000, rtol=1e-6)

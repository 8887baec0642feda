"""The neighbours' correction against its definition."""

import numpy as np
import pytest

from lowdim.completion.solvers.table import _neighbours
from lowdim.completion.solvers.table._neighbours import Neighbours


@pytest.fixture
def table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(60, 5))
    return values, generator.random((60, 5)) < 0.7, generator.normal(size=(60, 5))


def naive(values: np.ndarray, observed: np.ndarray, modelled: np.ndarray, query: np.ndarray) -> np.ndarray:
    completed = np.where(observed, values, modelled)
    distances = ((completed - query) ** 2).sum(1)
    nearest = np.argsort(distances)[:21]
    width = distances[nearest[4]]
    out = np.zeros(values.shape[1])
    for j in range(values.shape[1]):
        total = evidence = 0.0
        for i in nearest:
            weight = np.exp(-distances[i] / width)
            if observed[i, j]:
                total += weight * (values[i, j] - modelled[i, j])
                evidence += weight
        out[j] = total / (evidence + 0.3)
    return out


def test_correction_is_its_definition(table: tuple) -> None:
    values, observed, modelled = table
    correction = Neighbours.of(values, observed, modelled).correction(values, observed, modelled)
    for i in (0, 17, 59):
        expected = naive(values, observed, modelled, np.where(observed, values, modelled)[i])
        np.testing.assert_allclose(correction[i], expected, rtol=1e-7, atol=1e-9)


def test_blocks_of_queries_change_nothing(table: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    values, observed, modelled = table
    neighbours = Neighbours.of(values, observed, modelled)
    whole = neighbours.correction(values, observed, modelled)
    monkeypatch.setattr(_neighbours, "BLOCK_CELLS", 300)
    np.testing.assert_allclose(neighbours.correction(values, observed, modelled), whole, rtol=1e-10, atol=1e-12)


def test_a_row_alone_corrects_nothing_in_its_missing_cells() -> None:
    values, observed, modelled = np.array([[1.0, 0.0]]), np.array([[True, False]]), np.array([[3.0, 5.0]])
    correction = Neighbours.of(values, observed, modelled).correction(values, observed, modelled)
    np.testing.assert_allclose(correction, [[-2 / 1.3, 0.0]])


def test_fewer_rows_than_neighbours(table: tuple) -> None:
    values, observed, modelled = (part[:3] for part in table)
    correction = Neighbours.of(values, observed, modelled).correction(values, observed, modelled)
    assert np.isfinite(correction).all()

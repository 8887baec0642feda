"""From frames and triplets to entries: ids, nulls and number types."""

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lowdim.completion import CompletionWarning, DeepMatrixCompletion, Entries
from lowdim.errors import InputError

NAN = float("nan")


def rated() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triplets of a rank 2 matrix; user 7 is ``u07``, item 3 is ``i03``."""
    generator = np.random.default_rng(3)
    matrix = generator.normal(size=(50, 2)) @ generator.normal(size=(2, 20))
    rows, cols = np.nonzero(generator.random((50, 20)) < 0.7)
    return np.char.mod("u%02d", rows), np.char.mod("i%02d", cols), matrix[rows, cols]


def test_an_id_that_extends_a_known_one_is_another_id() -> None:
    model = DeepMatrixCompletion().fit(rated())
    with pytest.warns(CompletionWarning, match="2 of 3 pairs have an id that training has not seen"):
        known, longer, other = model.predict(["u07", "u0712345", "nobody"], ["i03"] * 3)
    assert longer == other != known
    with pytest.raises(InputError, match="Column 'i0399' was not among the training columns"):
        model.transform((["u07"], ["i0399"], [1.0]))


@pytest.mark.parametrize("null", [None, NAN, pd.NA, pd.NaT])
def test_a_null_id_is_refused(null: object) -> None:
    users, items, values = rated()
    holed = users.astype(object)
    holed[4] = null
    with pytest.raises(InputError, match="row id at position 4 is missing"):
        DeepMatrixCompletion().fit((holed, items, values))
    model = DeepMatrixCompletion().fit((users, items, values))
    with pytest.raises(InputError, match="column id at position 1 is missing"):
        model.predict(["u07", "u08"], np.array(["i03", null], object))


@pytest.mark.filterwarnings("ignore:This matrix is not low-rank")
def test_none_and_nan_as_text_are_ids_like_any_other() -> None:
    ids = np.array(["None", "nan", "x"], object)
    model = DeepMatrixCompletion(solver="table").fit((np.repeat(ids, 3), np.tile(ids, 3), np.arange(9.0)))
    assert model.row_ids_.tolist() == ["None", "nan", "x"]


def test_no_triplets_at_all() -> None:
    with pytest.raises(InputError, match="There is no observed entry"):
        DeepMatrixCompletion().fit(([], [], []))


def test_a_frame_of_objects_that_are_numbers() -> None:
    generator = np.random.default_rng(0)
    data = np.outer(generator.normal(size=60), [1.0, 2.0, -1.0, 0.5]) + 0.1 * generator.normal(size=(60, 4))
    frame = pd.DataFrame(data, columns=list("abcd"))
    expected = frame.mask(frame["a"] > 1)
    objects = expected.astype(object).where(expected.notna(), None)
    objects.iloc[0, 1] = pd.NA
    expected.iloc[0, 1] = NAN
    model = DeepMatrixCompletion(solver="table").fit(expected)
    np.testing.assert_array_equal(
        DeepMatrixCompletion(solver="table").fit(objects).transform(objects), model.transform(expected)
    )
    np.testing.assert_array_equal(model.transform(objects[:1]), model.transform(expected[:1]))


def test_a_number_that_no_float_holds() -> None:
    with pytest.raises(InputError, match="'a' holds a number beyond those of double precision"):
        DeepMatrixCompletion().fit(pd.DataFrame({"a": [10**400] * 3, "b": [1.0, NAN, 2.0]}))


def test_columns_of_one_name_and_nothing_but_text() -> None:
    with pytest.raises(InputError, match="more than one column 'a'"):
        DeepMatrixCompletion().fit(pd.DataFrame(np.ones((4, 2)), columns=["a", "a"]))
    with pytest.raises(InputError, match="No column can be completed: 'a' \\(text\\)"):
        DeepMatrixCompletion(only=[]).fit(pd.DataFrame({"a": ["x", "y"]}))


@pytest.mark.parametrize("dtype", [np.float16, ">f8", ">f4", np.longdouble])
def test_values_of_any_float_type(dtype: str) -> None:
    entries = Entries.from_triplets([0, 1], [1, 0], np.array([1.5, -2.0], dtype))
    assert entries.values.tolist() == [1.5, -2.0]
    assert Entries.from_dense(np.array([[1.5, NAN]], dtype)).values.dtype == np.float64


@pytest.mark.parametrize("kind", [float, int])
def test_what_is_masked_is_unknown(kind: type) -> None:
    matrix = np.round(10 * np.random.default_rng(0).normal(size=(30, 4)) @ np.ones((4, 12)))
    hidden = np.random.default_rng(1).random(matrix.shape) < 0.2
    masked = np.ma.masked_array(np.where(hidden, -999, matrix).astype(kind), hidden)
    model = DeepMatrixCompletion(solver="als", rank=1, max_iter=5)
    expected = model.fit_transform(np.where(hidden, NAN, matrix))
    np.testing.assert_array_equal(model.fit_transform(masked), expected)
    np.testing.assert_array_equal(model.transform(masked), expected)


def test_masked_triplets_are_unknown() -> None:
    rows, cols, values = rated()
    hidden = np.arange(len(values)) % 5 == 0
    wrong = np.ma.masked_array(np.where(hidden, -999, values), hidden)
    found, expected = (
        DeepMatrixCompletion(solver="als", rank=2).fit(one).predict(rows[:9], cols[:9])
        for one in ((rows, cols, wrong), (rows[~hidden], cols[~hidden], values[~hidden]))
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.filterwarnings("ignore:This matrix is not low-rank")
@pytest.mark.parametrize("named", ["customer_id", "Year", "count"])
def test_numbers_that_name_the_rows_of_a_frame_pass_through(named: str) -> None:
    generator = np.random.default_rng(0)
    data = np.outer(generator.normal(size=60), [1.0, 2.0, -1.0]) + 0.1 * generator.normal(size=(60, 3))
    frame = pd.DataFrame(data, columns=list("abc")).mask(generator.random((60, 3)) < 0.1)
    frame.insert(1, named, np.arange(1950, 2010))
    model = DeepMatrixCompletion(random_state=0)
    completed = model.fit_transform(frame)
    if named == "count":
        assert isinstance(completed, np.ndarray)
        return
    assert (
        isinstance(completed, pd.DataFrame)
        and completed.dtypes.equals(frame.dtypes)
        and not completed.isna().any(axis=None)
    )
    assert completed[named].equals(frame[named])
    if named == "Year":
        assert model._table is not None and model._table.time == "Year"
    else:
        assert model.column_kinds_["customer_id"] == "id"
        others = DeepMatrixCompletion(random_state=0).fit_transform(frame.drop(columns=named))
        np.testing.assert_allclose(completed[["a", "b", "c"]], others, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:This matrix is not low-rank")
@pytest.mark.parametrize(
    "cells", [[True, False, None, True], [Decimal("1.25"), Decimal("2.50"), None, Decimal("0.75")]]
)
def test_objects_that_are_no_plain_numbers_keep_their_type(cells: list[Any]) -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"a": generator.normal(size=40), "b": generator.normal(size=40), "c": cells * 10})
    completed = DeepMatrixCompletion(random_state=0).fit_transform(frame)
    assert isinstance(completed, pd.DataFrame) and completed["c"].notna().all()
    assert {type(cell) for cell in completed["c"]} == {type(cells[0])}
